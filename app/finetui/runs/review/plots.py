"""The loss of a run as a picture: SVG and PNG of the same figure; the same run gives the same bytes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from finetui.core.text import one_line
from finetui.runs.review.history import History, smoothed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_POINTS = 2000
"""More than a picture has columns."""
_SIZE = (8.0, 4.5)
_FONT = "DejaVu Sans"
"""Comes with matplotlib."""
_BOXES = ("Last Resort", "Last Resort High-Efficiency")
"""Fonts that have a box for everything."""


def draw(history: History, title: str, folder: Path) -> list[Path]:
    """Write `loss.svg` and `loss.png`, nothing where there was no step; in English, since servers have few fonts.

    The title is there as far as it can be drawn; a browser, which shows the SVG, has fonts of its own.
    Raises OSError where they cannot be written.
    """
    if not len(history):
        return []
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns of its cache, which is nobody's concern
    import matplotlib as mpl

    title = one_line(title)
    figure = _figure(history)
    written = [folder / "loss.svg", folder / "loss.png"]
    with mpl.rc_context({"svg.hashsalt": "finetui", "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what no font here can draw
        _entitle(figure, title)
        figure.savefig(written[0], format="svg", metadata={"Date": None})
        _entitle(figure, *_drawable(title))
        figure.savefig(written[1], format="png", dpi=120)
    return written


def _entitle(figure: Figure, title: str, fonts: Sequence[str] = (_FONT,)) -> None:
    figure.axes[0].set_title(title.replace("$", r"\$"), fontsize=10, fontfamily=list(fonts))


def _drawable(title: str) -> tuple[str, list[str]]:
    """The title and fonts of this machine that draw it together; where there are none, without what they cannot."""
    from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

    def lacks(file: str) -> set[str]:
        try:
            font = get_font(file)
        except (OSError, RuntimeError):  # gone, or none that can be read
            return set(title)
        return {letter for letter in title if not font.get_char_index(ord(letter))}

    if not (lacking := lacks(findfont(FontProperties(family=_FONT)))):
        return title, [_FONT]
    for font in fontManager.ttflist:
        if font.name not in _BOXES and not lacking & lacks(font.fname):
            return title, [_FONT, font.name]
    return "".join(letter for letter in title if letter not in lacking).strip("-"), [_FONT]


def _figure(history: History) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot()
    places = _thinned(len(history))
    curve = smoothed(history.losses)
    steps = [history.steps[place] for place in places]
    axes.plot(steps, [history.losses[place] for place in places], color="0.75", linewidth=0.8, label="loss")
    axes.plot(steps, [curve[place] for place in places], color="C0", label="smoothed")
    if history.evaluations:
        known = [(each.step, each.loss) for each in history.evaluations]
        axes.plot(*zip(*known, strict=True), color="C1", marker="o", markersize=4, label="evaluation")
    if history.best is not None:
        axes.axvline(history.best.step, color="C2", linestyle=":", label="best checkpoint")
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss, nats a trained token")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def _thinned(count: int) -> Sequence[int]:
    """Places of at most so many points as a picture shows, the last one always."""
    stride = -(-count // _MOST_POINTS)
    return sorted({*range(0, count, stride), count - 1})
