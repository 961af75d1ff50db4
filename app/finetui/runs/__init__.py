"""Runs: folders that anyone can look into, and processes that nobody loses by accident."""
