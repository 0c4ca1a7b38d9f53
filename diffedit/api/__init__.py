"""What a notebook calls: pictures in, pictures out. The contents page, `diffedit/__init__.py`, has the names."""
