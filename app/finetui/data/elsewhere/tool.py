"""What a tool's rules are to the comparison: a verdict on the file, and the codes of each row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

KEPT, CHANGED, DROPPED, STOPS = "kept", "changed", "dropped", "stops"
EFFECTS = (KEPT, CHANGED, DROPPED, STOPS)
"""From the mildest to the worst; a row counts under the worst of its codes."""

EFFECT_OF = {
    "empty-answer": KEPT,
    "first-turn-dropped": CHANGED,
    "system-ignored": CHANGED,
    "tools-ignored": CHANGED,
    "calls-ignored": CHANGED,
    "thinking-ignored": CHANGED,
    "marks-ignored": CHANGED,
    "role-order": DROPPED,
    "ends-on-user": DROPPED,
    "unknown-tag": DROPPED,
    "no-answer": DROPPED,
    "pair-not-text": DROPPED,
    "separator-in-text": DROPPED,
    "absent-key": STOPS,
    "role-key-error": STOPS,
    "order-assertion": STOPS,
    "empty-conversation": STOPS,
    "not-text": STOPS,
    "tools-not-text": STOPS,
    "calls-not-json": STOPS,
    "unreadable-row": STOPS,
    "no-reader": STOPS,
    "not-one-array": STOPS,
    "unknown-ending": STOPS,
}
"""Every code with what it does to the row; `elsewhere.CODE` in the message table says why."""

Judge = Callable[[Any], Iterator[str]]
"""A row's value to the codes that hold for it."""


@dataclass(frozen=True)
class Table:
    """What the rules need of one file."""

    format: str | None
    container: str
    compression: str | None
    encoding: str | None
    ending: str
    """Of the file's name, lower case, without the dot."""
    column: str
    """The column of the turns; empty where a row is the list itself, or there is none."""
    columns: frozenset[str]
    """Columns of the sampled rows."""


@dataclass(frozen=True)
class Tool:
    """One tool's loader."""

    name: str
    source: str
    """The file of the tool whose rules these are, and its version."""
    judge: Callable[[Table], str | Judge]
    """The code that holds for every row of the file, or the judge of its rows."""
