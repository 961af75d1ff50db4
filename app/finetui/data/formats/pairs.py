"""Layout `pairs`: questions and answers as a list of objects, or as two lists side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetui.data.formats.chat import Message, chat_record, is_untrained, items_of, meta_of, plain_message, system_of
from finetui.data.formats.columns import BESIDE, beside_of, most_common
from finetui.data.formats.history import PAIR_KEYS, aligned_turns, pair_keys
from finetui.data.formats.layout import Adapter, Convert, Layout
from finetui.data.formats.rows import checked
from finetui.data.problems import Note, RowProblem, Saying, excerpt, unfit

_COLUMNS = ("conversation", "conversations", "messages", "dialogue")
_BARE = ""
"""The column of a row that is itself the list."""

_Where = tuple[str, ...]
"""The column that holds a list of pairs; or the two that hold a list each."""


def _where(row: Any) -> _Where | None:
    if type(row) is list:
        return (_BARE,) if _are_pairs(row) else None
    if type(row) is not dict:
        return None
    found = next((column for column in _COLUMNS if _are_pairs(row.get(column))), None)
    if found is not None:
        return (found,)
    return next((keys for keys in PAIR_KEYS if all(_are_texts(row.get(key)) for key in keys)), None)


def _are_pairs(value: Any) -> bool:
    return type(value) is list and bool(value) and all(pair_keys(item) for item in value)


def _are_texts(value: Any) -> bool:
    return type(value) is list and bool(value) and all(type(item) is str for item in value)


def _recognise(row: Any) -> bool:
    return _where(row) is not None


def _fit(rows: Sequence[Any]) -> Adapter:
    default: _Where = (_COLUMNS[0],)
    where = most_common(_where, rows, default)
    beside = beside_of(rows)
    if len(where) == 2:
        mapping = {"user": where[0], "assistant": where[1], **beside}
        return Adapter(mapping, Saying("data.cue-lists", {"columns": ", ".join(where)}), _converter(where))
    keys = most_common(pair_keys, items_of(rows, where[0]), PAIR_KEYS[0])
    column = where[0] or "[row]"
    mapping = {"user": f"{column}[].{keys[0]}", "assistant": f"{column}[].{keys[1]}", **beside}
    return Adapter(mapping, Saying("data.cue-pairs", {"column": column, "keys": ", ".join(keys)}), _converter(where))


def _converter(where: _Where) -> Convert:
    used = frozenset({*where, *BESIDE})

    def convert(row: Any, notes: list[Note]) -> dict[str, Any]:
        if type(row) is list:
            return chat_record(_turns(row, "row"), None, {}, notes)
        row = checked(row, where)
        if len(where) == 2:
            turns = aligned_turns(row[where[0]], row[where[1]], ", ".join(where))
        else:
            turns = _turns(row[where[0]], where[0])
        return chat_record([*system_of(row), *turns], row.get("tools"), meta_of(row, used), notes)

    return convert


def _turns(items: Any, where: str) -> list[Message]:
    """The messages of a list of pairs, each with a system prompt of its own where it has one.

    Raises RowProblem where one of them is to be set aside.
    """
    if type(items) is not list:
        raise unfit(items, where)
    turns: list[Message] = []
    for number, item in enumerate(items):
        at = f"{where}[{number}]"
        keys = pair_keys(item)
        if keys is None:
            columns = excerpt(", ".join(item)) if type(item) is dict else excerpt(item)
            raise RowProblem("missing-key" if type(item) is dict else "wrong-type", f"{at}: {columns}")
        user, assistant = keys
        turns += system_of(item)
        turns.append(plain_message("user", item[user], f"{at}.{user}"))
        answer = plain_message("assistant", item[assistant], f"{at}.{assistant}")
        turns.append({**answer, "train": False} if is_untrained(item, at) else answer)
    return turns


LAYOUT = Layout("pairs", _recognise, "sft", _fit)
