"""This machine: what it has, and what kind of hardware that makes it."""
