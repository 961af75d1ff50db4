"""Layout `messages`: a list of role/content messages, OpenAI's shape, under any of its columns or as the row itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from finetui.data.formats.chat import chat_record, full_message, items_of, meta_of, speakers, system_of
from finetui.data.formats.content import refuse_media
from finetui.data.formats.layout import Adapter, Convert, Layout
from finetui.data.formats.rows import missing
from finetui.data.problems import Note, RowProblem, Saying, excerpt, unfit

COLUMNS = ("messages", "conversations", "conversation", "dialogue")
PRETRAIN = "pretrain"
"""The role that makes a message plain text."""
_BARE = ""
"""The column of a row that is itself the list."""
_CONTENT_KEYS = frozenset({"content", "tool_calls", "function_call", "thinking", "reasoning_content"})


def _column(row: Any) -> str | None:
    """The column that holds role/content messages; `_BARE` where the row is the list."""
    if type(row) is list:
        return _BARE if _are_messages(row) else None
    if type(row) is dict:
        return next((column for column in COLUMNS if _are_messages(row.get(column))), None)
    return None


def _are_messages(value: Any) -> bool:
    if type(value) is not list or not value:
        return False
    spoken = [item for item in value if type(item) is dict and "role" in item and not _CONTENT_KEYS.isdisjoint(item)]
    return any(item["role"] != PRETRAIN for item in spoken)


def _recognise(row: Any) -> bool:
    return _column(row) is not None


def fit(rows: Sequence[Any]) -> Adapter:
    """The adapter for role/content messages under the column that most rows have them in."""
    columns = Counter(column for row in rows if (column := _column(row)) is not None)
    column = columns.most_common(1)[0][0] if columns else "messages"
    names = speakers(item.get("role") for item in items_of(rows, column))
    mapping = {"messages": column or "[row]"}
    for tools in ("tools", "functions"):
        if any(type(row) is dict and row.get(tools) for row in rows):
            mapping["tools"] = tools
            break
    shown = Saying("data.cue-bare-list" if column == _BARE else "data.cue-messages", {"column": column, "names": names})
    return Adapter(mapping, shown, _converter(column))


def _converter(column: str) -> Convert:
    used = frozenset({column, "tools", "functions", "system"})

    def convert(row: Any, notes: list[Note]) -> dict[str, Any]:
        if type(row) is list:
            return chat_record(_messages(row, notes), None, {}, notes)
        if type(row) is not dict:
            raise RowProblem("not-an-object", excerpt(row))
        if column not in row:
            raise missing(column, row)
        refuse_media(row)
        items = row[column]
        if type(items) is not list:
            raise unfit(items, column)
        messages = _messages(items, notes)
        if row.get("system"):
            messages[:0] = system_of(row)
        if len(row) == 1:
            return chat_record(messages, None, {}, notes)
        return chat_record(messages, row.get("tools") or row.get("functions"), meta_of(row, used), notes)

    return convert


def _messages(items: list[Any], notes: list[Note]) -> list[dict[str, Any]]:
    return [full_message(item, "role", "content", f"messages[{place}]", notes) for place, item in enumerate(items)]


LAYOUT = Layout("messages", _recognise, "sft", fit)
