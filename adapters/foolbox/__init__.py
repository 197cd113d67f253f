"""Native Foolbox attacks and models."""
