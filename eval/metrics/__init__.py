"""What is measured, a family of metrics a file."""
