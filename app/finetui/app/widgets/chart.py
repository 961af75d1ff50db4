"""The loss chart of one or several runs, as large as it is given room."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from finetui.app.themes import PLAIN
from finetui.app.widgets.curves import Curve, chart
from finetui.app.widgets.lines import Lines
from finetui.app.widgets.spoken import Spoken
from finetui.core.messages import t


class LossChart(Lines, Spoken):
    """Redraws the rows that have changed; says so where there is nothing to draw yet."""

    DEFAULT_CSS = "LossChart { height: 1fr; min-height: 4; }"

    def __init__(self, *, ascii_only: bool, id: str | None = None) -> None:
        super().__init__(id=id)
        self._ascii_only = ascii_only
        self._curves: Sequence[Curve] = ()
        self.logarithmic = False
        """Whether its losses are on a logarithmic scale."""

    def draw(self, curves: Sequence[Curve]) -> None:
        """Show these curves."""
        self._curves = curves
        self.speak()

    def toggle_log(self) -> None:
        """The other scale."""
        self.logarithmic = not self.logarithmic
        self.speak()

    def on_resize(self) -> None:
        """Draw as large as there is room now."""
        self.speak()

    def speak(self) -> None:
        """The picture, or that there is none."""
        width, height = self.size
        lines = chart(self._curves, width, height, log=self.logarithmic, ascii_only=self._in_signs)
        self.show([*lines, *[""] * (height - len(lines))] if lines else self._nothing(height))

    @property
    def _in_signs(self) -> bool:
        """Without colours, dots of several curves could not be told apart."""
        return self._ascii_only or (len(self._curves) > 1 and self.app.theme == PLAIN)

    def _nothing(self, height: int) -> list[Content | str]:
        lines: list[Content | str] = [""] * height
        lines[height // 2 : height // 2 + 1] = [f"  {t('app.monitor-no-step')}"]
        return lines
