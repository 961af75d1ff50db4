"""Two real steps of a training that is only planned: what they take of memory and time, or that they do not fit."""
