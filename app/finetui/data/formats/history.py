"""Earlier turns and pairs of turns, in every shape that layouts of columns hold them in."""

from __future__ import annotations

import ast
import json
from typing import Any

from finetui.data.formats.chat import Message, full_message, plain_message
from finetui.data.formats.content import EMPTY
from finetui.data.problems import REPAIRED, Note, RowProblem, excerpt

PAIR_KEYS = (
    ("human", "assistant"), ("user", "assistant"), ("input", "output"), ("instruction", "output"),
    ("instruction", "response"), ("query", "response"), ("prompt", "response"), ("question", "answer"),
)  # fmt: skip
"""The keys that a question and its answer bear where they stand together in one object."""
_LONGEST_LITERAL = 1 << 20


def pair_keys(item: Any) -> tuple[str, str] | None:
    """The keys of a question and its answer in one object, or None."""
    if type(item) is not dict:
        return None
    return next((keys for keys in PAIR_KEYS if keys[0] in item and keys[1] in item), None)


def pair_turns(user: Any, assistant: Any, where: str) -> list[Message]:
    """A question and its answer as two messages.

    Raises RowProblem where one of them is empty or no text.
    """
    return [plain_message("user", user, where), plain_message("assistant", assistant, where)]


def aligned_turns(users: Any, assistants: Any, where: str) -> list[Message]:
    """The messages of questions and answers that stand in two lists of one length.

    Raises RowProblem `wrong-type` where they are none.
    """
    if type(users) is not list or type(assistants) is not list or len(users) != len(assistants):
        raise RowProblem("wrong-type", f"{where}: {excerpt(users)} / {excerpt(assistants)}")
    pairs = zip(users, assistants, strict=True)
    return [turn for number, (user, said) in enumerate(pairs) for turn in pair_turns(user, said, f"{where}[{number}]")]


def history_of(value: Any, notes: list[Note]) -> list[Message]:
    """Earlier turns: pairs as lists or objects, two lists side by side, texts by turns, or a list of messages.

    Raises RowProblem `wrong-type` for any other shape.
    """
    if type(value) is str and value:
        value = _literal(value, notes)
    if value in EMPTY:
        return []
    if keys := pair_keys(value):
        return aligned_turns(value[keys[0]], value[keys[1]], "history")
    if type(value) is not list:
        raise RowProblem("wrong-type", f"history: {excerpt(value)}")
    if len(value) % 2 == 0 and all(type(item) is str for item in value):
        return aligned_turns(value[::2], value[1::2], "history")
    turns: list[Message] = []
    for number, item in enumerate(value):
        where = f"history[{number}]"
        if type(item) is dict and "role" in item:
            turns.append(full_message(item, "role", "content", where, notes))
        elif type(item) is list and len(item) == 2:
            turns += pair_turns(item[0], item[1], where)
        elif keys := pair_keys(item):
            turns += pair_turns(item[keys[0]], item[keys[1]], where)
        else:
            raise RowProblem("wrong-type", f"{where}: {excerpt(item)}")
    return turns


def _literal(text: str, notes: list[Note]) -> Any:
    """A list that a table holds as text, as JSON or as Python writes it.

    Raises RowProblem `wrong-type`.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(text[:_LONGEST_LITERAL])
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise RowProblem("wrong-type", f"history: {excerpt(text)}") from error
    notes.append((REPAIRED, "history"))
    return value
