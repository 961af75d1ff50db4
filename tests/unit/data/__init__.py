"""Data: containers, layouts, row problems, and what the commands answer."""
