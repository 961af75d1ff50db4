"""Layout `tokens`: rows that were tokenised before, trained as they stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetui.data.formats.chat import meta_of
from finetui.data.formats.layout import Adapter, Layout
from finetui.data.formats.rows import checked
from finetui.data.problems import Note, RowProblem, Saying, excerpt, unfit

_NOT_TRAINED = -100
_USED = frozenset({"input_ids", "labels", "attention_mask"})


def _recognise(row: Any) -> bool:
    return type(row) is dict and type(row.get("input_ids")) is list and type(row.get("labels")) is list


def _fit(rows: Sequence[Any]) -> Adapter:
    masked = any(type(row) is dict and row.get("attention_mask") for row in rows)
    columns = ("input_ids", "labels", *(("attention_mask",) if masked else ()))
    return Adapter(
        {part: part for part in columns}, Saying("detect.cue-tokens", {"columns": ", ".join(columns)}), _convert
    )


def _convert(row: Any, notes: list[Note]) -> dict[str, Any]:
    row = checked(row, ("input_ids", "labels"))
    ids, labels = _numbers(row, "input_ids", 0), _numbers(row, "labels", _NOT_TRAINED)
    record: dict[str, Any] = {"input_ids": ids, "labels": labels}
    if row.get("attention_mask"):
        mask = row["attention_mask"]
        if type(mask) is not list or not {0, 1}.issuperset(mask if _are(mask, int, bool) else (None,)):
            raise RowProblem("wrong-type", f"attention_mask: {excerpt(mask)}")
        record["attention_mask"] = [int(seen) for seen in mask]
    if len({len(column) for column in record.values()}) > 1:
        lengths = ", ".join(f"{name}: {len(column)}" for name, column in record.items())
        raise RowProblem("wrong-type", lengths)
    if all(label == _NOT_TRAINED for label in labels):
        notes.append(("no-trained-token", f"labels: {len(labels)}"))
    if meta := meta_of(row, _USED):
        record["meta"] = meta
    return record


def _numbers(row: dict[str, Any], column: str, least: int) -> list[int]:
    """A list of whole numbers of at least `least`.

    Raises RowProblem where the column holds anything else, or nothing.
    """
    values = row[column]
    if values is None or values == []:
        raise RowProblem("null-content", f"{column}: {values}")
    if type(values) is not list or not _are(values, int) or min(values) < least:
        raise unfit(values, column)
    return values


def _are(values: list[Any], *types: type) -> bool:
    return set(map(type, values)) <= set(types)


LAYOUT = Layout("tokens", _recognise, "sft", _fit)
