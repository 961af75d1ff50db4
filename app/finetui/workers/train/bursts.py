"""A gradient that bursts: far above its usual norm, as it is before a training falls apart, and where a row is odd."""

from __future__ import annotations

import math
import statistics
from collections import deque

_TIMES = 20.0
"""Times the usual norm, which is the median of the recent ones."""
_LEAST = 1.0
"""A norm below this harms nothing, however small the others are."""
_ENOUGH = 20
"""Steps without which nothing is usual."""
_RECENT = 200


class Bursts:
    """Tells where a burst begins."""

    def __init__(self) -> None:
        self._norms: deque[float] = deque(maxlen=_RECENT)
        self._within = False

    def begins(self, norm: float) -> float | None:
        """The usual norm, where a burst begins with this one; else None, as for all the rest of the burst."""
        if not math.isfinite(norm):
            return None
        usual = statistics.median(self._norms) if len(self._norms) >= _ENOUGH else math.inf
        self._norms.append(norm)
        was_within, self._within = self._within, norm > max(_TIMES * usual, _LEAST)
        return usual if self._within and not was_within else None
