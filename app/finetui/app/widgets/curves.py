"""A loss chart as lines of text, in braille dots or in ASCII."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

from rich.cells import cell_len, set_cell_size
from textual.content import Content

from finetui.app.themes import MUTED
from finetui.runs.figures import short_number
from finetui.runs.review.history import History

COLOURS = ("$primary", "$accent", "$success", "$secondary", "$error")
"""One a curve; of so many runs one can be told from another."""
_ASCII_SIGNS = "*+x#%"
_RAW = "$foreground 40%"
_MARK = "bold $warning"
_LABEL_CELLS = 7
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a braille sign by row and column."""
_CLIPPED = 0.01
"""Share of the raw losses above the picture: a spike does not press the curve flat."""


@dataclass(frozen=True)
class Curve:
    """The losses of one run."""

    name: str = ""
    """What it is called where there are several; safe to be drawn."""
    steps: Sequence[int] = ()
    losses: Sequence[float] = ()
    """One a step; NaN where it was no number."""
    smoothed: Sequence[float] = ()
    """One a step."""
    evaluations: Sequence[tuple[int, float]] = ()
    """Step and loss of each evaluation."""

    @classmethod
    def of(cls, history: History, name: str, points: int = 1500) -> Self:
        """What a picture needs of a run: of many steps in a row the lowest and the highest loss."""
        places = _outermost(history.losses, points)
        return cls(
            name,
            tuple(history.steps[place] for place in places),
            tuple(history.losses[place] for place in places),
            tuple(history.smoothed[place] for place in places),
            tuple((each.step, each.loss) for each in history.evaluations),
        )


@dataclass(frozen=True)
class Scale:
    """How steps and losses become places; all in dots, from the lower left."""

    columns: int
    rows: int
    first: int
    last: int
    low: float
    high: float
    log: bool

    def places(self, steps: Sequence[int], losses: Sequence[float]) -> Iterator[tuple[int, int]]:
        """Column and row of each loss that is in the picture."""
        low, high = self._of(self.low), self._of(self.high)
        wide, tall = max(1, self.last - self.first), high - low or 1.0
        for step, loss in zip(steps, losses, strict=True):
            if not math.isfinite(loss) or (self.log and loss <= 0):
                continue
            place = (self._of(loss) - low) / tall
            if -0.01 <= place <= 1.01:
                yield round((step - self.first) / wide * (self.columns - 1)), round(place * (self.rows - 1))

    def loss_at(self, share: float) -> float:
        """The loss at a share of the height."""
        low, high = self._of(self.low), self._of(self.high)
        value = low + share * (high - low)
        return math.exp(value) if self.log else value

    def _of(self, loss: float) -> float:
        return math.log(loss) if self.log else loss


@dataclass
class _Layer:
    """Dots of one kind, each drawn over those of the layers before."""

    style: str
    sign: str
    """What a cell of it is in ASCII."""
    dots: set[tuple[int, int]] = field(default_factory=set)
    as_sign: bool = False
    """Whether its cells are this sign in braille too."""


def chart(
    curves: Sequence[Curve], width: int, height: int, *, log: bool = False, ascii_only: bool = False
) -> list[Content]:
    """So many lines of so many cells: raw losses as dots, smoothed ones as a line, an `o` for each evaluation.

    Raw losses are left out where there are several curves. Empty where there is nothing to draw, or no room.
    """
    legend = [_legend(curves, width, ascii_only)] if len(curves) > 1 else []
    plot_width, plot_height = width - _LABEL_CELLS - 2, height - 1 - len(legend)
    across, down = (1, 1) if ascii_only else (2, 4)
    scale = _scale(curves, plot_width * across, plot_height * down, log)
    if scale is None or plot_width < 8 or plot_height < 2:
        return []
    cells = _cells(_layers(curves, scale), across, down, ascii_only)
    lines = []
    for row in range(plot_height):
        label = short_number(scale.loss_at(1 - row / (plot_height - 1)), ".3g")
        shown = label if row in (0, plot_height // 2, plot_height - 1) else ""
        left = (f"{shown:>{_LABEL_CELLS}} {'|' if ascii_only else '│'}", MUTED)
        lines.append(Content.assemble(left, *_row(cells, plot_height - 1 - row, plot_width)))
    return [*legend, *lines, _axis(scale, width)]


def _outermost(values: Sequence[float], count: int) -> Sequence[int]:
    """The places of at most so many values, by which the picture of all is the same."""
    if len(values) <= count:
        return range(len(values))
    share = -(-2 * len(values) // count)
    places = {0, len(values) - 1}
    for start in range(0, len(values), share):
        known = [place for place in range(start, min(start + share, len(values))) if math.isfinite(values[place])]
        places |= {min(known, key=values.__getitem__), max(known, key=values.__getitem__)} if known else set()
    return sorted(places)


def _scale(curves: Sequence[Curve], columns: int, rows: int, log: bool) -> Scale | None:
    steps = [curve.steps for curve in curves if len(curve.steps)]
    raw = sorted(_drawable(curves[0].losses, log)) if len(curves) == 1 else []
    shown = [
        *raw[: len(raw) - int(_CLIPPED * len(raw))],
        *(loss for curve in curves for loss in _drawable(curve.smoothed, log)),
        *(loss for curve in curves for loss in _drawable([loss for _, loss in curve.evaluations], log)),
    ]
    if not steps or not shown:
        return None
    low, high = min(shown), max(shown)
    if low == high:
        low, high = low - abs(low) * 0.1 - 1e-6 * (not log), high + abs(high) * 0.1 + 1e-6
    first, last = min(each[0] for each in steps), max(each[-1] for each in steps)
    return Scale(columns, rows, first, last, low, high, log)


def _drawable(losses: Sequence[float], log: bool) -> Iterator[float]:
    return (loss for loss in losses if math.isfinite(loss) and (loss > 0 or not log))


def _layers(curves: Sequence[Curve], scale: Scale) -> list[_Layer]:
    layers = []
    for curve, colour, sign in zip(curves, COLOURS, _ASCII_SIGNS, strict=False):
        if len(curves) == 1:
            layers.append(_Layer(_RAW, ".", set(scale.places(curve.steps, curve.losses))))
        layers.append(_Layer(colour, sign, set(_line(curve.steps, curve.smoothed, scale))))
        steps, losses = [step for step, _ in curve.evaluations], [loss for _, loss in curve.evaluations]
        layers.append(_Layer(_MARK, "o", set(scale.places(steps, losses)), as_sign=True))
    return layers


def _line(steps: Sequence[int], losses: Sequence[float], scale: Scale) -> Iterator[tuple[int, int]]:
    """The last value of each column, joined."""
    rows: dict[int, int] = dict(scale.places(steps, losses))
    before: tuple[int, int] | None = None
    for column, row in rows.items():
        left, start = before or (column, row)
        for between in range(left, column):
            at = start + round((row - start) * (between + 1 - left) / (column - left))
            last = start + round((row - start) * (between - left) / (column - left))
            for each in range(min(at, last + (at > last)), max(at, last - (at < last)) + 1):
                yield between + 1, each
        yield column, row
        before = column, row


def _cells(
    layers: Sequence[_Layer], across: int, down: int, ascii_only: bool
) -> dict[tuple[int, int], tuple[str, str]]:
    """The sign and style of each cell that is not empty, by row from below and column."""
    masks: dict[tuple[int, int], int] = {}
    found: dict[tuple[int, int], tuple[str, str]] = {}
    for layer in layers:
        for column, row in layer.dots:
            place = row // down, column // across
            if ascii_only or layer.as_sign:
                found[place] = layer.sign, layer.style
            else:
                masks[place] = masks.get(place, 0) | _DOTS[down - 1 - row % down][column % across]
                found[place] = "", layer.style
    return {place: (sign or chr(0x2800 + masks[place]), style) for place, (sign, style) in found.items()}


def _row(cells: dict[tuple[int, int], tuple[str, str]], row: int, width: int) -> Iterator[tuple[str, str]]:
    """The cells of one row, those of one style together."""
    text, style = "", ""
    for column in range(width):
        sign, wanted = cells.get((row, column), (" ", style))
        if wanted != style:
            yield text, style
            text, style = "", wanted
        text += sign
    yield text.rstrip(), style


def _axis(scale: Scale, width: int) -> Content:
    first, last = str(scale.first), str(scale.last)
    left = " " * (_LABEL_CELLS + 2) + first
    return Content.assemble((left + last.rjust(max(len(last) + 1, width - len(left))), MUTED))


def _legend(curves: Sequence[Curve], width: int, ascii_only: bool) -> Content:
    room = max(4, width // len(curves) - 4)
    parts: list[tuple[str, str]] = []
    for curve, colour, sign in zip(curves, COLOURS, _ASCII_SIGNS, strict=False):
        name = curve.name if cell_len(curve.name) <= room else set_cell_size(curve.name, room - 1) + "…"
        parts += [(f" {sign if ascii_only else '━━'} ", colour), (name, "")]
    return Content.assemble(*parts)
