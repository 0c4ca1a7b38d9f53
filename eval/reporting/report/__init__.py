"""A static page on runs, beside their pictures: opened from the file system, without a server or a network."""
