"""The converter of layouts whose question and answer stand in columns of their own, each a text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from finetui.data.formats.chat import SYSTEM, chat_record, meta_of, plain_message, system_of
from finetui.data.formats.content import EMPTY, refuse_media
from finetui.data.formats.history import history_of
from finetui.data.formats.layout import Adapter, Convert
from finetui.data.formats.rows import missing
from finetui.data.problems import Note, RowProblem, Saying, excerpt

BESIDE = (*SYSTEM, "tools")
"""Columns beside questions and answers that belong to the conversation."""
_NO_MORE = (None, "")
Found = TypeVar("Found")


def fit_columns(
    rows: Sequence[Any], question: str, answer: str, more: str | None = None, ignored: str | None = None
) -> Adapter:
    """The adapter for the columns `question` and `more`, which are joined, and `answer`; `ignored` is left out."""
    columns = {column for row in rows if type(row) is dict for column in row}
    user = [question, more] if more is not None and more in columns else [question]
    beside = beside_of(rows, (*BESIDE, "history"))
    mapping = {"user": " + ".join(user), "assistant": answer, **beside}
    if ignored is not None and ignored in columns:
        mapping["ignored"] = ignored
    shown = Saying("data.cue-columns", {"columns": ", ".join([*user, answer, *beside.values()])})
    return Adapter(mapping, shown, _converter(question, answer, more, ignored))


def beside_of(rows: Sequence[Any], columns: Sequence[str] = BESIDE) -> dict[str, str]:
    """Which of the columns sampled rows fill, by the part of the conversation that they are."""
    held = {key for row in rows if type(row) is dict for key, value in row.items() if value not in EMPTY}
    found: dict[str, str] = {}
    for column in columns:
        if column in held:
            found.setdefault("system" if column in SYSTEM else column, column)
    return found


def most_common(find: Callable[[Any], Found | None], rows: Sequence[Any], default: Found) -> Found:
    """What `find` finds in most rows, else the default."""
    counts = Counter(found for row in rows if (found := find(row)) is not None)
    return counts.most_common(1)[0][0] if counts else default


def _converter(question: str, answer: str, more: str | None, ignored: str | None) -> Convert:
    used = frozenset({question, answer, more, ignored, "history", *BESIDE})
    plain = frozenset({question, answer, more})

    def convert(row: Any, notes: list[Note]) -> dict[str, Any]:
        if type(row) is not dict:
            raise RowProblem("not-an-object", excerpt(row))
        if question not in row or answer not in row:
            raise missing(answer if question in row else question, row)
        is_plain = len(row) <= 3 and plain.issuperset(row)
        if not is_plain:
            refuse_media(row)
        is_whole = row.get(more) in _NO_MORE
        asked = plain_message("user", row[question] if is_whole else joined(row, question, more), question)
        answered = plain_message("assistant", row[answer], answer)
        if is_plain:
            return {"messages": [asked, answered]}
        before = system_of(row) + history_of(row.get("history"), notes)
        return chat_record([*before, asked, answered], row.get("tools"), meta_of(row, used), notes)

    return convert


def joined(row: dict[Any, Any], question: str, more: str | None) -> Any:
    """The texts of two columns joined by a newline where neither is empty, else the one that is not.

    Raises RowProblem `wrong-type`.
    """
    first, second = row[question], row.get(more)
    if second is None or second == "":
        return first
    if type(second) is not str:
        raise RowProblem("wrong-type", f"{more}: {excerpt(second)}")
    if first is None or first == "":
        return second
    if type(first) is not str:
        raise RowProblem("wrong-type", f"{question}: {excerpt(first)}")
    return f"{first}\n{second}"
