"""The toolkits' faces: native Foolbox attacks, native ART attacks and defences, and the bridge."""
