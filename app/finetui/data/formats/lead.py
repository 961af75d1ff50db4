"""What stands before an answer that is rated or compared: the columns that lead up to it, and where it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finetui.data.formats.chat import SYSTEM, Message, meta_of, plain_message
from finetui.data.formats.columns import joined
from finetui.data.formats.content import EMPTY
from finetui.data.formats.history import history_of
from finetui.data.formats.prompt_completion import are_messages, said_by
from finetui.data.formats.rows import missing
from finetui.data.formats.tools import tools_of
from finetui.data.problems import Note, RowProblem

CONVERSATIONS = ("messages", "conversations", "conversation", "dialogue")
QUESTIONS = ("prompt", "question", "query", "instruction", "input")
_MORE = {"instruction": ("input", "context")}


@dataclass(frozen=True)
class Lead:
    """The columns before an answer: a conversation or a question, a system prompt, earlier turns."""

    column: str | None
    more: str | None = None
    system: str | None = None
    history: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(filter(None, (self.column, self.more, self.system, self.history)))

    def mapping(self) -> dict[str, str]:
        """As the lock keeps it."""
        asked = " + ".join(filter(None, (self.column, self.more)))
        parts = {"prompt": asked, "system": self.system, "history": self.history}
        return {part: column for part, column in parts.items() if column}

    def messages(self, row: dict[str, Any], notes: list[Note]) -> list[Message]:
        """What a row says before its answer; nothing where no column leads.

        Raises RowProblem where a part is to be set aside.
        """
        if self.column is None:
            return []
        if self.column not in row:
            raise missing(self.column, row)
        said = row.get(self.system) if self.system else None
        before = [plain_message("system", said, str(self.system))] if said not in EMPTY else []
        before += history_of(row.get(self.history), notes) if self.history else []
        asked = self.value(row)
        if type(asked) is str or asked is None:
            return [*before, plain_message("user", joined(row, self.column, self.more), self.column)]
        return before + said_by("user", asked, self.column, notes)

    def value(self, row: dict[str, Any]) -> Any:
        """What stands in the leading column: a text, messages, or the messages inside an object of theirs."""
        asked = row.get(self.column) if self.column else None
        return asked["messages"] if type(asked) is dict and type(asked.get("messages")) is list else asked


def lead_of(rows: Sequence[Any], answers: Sequence[str]) -> Lead:
    """The leading columns of sampled rows, where `answers` names those of the answer."""
    held = {key for row in rows if type(row) is dict for key, value in row.items() if value not in EMPTY}
    held -= set(answers)
    column = next((key for key in ("prompt", *CONVERSATIONS, *QUESTIONS) if key in held), None)
    more = next((key for key in _MORE.get(column or "", ()) if key in held), None)
    system = next((key for key in SYSTEM if key in held), None)
    return Lead(column, more, system, "history" if "history" in held else None)


def finished(record: dict[str, Any], row: dict[str, Any], lead: Lead, used: frozenset[str]) -> dict[str, Any]:
    """The record with the row's tools and its other columns under meta, where there are any.

    Raises RowProblem `bad-tool-json`.
    """
    inside = row.get(lead.column) if lead.column else None
    tools = row.get("tools") or row.get("functions") or (inside.get("tools") if type(inside) is dict else None)
    if tools and (defined := tools_of(tools, "tools")):
        record["tools"] = defined
    if meta := meta_of(row, used | {"tools", "functions"}):
        record["meta"] = meta
    return record


def answer_begins(messages: Sequence[Message], where: str = "messages") -> int:
    """Where the last answer of a conversation begins: after the last message that is not the assistant's.

    Raises RowProblem `no-assistant` where it does not end in an answer.
    """
    at = len(messages)
    while at and messages[at - 1]["role"] == "assistant":
        at -= 1
    if at == len(messages):
        raise RowProblem("no-assistant", f"{where}: {messages[-1]['role'] if messages else '[]'}")
    return at


def is_whole(messages: Sequence[Message]) -> bool:
    """Whether messages begin with a system prompt or a question, so that they are more than an answer."""
    return bool(messages) and messages[0]["role"] in ("system", "user")


def is_turns(value: Any) -> bool:
    """Whether a raw value is a list of messages."""
    return type(value) is list and are_messages(value)
