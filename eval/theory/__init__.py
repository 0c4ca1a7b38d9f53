"""What the paper proves, measured."""
