"""The ground floor: errors, messages, text, files, knobs, the encoder, events and the way to workers."""
