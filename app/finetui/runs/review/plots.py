"""The loss of a run as a picture: SVG and PNG of the same figure; the same run gives the same bytes."""

from __future__ import annotations

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


def draw(history: History, title: str, folder: Path) -> list[Path]:
    """Write `loss.svg` and `loss.png`, nothing where there was no step; in English, since servers have few fonts.

    Raises OSError where they cannot be written.
    """
    if not len(history):
        return []
    import matplotlib as mpl

    figure = _figure(history, title)
    written = [folder / "loss.svg", folder / "loss.png"]
    with mpl.rc_context({"svg.hashsalt": "finetui", "svg.fonttype": "none"}):
        figure.savefig(written[0], format="svg", metadata={"Date": None})
        figure.savefig(written[1], format="png", dpi=120)
    return written


def _figure(history: History, title: str) -> Figure:
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
    axes.set_title(one_line(title).replace("$", r"\$"), fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def _thinned(count: int) -> Sequence[int]:
    """Places of at most so many points as a picture shows, the last one always."""
    stride = -(-count // _MOST_POINTS)
    return sorted({*range(0, count, stride), count - 1})
