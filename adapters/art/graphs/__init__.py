"""ART classifiers as differentiable functions, one module per framework."""
