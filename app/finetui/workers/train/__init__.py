"""The trainer: a folder that reads a bundle's lock and prepared rows, trains, and writes events; needs no finetui."""
