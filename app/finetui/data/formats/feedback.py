"""Layout `feedback`: an answer, rated good or bad by a boolean `label` or `kto_tag`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from finetui.data.formats.chat import Message, check_turns
from finetui.data.formats.layout import Adapter, Convert, Layout
from finetui.data.formats.lead import (
    CONVERSATIONS,
    Lead,
    answer_begins,
    finished,
    is_turns,
    is_whole,
    lead_of,
)
from finetui.data.formats.prompt_completion import said_by
from finetui.data.formats.rows import checked
from finetui.data.problems import Note, RowProblem, Saying, unfit

LABELS = ("label", "kto_tag")
ANSWERS = ("completion", "response", "output", "answer")
_WORDS = {"true": True, "false": False}
_NUMBERS = {1: True, 0: False}


def _label_of(row: Any) -> str | None:
    """The column that rates an answer true or false, by word where everything is a string."""
    if type(row) is not dict or not _has_answer(row):
        return None
    return next((column for column in LABELS if _truth(row.get(column), _WORDS) is not None), None)


def _has_answer(row: dict[str, Any]) -> bool:
    return any(row.get(column) is not None for column in ANSWERS) or any(is_turns(row.get(c)) for c in CONVERSATIONS)


def _truth(value: Any, words: dict[Any, bool]) -> bool | None:
    if type(value) is bool:
        return value
    word = value.strip().lower() if type(value) is str else value
    return words.get(word) if type(word) in (str, int) else None


def _fit(rows: Sequence[Any]) -> Adapter:
    held = Counter(column for row in rows if type(row) is dict for column in row if row[column] is not None)
    label = max(LABELS, key=lambda column: held[column])
    answer = next((column for column in ANSWERS if column in held), None)
    lead = lead_of(rows, tuple(filter(None, (label, answer))))
    if answer is None or (lead.column in CONVERSATIONS and answer != "completion"):
        answer = lead.column or "messages"
    said = {"messages": answer} if answer == lead.column else {**lead.mapping(), "completion": answer}
    mapping = {**said, "label": label}
    shown = ", ".join(dict.fromkeys((*lead.columns, answer, label)))
    # whole numbers are classes unless the user says otherwise, and then no row has a truth value
    known = any(type(row) is dict and _truth(row.get(label), _WORDS) is not None for row in rows)
    words: dict[Any, bool] = dict(_WORDS) if known else {**_WORDS, **_NUMBERS, "1": True, "0": False}
    return Adapter(mapping, Saying("detect.cue-feedback", {"columns": shown}), _converter(lead, answer, label, words))


def _converter(lead: Lead, answer: str, label: str, words: dict[Any, bool]) -> Convert:
    used = frozenset({*lead.columns, answer, label})

    def convert(row: Any, notes: list[Note]) -> dict[str, Any]:
        row = checked(row, (answer, label))
        rated = _truth(row[label], words)
        if rated is None:
            raise unfit(row[label], label)
        prompt, completion = _parts(row, lead, answer, notes)
        check_turns([*prompt, *completion], notes)
        return finished({"prompt": prompt, "completion": completion, "label": rated}, row, lead, used)

    return convert


def _parts(row: dict[str, Any], lead: Lead, answer: str, notes: list[Note]) -> tuple[list[Message], list[Message]]:
    """Prompt and rated answer of a row.

    Raises RowProblem where a part is to be set aside.
    """
    if answer == lead.column:
        messages = lead.messages(row, notes)
        begins = answer_begins(messages, answer)
        prompt, completion = messages[:begins], messages[begins:]
    else:
        completion = said_by("assistant", row[answer], answer, notes)
        if is_whole(completion):
            begins = answer_begins(completion, answer)
            prompt, completion = completion[:begins], completion[begins:]
        else:
            prompt = lead.messages(row, notes)
    if not prompt:
        raise RowProblem("missing-key", "prompt")
    return prompt, completion


LAYOUT = Layout("feedback", lambda row: _label_of(row) is not None, "kto", _fit)
