"""Rows as one model sees them: lengths, trained tokens, languages, and what a cutoff would take."""
