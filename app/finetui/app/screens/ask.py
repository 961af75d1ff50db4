"""A question with a few answers, in a frame."""

from __future__ import annotations

from collections.abc import Sequence

from textual import on
from textual.app import ComposeResult
from textual.widgets import OptionList, Static

from finetui.app.screens.pane import Pane
from finetui.app.widgets.choices import Options


class Ask(Pane[str]):
    """The id of the answer that was chosen; None for Escape."""

    DEFAULT_CSS = """
    Ask Static { margin-bottom: 1; }
    Ask Options { height: auto; max-height: 16; background: $surface; }
    """

    def __init__(self, heading: str, text: str, answers: Sequence[tuple[str, str]]) -> None:
        """`answers` are ids and words, the first of them highlighted."""
        super().__init__()
        self._heading = heading
        self._text = text
        self._answers = answers

    def heading(self) -> str:
        """What the frame is called."""
        return self._heading

    def inside(self) -> ComposeResult:
        """The question and its answers."""
        if self._text:
            yield Static(self._text, markup=False)
        yield Options(self._answers, id="answers")

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_id)
