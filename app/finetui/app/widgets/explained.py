"""Widgets whose help is more than a message: a field of the table of knobs, for one."""

from __future__ import annotations

from textual.widget import Widget


class Explained(Widget):
    """A widget that F1 asks for its own words."""

    def explain(self) -> str:
        """What it is for, in the language in force."""
        raise NotImplementedError
