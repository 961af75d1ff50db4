"""Which shape the JSON of a file has, by its first bytes."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Collection, Mapping
from itertools import islice
from typing import Any

from finetui.core.errors import FinetuiError
from finetui.data.files.parsing import Repaired, load
from finetui.data.files.splitter import Splitter
from finetui.data.formats.table import OF_A_REGISTRY
from finetui.data.problems import RowProblem

ARRAY, OBJECT, LINES, OBJECTS, KEYED = "json-array", "json-object", "jsonl", "json-objects", "json-keyed"
_FEW_LINES = 50
_NEARLY_ALL = 0.9
# What JSON begins with, and what is meant as JSON: comments, single quotes.
_BEGINNING = re.compile(
    rb"""\{\s*(?:["'}#]|//|/\*|$)|\[\s*(?:["'\[{\]#]|//|/\*|$)"""
    rb"""|\[\s*(?:null|true|false|-?\d[\d.eE+-]*)\s*,\s*(?:["'\[{\d-]|null|true|false|$)"""
)
_PARTS_OF_A_ROW = frozenset(
    {"chosen", "rejected", "prompt", "completion", "input", "output", "message", "messages"}
    | {"chosen_messages", "rejected_messages", "chosen_conversations", "rejected_conversations"}
)


def json_shape(head: bytes, whole: bool, columns: Collection[str] = ()) -> str | None:
    """The container of JSON that a file begins with, or None where it is no JSON, not even broken.

    An object that has one of `columns` is a row itself, not an object of rows.
    """
    text = head.lstrip()
    lines = _lines(text, whole)
    first = load(lines[0])
    if _is_row(first):
        if text[:1] == b"[" and len(lines) == 1 and not _is_chat(first):
            return ARRAY
        return _one_object(first, columns) if text[:1] == b"{" and len(lines) == 1 and whole else LINES
    good = sum(_is_row(load(line)) for line in lines if line.lstrip()[:1] in (b"{", b"["))
    if 2 * good > len(lines):
        return LINES
    return _spanning(text, whole, columns) if _BEGINNING.match(text) else None


def is_scalars(head: bytes, whole: bool) -> bool:
    """Whether every line is a JSON string, number or constant: a list of words, not text."""
    return all(type(load(line)) is not RowProblem for line in _lines(head.lstrip(), whole))


def _lines(text: bytes, whole: bool) -> list[bytes]:
    lines = text.splitlines() if whole else text.splitlines()[:-1] or [text]
    return [line for line in lines[: 4 * _FEW_LINES] if line.strip()][:_FEW_LINES]


def _spanning(text: bytes, whole: bool, columns: Collection[str]) -> str:
    """The container of JSON whose values span lines, or begin like that and are broken."""
    values = _first_values(text)
    if text[:1] == b"[":
        return OBJECTS if values and _is_chat(values[0]) else ARRAY
    if not values:
        return KEYED if _are_rows(_first_entries(text), columns) else OBJECTS
    return _one_object(values[0], columns) if whole and len(values) == 1 else OBJECTS


def _one_object(value: Any, columns: Collection[str]) -> str:
    return KEYED if type(value) is dict and _are_rows(value, columns) else OBJECT


def _are_rows(entries: Mapping[str, Any], columns: Collection[str]) -> bool:
    """Whether the values of an object are rows rather than parts of one: objects with a key in common, or chats."""
    if len(entries) < 2 or not _PARTS_OF_A_ROW.union(columns).isdisjoint(entries):
        return False
    if all(_is_chat(value) for value in entries.values()):
        return True
    if not all(type(value) is dict and value and OF_A_REGISTRY.isdisjoint(value) for value in entries.values()):
        return False
    ((_, count),) = Counter(key for value in entries.values() for key in value).most_common(1)
    return count >= _NEARLY_ALL * len(entries)


def _first_values(text: bytes) -> list[Any]:
    values: list[Any] = []
    try:
        for value, *_ in islice(Splitter(io.BytesIO(text), "", array=False).rows(), 2):
            values.append(value)
    except FinetuiError:
        pass  # the head may end inside a value; the full pass says whether the file does
    return values


def _first_entries(text: bytes) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    try:
        for key, (value, *_) in islice(Splitter(io.BytesIO(text), "", array=False).entries(), _FEW_LINES):
            if key is not None and type(value) is not RowProblem:
                entries[key] = value
    except FinetuiError:
        pass  # as above
    return entries


def _is_row(value: Any) -> bool:
    return isinstance(value.value if isinstance(value, Repaired) else value, (dict, list))


def _is_chat(value: Any) -> bool:
    """Whether a list is one conversation rather than a list of rows."""
    return isinstance(value, list) and bool(value) and all(_is_message(item) for item in value)


def _is_message(item: Any) -> bool:
    return isinstance(item, dict) and "role" in item and ("content" in item or "tool_calls" in item)
