"""Paths into a row, such as `data.turns[].text`: where a part of a record stands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from finetui.data.problems import RowProblem, excerpt

Step = str | int | None
"""A key, a place in a list from 0 (from the end where negative), or None for each item of a list."""
EACH: Step = None
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(-?\d*)\]")


ABSENT = object()
"""What stands in a list of values for an item that has none."""


class Absent(Exception):
    """A step of a path leads nowhere in a row."""

    def __init__(self, reached: str, step: Step, there: Sequence[str]) -> None:
        self.reached = reached
        """The part of the path that is there."""
        self.step = step
        self.there = there
        """The keys that stand beside the absent one."""
        super().__init__(f"{reached}: {step}")


@dataclass(frozen=True)
class ColumnPath:
    """One path."""

    text: str
    """As it was written."""
    steps: tuple[Step, ...]

    @property
    def list_at(self) -> int | None:
        """How many steps lead to the list of which each item is taken, the innermost; None where there is none."""
        places = [number for number, step in enumerate(self.steps) if step is EACH]
        return places[-1] if places else None

    def find(self, row: Any) -> Any:
        """The value in a row; a list of values for a path with `[]`, ABSENT among them for an item that has none.

        Raises Absent where a step leads nowhere, RowProblem `wrong-type` where a value cannot be stepped into.
        """
        return _walk(row, self.steps, "")


def parse_path(text: str, columns: Iterable[str] = ()) -> ColumnPath | None:
    """A path as written; one that is the name of a column is that column, whatever signs are in it.

    None where it is not well formed.
    """
    if text in columns:
        return ColumnPath(text, (text,))
    steps: list[Step] = []
    at = 0
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None:
            return None
        key, place = found.groups()
        if key is not None and at and found[0][0] != ".":
            return None
        steps.append(key if key is not None else int(place) if place not in ("", "-") else EACH)
        at = found.end()
    return ColumnPath(text, tuple(steps)) if steps else None


def opened(value: Any, where: str) -> Any:
    """A value that is to hold others: JSON in a text, as the cells of a table have it, is parsed.

    Raises RowProblem `wrong-type` where it is neither an object nor a list.
    """
    if type(value) is str and value.lstrip()[:1] in ("{", "["):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise RowProblem("wrong-type", f"{where}: {excerpt(value)}") from None
    if type(value) is not dict and type(value) is not list:
        raise RowProblem("null-content" if value is None else "wrong-type", f"{where}: {excerpt(value)}")
    return value


def without(value: Any, used: Sequence[tuple[Step, ...]]) -> Any:
    """A copy of a value without what the paths in `used` lead to; a list that is used in part goes whole."""
    if type(value) is not dict or any(not steps or type(steps[0]) is not str for steps in used):
        return None
    kept = {}
    for key, inner in value.items():
        below = [steps[1:] for steps in used if steps[0] == key]
        left = without(inner, below) if below else inner
        if left not in (None, "", [], {}):
            kept[key] = left
    return kept


def _walk(value: Any, steps: tuple[Step, ...], reached: str) -> Any:
    for number, step in enumerate(steps):
        if value is None:
            raise Absent(reached, step, [])
        inside = value if type(value) is dict or type(value) is list else opened(value, reached or "row")
        if step is EACH:
            if type(inside) is not list:
                raise RowProblem("wrong-type", f"{reached}: {excerpt(inside)}")
            return _each(inside, steps[number + 1 :], f"{reached}[]")
        if isinstance(step, str):
            if type(inside) is not dict:
                raise RowProblem("wrong-type", f"{reached}: {excerpt(inside)}")
            if step not in inside:
                raise Absent(reached, step, list(inside))
            value, reached = inside[step], f"{reached}.{step}" if reached else step
        else:
            if type(inside) is not list:
                raise RowProblem("wrong-type", f"{reached}: {excerpt(inside)}")
            if not isinstance(step, int) or not -len(inside) <= step < len(inside):
                raise Absent(reached, step, [])
            value, reached = inside[step], f"{reached}[{step}]"
    return value


def _each(items: list[Any], steps: tuple[Step, ...], reached: str) -> list[Any]:
    """The values below each item; those of lists within lists one after another."""
    found: list[Any] = []
    for item in items:
        try:
            value = _walk(item, steps, reached) if steps else item
        except Absent:
            value = ABSENT
        if EACH in steps and type(value) is list:
            found += value
        else:
            found.append(value)
    return found
