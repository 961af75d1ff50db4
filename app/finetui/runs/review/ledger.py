"""Where the paid seconds of a run went, and what each kind of them cost."""

from __future__ import annotations

from dataclasses import dataclass

from finetui.runs.review.history import History
from finetui.runs.review.spending import AWAY, IDLE, PHASES


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

    `now` is given for a run that lives, in seconds since 1970; `price` is that of one GPU for an hour. The time in
    which no process of the run lived costs it nothing; less than half a second without a trainer is not worth a line.
    """
    seconds = history.spending.until(now)
    total = sum(seconds.values())
    return [
        Entry(
            phase=phase,
            seconds=seconds[phase],
            share=seconds[phase] / total if total else 0.0,
            cost=None if price is None else (phase != AWAY) * seconds[phase] / 3600 * price * gpus,
        )
        for phase in PHASES
        if round(seconds[phase]) or phase not in (IDLE, AWAY)
    ]
