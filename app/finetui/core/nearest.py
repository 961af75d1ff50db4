"""The word that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_ALIKE = 0.5


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, without regard to case; None where none is like it."""
    folded = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), folded, 1, _ALIKE)
    return folded[found[0]] if found else None
