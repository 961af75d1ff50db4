"""The only rooms that import torch: one module a job, each started by core.jobs."""
