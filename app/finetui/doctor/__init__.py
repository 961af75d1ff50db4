"""What is missing on this machine for what a person wants to do, and the command that mends it."""
