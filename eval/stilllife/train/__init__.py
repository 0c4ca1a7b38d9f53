"""Training of the Still Life networks, a module a part."""
