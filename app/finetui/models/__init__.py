"""Base models: which they are, by content, and where they are found."""
