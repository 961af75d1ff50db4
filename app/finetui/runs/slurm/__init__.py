"""Runs as jobs of a Slurm cluster: the script, the submission, and what became of it."""
