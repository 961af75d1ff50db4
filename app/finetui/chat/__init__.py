"""Chat without a screen: who can answer, a conversation with one or two of them, and how it is kept."""
