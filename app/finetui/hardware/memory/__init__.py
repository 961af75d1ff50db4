"""How much memory a training takes: the model's shape from its configuration, the job, and the peak they come to."""
