"""Layout `seed-tasks`: an instruction with a list of instances, each of which is a row of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from finetui.data.files.splitter import Row
from finetui.data.formats.columns import fit_columns
from finetui.data.formats.layout import Adapter, Layout
from finetui.data.formats.rows import made, taken_apart
from finetui.data.problems import Note, RowProblem, excerpt


def _recognise(row: Any) -> bool:
    return type(row) is dict and "instruction" in row and "instances" in row


def _fit(rows: Sequence[Any]) -> Adapter:
    instances = [instance for row in rows if type(row) is dict for instance in _instances(row)]
    plain = fit_columns([{"instruction": "", **item} for item in instances], "instruction", "output", more="input")
    of_columns = plain.convert

    def convert(row: Any, notes: list[Note]) -> dict[str, Any]:
        return of_columns(_as_columns(row), notes)

    mapping = {"user": "instruction + instances[].input", "assistant": "instances[].output"}
    return replace(plain, mapping=mapping, convert=convert, expand=_expand)


def _expand(rows: Iterable[Row]) -> Iterator[Row]:
    """Every instance as a row of its own, which is its task with that instance alone."""
    for row in rows:
        value, repaired = taken_apart(row)
        _, raw, line, byte = row
        instances = value.get("instances") if type(value) is dict else None
        if type(instances) is not list or len(instances) < 2:
            yield row
            continue
        for instance in instances:
            yield made({**value, "instances": [instance]}, repaired, line, byte, raw)


def _as_columns(row: Any) -> Any:
    """A task with one instance as the columns of alpaca.

    Raises RowProblem where there is no instance to answer it.
    """
    if type(row) is not dict or "instances" not in row:
        return row
    instances = row["instances"]
    if instances == []:
        raise RowProblem("no-assistant", "instances: []")
    if type(instances) is not list or type(instances[0]) is not dict:
        code = "null-content" if instances in (None, [None]) else "wrong-type"
        raise RowProblem(code, f"instances: {excerpt(instances)}")
    return {**{key: value for key, value in row.items() if key != "instances"}, **instances[0]}


def _instances(row: dict[str, Any]) -> list[dict[str, Any]]:
    instances = row.get("instances")
    return [item for item in instances if type(item) is dict] if type(instances) is list else []


LAYOUT = Layout("seed-tasks", _recognise, "sft", _fit)
