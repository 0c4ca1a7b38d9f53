"""Still Life: a rendered world in which every edit has an exact mask and a true edit."""
