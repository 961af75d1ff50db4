"""Layout `prompt-completion`: a prompt and its completion, each plain text or messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetui.data.formats.chat import Message, chat_record, full_message, meta_of, plain_message, system_of
from finetui.data.formats.columns import BESIDE, beside_of
from finetui.data.formats.layout import Adapter, Layout
from finetui.data.formats.rows import checked
from finetui.data.problems import Note, RowProblem, Saying

_SPEAKERS = (("role", "content"), ("from", "value"))


def are_messages(value: Any) -> bool:
    """Whether a value is a message or a list of messages, in either vocabulary."""
    items = value if type(value) is list else [value]
    return bool(items) and all(type(item) is dict and any(keys[0] in item for keys in _SPEAKERS) for item in items)


def said_by(role: str, value: Any, where: str, notes: list[Note]) -> list[Message]:
    """The messages of a column: plain text is said by `role`, messages by whom they name.

    Raises RowProblem where one of them is to be set aside.
    """
    if type(value) is dict:
        value = [value]
    if type(value) is not list:
        return [plain_message(role, value, where)]
    said: list[Message] = []
    for number, item in enumerate(value):
        speaker, content = _SPEAKERS[1] if type(item) is dict and "from" in item else _SPEAKERS[0]
        said.append(full_message(item, speaker, content, f"{where}[{number}]", notes))
    return said


def fit_prompt(rows: Sequence[Any], question: str, answer: str) -> Adapter:
    """The adapter for two columns that hold text or messages."""
    used = frozenset({question, answer, *BESIDE})

    def convert(row: Any, notes: list[Note]) -> dict[str, Any]:
        row = checked(row, (question, answer))
        asked = said_by("user", row[question], question, notes)
        answered = said_by("assistant", row[answer], answer, notes)
        if not any(message["role"] == "assistant" for message in answered):
            raise RowProblem("no-assistant", answer)
        return chat_record([*system_of(row), *asked, *answered], row.get("tools"), meta_of(row, used), notes)

    mapping = {"user": question, "assistant": answer, **beside_of(rows)}
    return Adapter(mapping, Saying("data.cue-columns", {"columns": ", ".join(mapping.values())}), convert)


def _recognise(row: Any) -> bool:
    return type(row) is dict and "prompt" in row and "completion" in row


def _fit(rows: Sequence[Any]) -> Adapter:
    return fit_prompt(rows, "prompt", "completion")


LAYOUT = Layout("prompt-completion", _recognise, "sft", _fit)
