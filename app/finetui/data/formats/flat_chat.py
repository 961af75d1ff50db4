"""Layout `flat-chat`: a chat rendered into one text, or into an instruction that leaves the last word open."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from finetui.data.formats.chat import Message, chat_record, full_message, meta_of, plain_message, system_of
from finetui.data.formats.columns import BESIDE, most_common
from finetui.data.formats.layout import Adapter, Convert, Layout
from finetui.data.formats.markers import Family, Turn, family_of, turns_of
from finetui.data.formats.rows import checked
from finetui.data.formats.text import text_column
from finetui.data.problems import Note, RowProblem, Saying, excerpt, unfit

SHARE = 0.9
"""Of rows of plain text, this share must hold turn markers; fewer, and the file is text with chats quoted in it."""
_ANSWERS = ("output", "response")
_OPEN = re.compile(r"(?:Assistant|助手)[ \t]*[:：]\s*\Z")
"""An instruction that leaves the last word to the assistant, as BELLE's conversations of several turns do."""

_Columns = tuple[str, ...]
"""The column of the text; or those of the instruction and of its last answer."""


def _columns(row: Any) -> _Columns | None:
    if type(row) is not dict:
        return None
    instruction = row.get("instruction")
    if type(instruction) is str and _OPEN.search(instruction):
        return next((("instruction", key) for key in _ANSWERS if key in row), None)
    column = text_column(row)
    return (column,) if column and family_of(row[column]) else None


def _recognise(row: Any) -> bool:
    return _columns(row) is not None


def _fit(rows: Sequence[Any]) -> Adapter:
    default: _Columns = ("text",)
    columns = most_common(_columns, rows, default)
    texts = (row[columns[0]] for row in rows if type(row) is dict and type(row.get(columns[0])) is str)
    families = Counter(family for text in texts if (family := family_of(text))).most_common(3)
    mapping = {"messages": columns[0], **({"assistant": columns[1]} if len(columns) > 1 else {})}
    facts = {"column": columns[0], "markers": ", ".join(family.name for family, _ in families)}
    likely = families[0][0] if families else None
    return Adapter(mapping, Saying("data.cue-flat-chat", facts), _converter(columns, likely))


def _converter(columns: _Columns, likely: Family | None) -> Convert:
    column, answer = columns[0], columns[1] if len(columns) > 1 else None
    used = frozenset({column, answer, *BESIDE, *(("input",) if answer else ())})

    def convert(row: Any, notes: list[Note]) -> dict[str, Any]:
        row = checked(row, columns)
        turns = _turns(row[column], column, likely)
        last = [] if answer is None else [_last(row, turns, answer)]
        said = [
            full_message({"role": turn.role, "content": turn.text}, "role", "content", f"{column}[{number}]", notes)
            for number, turn in enumerate(turns[:-1] if last else turns)
        ]
        return chat_record([*system_of(row), *said, *last], row.get("tools"), meta_of(row, used), notes)

    return convert


def _turns(text: Any, where: str, likely: Family | None) -> list[Turn]:
    """The turns of a rendered chat.

    Raises RowProblem where it is none.
    """
    if type(text) is not str:
        raise unfit(text, where)
    family = family_of(text, likely)
    if family is None:
        raise RowProblem("no-assistant", f"{where}: {excerpt(text)}")
    try:
        return turns_of(text, family)
    except ValueError as outside:
        raise RowProblem("wrong-type", f"{where}: {excerpt(str(outside))}") from outside


def _last(row: dict[str, Any], turns: list[Turn], answer: str) -> Message:
    """The answer that stands in a column of its own, to a chat that leaves the last word to the assistant.

    Raises RowProblem where the chat does not, or where text stands between the two.
    """
    if turns[-1].text or not _OPEN.search(row["instruction"]):
        raise RowProblem("missing-key", f"Assistant: ({excerpt(row['instruction'][-60:])})")
    if row.get("input") not in (None, ""):
        raise RowProblem("wrong-type", f"input: {excerpt(row['input'])}")
    return plain_message("assistant", row[answer], answer)


LAYOUT = Layout("flat-chat", _recognise, "sft", _fit)
