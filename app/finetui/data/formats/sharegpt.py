"""Layout `sharegpt`: a list of from/value turns, in ShareGPT's, Qwen's or Open Assistant's vocabulary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from finetui.data.formats.chat import chat_record, full_message, items_of, meta_of, speakers, system_of
from finetui.data.formats.content import refuse_media
from finetui.data.formats.layout import Adapter, Convert, Layout
from finetui.data.formats.rows import missing
from finetui.data.problems import Note, RowProblem, Saying, excerpt, unfit

_COLUMNS = ("conversations", "conversation", "messages", "dialogue")


def _column(row: Any) -> str | None:
    if type(row) is not dict:
        return None
    return next((column for column in _COLUMNS if _are_turns(row.get(column))), None)


def _are_turns(value: Any) -> bool:
    return type(value) is list and any(type(item) is dict and "from" in item and "value" in item for item in value)


def _recognise(row: Any) -> bool:
    return _column(row) is not None


def _fit(rows: Sequence[Any]) -> Adapter:
    columns = Counter(column for row in rows if (column := _column(row)) is not None)
    column = columns.most_common(1)[0][0] if columns else "conversations"
    names = speakers(turn.get("from") for turn in items_of(rows, column))
    mapping = {"messages": f"{column}[from, value]"}
    for part in ("system", "tools"):
        if any(type(row) is dict and row.get(part) for row in rows):
            mapping[part] = part
    return Adapter(mapping, Saying("data.cue-sharegpt", {"column": column, "names": names}), _converter(column))


def _converter(column: str) -> Convert:
    used = frozenset({column, "system", "tools"})

    def convert(row: Any, notes: list[Note]) -> dict[str, Any]:
        if type(row) is not dict:
            raise RowProblem("not-an-object", excerpt(row))
        if column not in row:
            raise missing(column, row)
        refuse_media(row)
        items = row[column]
        if type(items) is not list:
            raise unfit(items, column)
        messages = [full_message(item, "from", "value", f"{column}[{at}]", notes) for at, item in enumerate(items)]
        if row.get("system"):
            messages[:0] = system_of(row)
        return chat_record(messages, row.get("tools"), meta_of(row, used) if len(row) > 1 else {}, notes)

    return convert


LAYOUT = Layout("sharegpt", _recognise, "sft", _fit)
