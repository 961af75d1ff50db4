"""finetui: from raw chat data to a merged, chat-tested model, in a terminal."""

__version__ = "0.1.0"
