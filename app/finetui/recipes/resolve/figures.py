"""Figures as people read them: those of `core.figures`."""

from finetui.core.figures import duration, gib, round_number, share

__all__ = ["duration", "gib", "round_number", "share"]
