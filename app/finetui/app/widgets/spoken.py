"""Widgets that say their words again when the language is switched."""

from __future__ import annotations

from textual.widget import Widget
from textual.widgets import Static

from finetui.core.messages import t


class Spoken(Widget):
    """A widget with words of its own."""

    def speak(self) -> None:
        """Put all words in the language in force; called when it is mounted, and at each switch."""
        raise NotImplementedError


class Words(Static, Spoken):
    """A text of the message table."""

    def __init__(self, code: str, *, id: str | None = None, classes: str | None = None, **facts: object) -> None:
        super().__init__(markup=False, id=id, classes=classes)
        self._code = code
        self._facts = facts

    def on_mount(self) -> None:
        """The first words."""
        self.speak()

    def say(self, code: str, **facts: object) -> None:
        """Say something else from now on."""
        self._code, self._facts = code, facts
        self.speak()

    def speak(self) -> None:
        """The text in the language in force."""
        self.update(t(self._code, **self._facts))
