"""Layout `prompts`: questions without answers, for online reinforcement learning; the other columns go to meta."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from finetui.data.formats.chat import meta_of
from finetui.data.formats.feedback import ANSWERS
from finetui.data.formats.layout import Adapter, Layout
from finetui.data.formats.lead import CONVERSATIONS, QUESTIONS, Lead, is_turns, lead_of
from finetui.data.formats.roles import ROLES
from finetui.data.formats.rows import checked
from finetui.data.problems import Note, RowProblem, Saying

REFERENCES = ("answer", "solution", "ground_truth", "reference", "final_answer", "target")
"""Columns that a reward is computed from, beside a prompt."""
_ANSWERED = frozenset(
    {*ANSWERS, "generation", "generations", "text", "turns", "chosen", "rejected", "instances", "completions"}
)
_SPOKEN = re.compile(r"response|completion|output|reply|generat|summary|translation", re.IGNORECASE)
"""Names of columns that somebody answers in."""
_SHORT = 200
"""Characters of a text that is more likely a label than another part of a conversation."""
_BARE = "[row]"
"""Stands for the column of a row that is itself the list of messages."""


def _is_unanswered(row: Any) -> bool:
    """Whether a row has messages, and nobody but a user or a system speaks in them."""
    if is_turns(row):
        return not _answers(row)
    if type(row) is not dict:
        return False
    chats = [row[column] for column in CONVERSATIONS if is_turns(row.get(column))]
    return bool(chats) and not any(_answers(chat) for chat in chats)


def _answers(turns: list[Any]) -> bool:
    spoken = (turn.get("role", turn.get("from")) for turn in turns)
    return any(ROLES.get(str(name).strip().lower()) not in ("user", "system") for name in spoken)


def _is_prompt(row: Any) -> bool:
    """Whether a row has a question, and no other column that could be an answer."""
    if type(row) is not dict:
        return False
    asked = next((column for column in QUESTIONS[:-1] if _is_question(row.get(column))), None)
    spared = REFERENCES if asked == "prompt" else ()
    if asked is None or any(row.get(column) is not None for column in _ANSWERED.difference(spared)):
        return False
    others = ((name, said) for name, said in row.items() if name not in (asked, *spared, "system", "input"))
    return not any(type(said) is str and (len(said) > _SHORT or _SPOKEN.search(name)) for name, said in others)


def _is_question(value: Any) -> bool:
    return (type(value) is str and bool(value)) or is_turns(value)


def _fit(rows: Sequence[Any]) -> Adapter:
    bare = any(is_turns(row) for row in rows)
    lead = Lead(_BARE) if bare else lead_of(rows, ())
    column = lead.column or "prompt"
    used = frozenset(lead.columns)

    def convert(row: Any, notes: list[Note]) -> dict[str, Any]:
        row = checked({_BARE: row} if bare and type(row) is list else row, (column,))
        prompt = lead.messages(row, notes)
        if not prompt:
            raise RowProblem("null-content", column)
        if column != "prompt" and prompt[-1]["role"] == "assistant":
            raise RowProblem("missing-key", f"prompt ({column} ends in an answer)")
        if not any(message["role"] == "user" for message in prompt):
            notes.append(("no-user", f"{column}: {len(prompt)}"))
        record: dict[str, Any] = {"prompt": prompt}
        if meta := meta_of(row, used):
            record["meta"] = meta
        return record

    shown = Saying("detect.cue-prompts", {"columns": ", ".join(lead.columns) or column})
    return Adapter(lead.mapping() or {"prompt": column}, shown, convert)


UNANSWERED = Layout("prompts", _is_unanswered, None, _fit)
LAYOUT = Layout("prompts", _is_prompt, None, _fit)
