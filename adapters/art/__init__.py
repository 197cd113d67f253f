"""Native ART attacks and defences, and the bridge between the toolkits."""
