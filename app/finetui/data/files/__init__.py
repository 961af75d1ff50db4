"""What files are made of: bytes, encodings, containers and the rows in them, all told by content."""
