"""Layout `stepwise`: the steps of an answer, each of them rated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetui.data.formats.chat import meta_of
from finetui.data.formats.layout import Adapter, Layout
from finetui.data.formats.rows import checked
from finetui.data.problems import REPAIRED, Note, RowProblem, Saying, unfit

_COLUMNS = ("prompt", "completions", "labels")
_USED = frozenset(_COLUMNS)


def _recognise(row: Any) -> bool:
    return type(row) is dict and type(row.get("completions")) is list and type(row.get("labels")) is list


def _fit(rows: Sequence[Any]) -> Adapter:
    shown = Saying("detect.cue-stepwise", {"columns": ", ".join(_COLUMNS)})
    return Adapter({column: column for column in _COLUMNS}, shown, _convert)


def _convert(row: Any, notes: list[Note]) -> dict[str, Any]:
    prompt, steps, labels = (checked(row, _COLUMNS)[column] for column in _COLUMNS)
    for column, value, kind in zip(_COLUMNS, (prompt, steps, labels), (str, list, list), strict=True):
        if type(value) is not kind:
            raise unfit(value, column)
    if not prompt.strip():
        raise RowProblem("empty-user", "prompt")
    if not steps:
        raise RowProblem("no-assistant", "completions: []")
    for number, step in enumerate(steps):
        if type(step) is not str:
            raise unfit(step, f"completions[{number}]")
        if not step:
            raise RowProblem("empty-assistant", f"completions[{number}]")
    if len(steps) != len(labels):
        raise RowProblem("wrong-type", f"completions: {len(steps)}, labels: {len(labels)}")
    record: dict[str, Any] = {"prompt": prompt, "completions": steps, "labels": _truths(labels, notes)}
    if meta := meta_of(row, _USED):
        record["meta"] = meta
    return record


def _truths(labels: list[Any], notes: list[Note]) -> list[bool]:
    """The labels as true and false; 1 and 0 mean those.

    Raises RowProblem for any other.
    """
    for number, label in enumerate(labels):
        if type(label) is not bool and (type(label) is not int or label not in (0, 1)):
            raise unfit(label, f"labels[{number}]")
    if any(type(label) is int for label in labels):
        notes.append((REPAIRED, "labels"))
    return [bool(label) for label in labels]


LAYOUT = Layout("stepwise", _recognise, "prm", _fit)
