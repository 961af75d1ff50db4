"""Which of the usable rows are taken, and what for: training, validation, test; seeded, and flat in memory."""
