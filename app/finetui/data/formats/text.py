"""Layout `text`: plain text to be learnt whole, one column of it, or messages of the role pretrain."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from finetui.data.formats.chat import meta_of
from finetui.data.formats.columns import most_common
from finetui.data.formats.content import EMPTY
from finetui.data.formats.layout import Adapter, Convert, Layout
from finetui.data.formats.messages import COLUMNS as LISTS
from finetui.data.formats.messages import PRETRAIN
from finetui.data.formats.rows import checked
from finetui.data.problems import Note, RowProblem, Saying, excerpt, unfit

COLUMNS = ("text", "content", "document", "response")
"""Where plain text stands; `response` alone is ms-swift's way to say it."""
_METADATA = frozenset(
    {"id", "meta", "metadata", "source", "lang", "language", "url", "title", "date", "timestamp", "created", "added"}
    | {"author", "domain", "dataset", "subset", "license", "name", "path", "category", "topic", "tags", "keywords"}
)
"""Columns that describe a text, whatever stands in them."""
_CLASSES = re.compile(
    r"label|class|sentiment|emotion|intent|stance|target|star|rating|entail|answer|question|instruction|summar|highlight"
    r"|input|output|prompt|response|completion|choice|option|translation|correct|toxic"
)
"""Names of columns that a text is to be answered with, or sorted by."""


def text_column(row: Any) -> str | None:
    """The column of a row that is text and little else: all others describe it."""
    if type(row) is not dict:
        return None
    held = [column for column in COLUMNS if type(row.get(column)) is str]
    if not held:
        return None
    return held[0] if all(_describes(name, value) for name, value in row.items() if name != held[0]) else None


def _describes(name: str, value: Any) -> bool:
    """Whether a column tells something about a text: by its name, or because it is a number, a word or empty."""
    lower = name.lower()
    if lower in _METADATA or name.startswith("_") or value in EMPTY:
        return True
    if _CLASSES.search(lower):
        return False
    return type(value) is not str or not any(map(str.isspace, value[:200]))


def _is_pretrain(row: Any) -> bool:
    items = row if type(row) is list else _list(row)
    return bool(items) and all(type(item) is dict and item.get("role") == PRETRAIN for item in items)


def _list(row: Any) -> list[Any]:
    found = (row.get(column) for column in LISTS) if type(row) is dict else ()
    return next((value for value in found if type(value) is list), [])


def _column(row: Any) -> str | None:
    return PRETRAIN if _is_pretrain(row) else text_column(row)


def _recognise(row: Any) -> bool:
    return _column(row) is not None


def _fit(rows: Sequence[Any]) -> Adapter:
    column = most_common(_column, rows, next((name for name in COLUMNS if _any_has(rows, name)), COLUMNS[0]))
    if column == PRETRAIN:
        return Adapter({"text": "messages[].content"}, Saying("data.cue-pretrain"), _convert_pretrain)
    return Adapter({"text": column}, Saying("data.cue-text", {"column": column}), _converter(column))


def _any_has(rows: Sequence[Any], column: str) -> bool:
    return any(type(row) is dict and column in row for row in rows)


def _converter(column: str) -> Convert:
    used = frozenset({column})

    def convert(row: Any, notes: list[Note]) -> dict[str, Any]:
        row = checked(row, (column,))
        record, meta = _record(row[column], column), meta_of(row, used)
        return {**record, "meta": meta} if meta else record

    return convert


def _convert_pretrain(row: Any, notes: list[Note]) -> dict[str, Any]:
    if not _is_pretrain(row):
        raise RowProblem("missing-key" if type(row) is dict else "not-an-object", excerpt(row))
    items = row if type(row) is list else _list(row)
    texts = [_record(item.get("content"), f"messages[{number}].content")["text"] for number, item in enumerate(items)]
    record = {"text": "".join(texts)}
    meta = meta_of(row, frozenset(LISTS)) if type(row) is dict else {}
    return {**record, "meta": meta} if meta else record


def _record(text: Any, where: str) -> dict[str, Any]:
    """The record of one text.

    Raises RowProblem where it is null, blank, or none.
    """
    if type(text) is not str:
        raise unfit(text, where)
    if not text or text.isspace():
        raise RowProblem("null-content", f"{where}: {excerpt(text)!r}")
    return {"text": text}


LAYOUT = Layout("text", _recognise, "pt", _fit)
