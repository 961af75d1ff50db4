"""One real training step on tensors without memory: what it would keep, and when it would keep the most."""
