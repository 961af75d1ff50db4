"""Real samples held against the records that they must become."""
