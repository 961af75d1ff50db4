"""Figures of a run in few characters."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

_LEVELS = "▁▂▃▄▅▆▇█"


def short_duration(seconds: float | None) -> str:
    """`1:02:03`, `2:03` or, where it is not known, `–`."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def short_number(value: float | None, form: str) -> str:
    """The number in this format, or `–` where it is not known or is none."""
    return "–" if value is None or not math.isfinite(value) else format(value, form)


def sparkline(values: Sequence[float], width: int) -> str:
    """The values as one line of at most so many blocks, each the mean of its share; a gap where none is a number."""
    count = min(width, len(values))
    edges = [len(values) * place // max(1, count) for place in range(count + 1)]
    shares = [
        [value for value in values[begin:end] if math.isfinite(value)] for begin, end in itertools.pairwise(edges)
    ]
    means = [sum(share) / len(share) if share else math.nan for share in shares]
    known = [mean for mean in means if math.isfinite(mean)]
    if not known:
        return ""
    low, span = min(known), (max(known) - min(known)) or 1.0
    top = len(_LEVELS) - 1
    return "".join(_LEVELS[round((mean - low) / span * top)] if math.isfinite(mean) else " " for mean in means)
