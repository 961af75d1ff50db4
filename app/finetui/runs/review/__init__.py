"""What a run's events come to: its curve, where its paid seconds went, what is odd about it, and the report of it."""
