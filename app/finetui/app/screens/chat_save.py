"""Where a conversation is saved to."""

from __future__ import annotations

from pathlib import Path

from textual import on
from textual.app import ComposeResult
from textual.widgets import Input, Static

from finetui.app.screens.pane import Pane
from finetui.app.widgets.line import Line
from finetui.core.messages import t


class Save(Pane[Path]):
    """The file; None for Escape."""

    def __init__(self, suggested: Path) -> None:
        super().__init__()
        self._suggested = suggested

    def heading(self) -> str:
        """What the frame is called."""
        return t("chat.title-save")

    def inside(self) -> ComposeResult:
        """The line with the name, and what its end means."""
        yield Line(str(self._suggested), id="chat-file")
        yield Static(t("chat.save-as"), markup=False)

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        if name := event.value.strip():
            self.dismiss(Path(name).expanduser())
