"""What can stand around any editor: reconstruction of the background, several samples, a ranking."""
