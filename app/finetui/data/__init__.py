"""Datasets: containers, detection, conversion to the canonical record, and every problem of every row."""
