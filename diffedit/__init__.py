"""DiffEdit: the method and the machinery it needs."""
