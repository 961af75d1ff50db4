"""Figures as people read them."""

from __future__ import annotations

GIB = 1 << 30


def gib(size: float) -> str:
    """`18.7 GiB`; below a tenth in MiB."""
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / (1 << 20):.0f} MiB"


def duration(seconds: float) -> str:
    """`0.34 s`, `12 s`, `3 min`, `2.4 h`: two figures that count."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def share(part: float, whole: float) -> str:
    """A percentage with two figures that count."""
    return f"{100 * part / whole:.2g} %" if whole else "0 %"


def round_number(number: float) -> int:
    """The number of 1, 2, 5, 10, 20, 50, … that is nearest below, at least 1."""
    power = 1
    while True:
        for step in (5, 2, 1):
            if step * power <= number < 10 * power:
                return step * power
        if number < 1:
            return 1
        power *= 10
