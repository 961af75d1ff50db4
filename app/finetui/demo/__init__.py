"""The main job on what is built in: a small real model learns to be the assistant of a made-up company."""
