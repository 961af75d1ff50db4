"""Where the paid seconds of a run went, and what each kind of them cost."""

from __future__ import annotations

from dataclasses import dataclass

from finetui.runs.review.history import IDLE, PHASES, History


@dataclass(frozen=True)
class Entry:
    """One kind of seconds."""

    phase: str
    """One of PHASES."""
    seconds: float
    share: float
    """Of all seconds, from 0 to 1."""
    cost: float | None
    """In the unit of the rate; None where there is no rate."""


def ledger(history: History, now: float | None = None, gpus: int = 1, price: float | None = None) -> list[Entry]:
    """The seconds of a run by kind, all of them together the time from its first event to its last, or to `now`.

    `now` is given for a run that lives, in seconds since 1970; `price` is that of one GPU for an hour.
    """
    seconds = dict(history.seconds)
    if now is not None and history.begun is not None:
        seconds[history.phase] += max(0.0, now - history.begun - sum(seconds.values()))
    total = sum(seconds.values())
    return [
        Entry(
            phase=phase,
            seconds=seconds[phase],
            share=seconds[phase] / total if total else 0.0,
            cost=None if price is None else seconds[phase] / 3600 * price * gpus,
        )
        for phase in PHASES
        if seconds[phase] > 0 or phase != IDLE
    ]
