"""The commands: one thin module per group, no logic."""
