"""Layout `alpaca`: instruction, input and output columns, with a system column and a history of earlier turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from finetui.data.formats.chat import Message, chat_record, full_message, meta_of, plain_message
from finetui.data.formats.content import refuse_media
from finetui.data.formats.layout import Adapter, Convert, Layout
from finetui.data.problems import Note, RowProblem, Saying, excerpt

_ANSWERS = ("output", "response")
_PAIR_KEYS = (("user", "assistant"), ("human", "assistant"), ("instruction", "output"), ("query", "response"))


def _answer(row: Any) -> str | None:
    if type(row) is not dict or "instruction" not in row:
        return None
    return next((key for key in _ANSWERS if key in row), None)


def _recognise(row: Any) -> bool:
    return _answer(row) is not None


def _fit(rows: Sequence[Any]) -> Adapter:
    answers = Counter(answer for row in rows if (answer := _answer(row)))
    answer = answers.most_common(1)[0][0] if answers else "output"
    columns = {column for row in rows if type(row) is dict for column in row}
    user = ["instruction", "input"] if "input" in columns else ["instruction"]
    mapping = {"user": " + ".join(user), "assistant": answer}
    mapping |= {part: part for part in ("system", "history") if part in columns}
    if "text" in columns:
        mapping["ignored"] = "text"
    shown = ", ".join([*user, answer, *(part for part in ("system", "history") if part in columns)])
    return Adapter(mapping, Saying("data.cue-columns", {"columns": shown}), _converter(answer))


def _converter(answer: str) -> Convert:
    used = frozenset({"instruction", "input", answer, "system", "history", "text"})
    plain = frozenset({"instruction", "input", answer})

    def convert(row: Any, notes: list[Note]) -> dict[str, Any]:
        if type(row) is not dict:
            raise RowProblem("not-an-object", excerpt(row))
        if "instruction" not in row or answer not in row:
            absent = answer if "instruction" in row else "instruction"
            raise RowProblem("missing-key", f"{absent} (columns: {excerpt(', '.join(row))})")
        asked = plain_message("user", _question(row), "instruction")
        answered = plain_message("assistant", row[answer], answer)
        if len(row) <= 3 and plain.issuperset(row):
            return {"messages": [asked, answered]}
        refuse_media(row)
        before = _system(row) + _history(row.get("history"), notes)
        return chat_record([*before, asked, answered], None, meta_of(row, used), notes)

    return convert


def _question(row: dict[str, Any]) -> Any:
    """Instruction and input, joined by a newline where neither is empty."""
    instruction, more = row["instruction"], row.get("input")
    if more is None or more == "":
        return instruction
    if type(more) is not str:
        raise RowProblem("wrong-type", f"input: {excerpt(more)}")
    if instruction is None or instruction == "":
        return more
    if type(instruction) is not str:
        raise RowProblem("wrong-type", f"instruction: {excerpt(instruction)}")
    return f"{instruction}\n{more}"


def _system(row: dict[str, Any]) -> list[Message]:
    system = row.get("system")
    return [plain_message("system", system, "system")] if system not in (None, "") else []


def _history(value: Any, notes: list[Note]) -> list[Message]:
    """Earlier turns: pairs as lists or objects, or a list of messages.

    Raises RowProblem `wrong-type` for any other shape.
    """
    if value in (None, "", [], {}):
        return []
    if type(value) is not list:
        raise RowProblem("wrong-type", f"history: {excerpt(value)}")
    turns: list[Message] = []
    for number, item in enumerate(value):
        where = f"history[{number}]"
        if type(item) is dict and "role" in item:
            turns.append(full_message(item, "role", "content", where, notes))
            continue
        asked, answered = _pair(item, where)
        turns += [plain_message("user", asked, where), plain_message("assistant", answered, where)]
    return turns


def _pair(item: Any, where: str) -> tuple[Any, Any]:
    if type(item) is list and len(item) == 2:
        return item[0], item[1]
    if type(item) is dict:
        for user, assistant in _PAIR_KEYS:
            if user in item and assistant in item:
                return item[user], item[assistant]
    raise RowProblem("wrong-type", f"{where}: {excerpt(item)}")


LAYOUT = Layout("alpaca", _recognise, "columns instruction and output", "sft", _fit)
