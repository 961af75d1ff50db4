"""How long rows may be: all of every row where that fits, else what costs next to none of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from finetui.core.figures import gib, share
from finetui.recipes.resolve.layout import Frame, Open
from finetui.recipes.resolve.request import Request
from finetui.recipes.resolve.settings import Choice

ASSUMED = 2048
"""Tokens of a row where there is no data to count them in."""
LOST = 0.01
"""Share of the rows that may lose trained tokens for the rest to fit."""
_STEP = 64
_LEAST = 8


def cutoff(
    request: Request,
    choices: Mapping[str, Choice],
    free: Open,
    eval_batch: int,
    framed: Callable[[int], Frame],
) -> Choice:
    """`max_length`: as stated, else the longest row up to the model's limit, else the most that fits.

    `framed` makes the frame of a cutoff. Where too many rows would lose something, nothing is cut.
    """
    if "max_length" in choices:
        return choices["max_length"]
    limit = request.model.max_position_embeddings
    if request.tokens is None:
        assumed = min(ASSUMED, limit or ASSUMED)
        return Choice(assumed, "reasons.length-assumed", {"assumed": assumed})
    longest = max(_LEAST, request.tokens.longest)
    whole = Choice(longest, "reasons.length-data", {"longest": longest})
    if limit is not None and longest > limit:
        whole = Choice(limit, "reasons.length-model", {"limit": limit, "longest": longest})
        longest = limit
    if fits(framed(longest), free, eval_batch):
        return whole
    length = longest_that_fits(longest, free, eval_batch, framed)
    losing = request.tokens.cut(length).losing if length else request.tokens.rows
    rows = request.tokens.train.rows
    if not length or losing > LOST * rows:
        return whole
    facts = {"losing": losing, "rows": rows, "share": share(losing, rows), "longest": request.tokens.longest}
    device = framed(length).device
    return Choice(length, "reasons.length-fits", {**facts, "free": gib(device.free_bytes), "device": device.name})


def longest_that_fits(longest: int, free: Open, eval_batch: int, framed: Callable[[int], Frame]) -> int:
    """The greatest cutoff below `longest` that fits, in steps of 64; 0 where none does."""
    low, high = 0, (longest - 1) // _STEP
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(framed(middle * _STEP), free, eval_batch) else (low, middle - 1)
    return low * _STEP


def fits(frame: Frame, free: Open, eval_batch: int) -> bool:
    """Whether the layout that takes least fits."""
    return any(frame.fits(next(free.layouts(parallelism)), eval_batch) for parallelism in free.parallelism)
