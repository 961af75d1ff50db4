"""Layout `preference`: a chosen and a rejected answer to one prompt, which may be a column, or what both begin with."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finetui.data.formats.chat import Message, check_turns, plain_message
from finetui.data.formats.layout import Adapter, Layout
from finetui.data.formats.lead import Lead, finished, is_turns, is_whole, lead_of
from finetui.data.formats.markers import FAMILIES, Family, family_of, turns_of
from finetui.data.formats.parting import Parted, part_chats, part_texts
from finetui.data.formats.prompt_completion import said_by
from finetui.data.formats.rows import checked
from finetui.data.problems import Note, RowProblem, Saying, unfit

PAIRED = (
    ("chosen", "rejected"),
    ("chosen_messages", "rejected_messages"),
    ("chosen_conversations", "rejected_conversations"),
    ("chosen_response", "rejected_response"),
    ("response_j", "response_k"),
    ("preferred_output", "non_preferred_output"),
    ("messages", "rejected_messages"),
    ("messages", "rejected_response"),
    ("response", "rejected_response"),
)
"""The columns of the better and the worse answer, under every name they come in."""
_BOTH = "output"
"""The column of LLaMA-Factory's older files that holds the better and the worse answer as a list of two."""
_HH = "Human:"
"""What a prompt of Anthropic's HH begins with."""
_OPENING = 64
"""Characters in which the first marker of a rendered chat ends."""
_OPEN = {"role": "assistant", "content": ""}
"""The last turn of a rendered prompt that leaves the word to the answers."""


def _pair_of(row: Any) -> tuple[str, str] | None:
    """The columns of a row's two answers; the same one twice where it holds both."""
    if type(row) is not dict:
        return None
    for pair in PAIRED:
        if all(column in row for column in pair) and any(row[column] is not None for column in pair):
            return pair
    both = row.get(_BOTH)
    if type(both) is list and len(both) == 2 and type(row.get("input")) is not list:
        return (_BOTH, _BOTH) if all(type(answer) is str for answer in both) else None
    return None


def _fit(rows: Sequence[Any]) -> Adapter:
    pairs = Counter(pair for row in rows if (pair := _pair_of(row)))
    better, worse = pairs.most_common(1)[0][0] if pairs else PAIRED[0]
    lead = lead_of(rows, (better, worse))
    mapping = {**lead.mapping(), "chosen": better, "rejected": worse}
    if better == worse:
        mapping |= {"chosen": f"{better}[0]", "rejected": f"{better}[1]"}
    shown = ", ".join((*lead.columns, *dict.fromkeys((better, worse))))
    code = "detect.cue-preference" if lead.column else "detect.cue-preference-implicit"
    texts = [row.get(column) for row in rows if type(row) is dict for column in (lead.column, better)]
    openings = Counter(_opening(text, FAMILIES) for text in texts if type(text) is str)
    families = tuple(family for family, _ in openings.most_common() if family)
    return Adapter(mapping, Saying(code, {"columns": shown}), _Pair(lead, better, worse, families).convert)


@dataclass(frozen=True)
class _Pair:
    """The columns of a prompt and two answers, and the markers that texts among them begin with, if any."""

    lead: Lead
    better: str
    worse: str
    families: tuple[Family, ...]

    def convert(self, row: Any, notes: list[Note]) -> dict[str, Any]:
        """A row as a `preference` record.

        Raises RowProblem where it is to be set aside.
        """
        row = checked(row, (self.better, self.worse))
        prompt, chosen, rejected = self._parts(row, notes)
        check_turns([*prompt, *chosen], notes)
        if not any(message["role"] == "assistant" for message in rejected):
            raise RowProblem("no-assistant", self.worse)
        if chosen == rejected:
            notes.append(("no-trained-token", f"{self.better} = {self.worse}"))
        used = frozenset({*self.lead.columns, self.better, self.worse})
        return finished({"prompt": prompt, "chosen": chosen, "rejected": rejected}, row, self.lead, used)

    def _parts(self, row: dict[str, Any], notes: list[Note]) -> Parted:
        first, second = self._answers(row)
        asked = self.lead.value(row)
        if asked is None and type(first) is str and type(second) is str:
            told = [self._turns(text) for text in (first, second)]
            if not all(told):
                prompt, first, second = part_texts(first, second)
                return [plain_message("user", prompt, self.better)], *self._said(first, second, notes)
            first, second = told
        chosen, rejected = self._said(first, second, notes)
        if asked is None and (is_whole(chosen) or is_whole(rejected)):
            return part_chats([], chosen, rejected)
        if type(asked) is str and asked.lstrip().startswith(_HH) and (turns := self._turns(asked))[-1:] == [_OPEN]:
            return part_chats(said_by("user", turns[:-1], str(self.lead.column), notes), chosen, rejected)
        return part_chats(self.lead.messages(row, notes), chosen, rejected)

    def _answers(self, row: dict[str, Any]) -> tuple[Any, Any]:
        if self.better != self.worse:
            return row[self.better], row[self.worse]
        both = row[self.better]
        if type(both) is not list or len(both) != 2:
            raise unfit(both, self.better)
        return both[0], both[1]

    def _said(self, first: Any, second: Any, notes: list[Note]) -> tuple[list[Message], list[Message]]:
        better, worse = said_by("assistant", first, self.better, notes), said_by("assistant", second, self.worse, notes)
        return better, worse

    def _turns(self, text: str) -> list[Any]:
        """The messages of a text that is a chat from its first sign on: rendered as Anthropic's HH is, or as JSON.

        Nothing where it is none.
        """
        if text[:1] == "[":
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                return []
            return value if is_turns(value) else []
        opening = _opening(text, self.families)
        if opening is None or family_of(text, opening) is not opening:
            return []
        try:
            return [{"role": turn.role, "content": turn.text} for turn in turns_of(text, opening)]
        except ValueError:
            return []


def _opening(text: str, families: Sequence[Family]) -> Family | None:
    """The family that has a marker as the first sign of a text."""
    for family in families:
        marker = family.marker.search(text, 0, _OPENING)
        if marker and not text[: marker.start()].strip():
            return family
    return None


def _fit_chosen(rows: Sequence[Any]) -> Adapter:
    """The prompt with its better answer as a chat."""
    fitted = _fit(rows)

    def convert(row: Any, notes: list[Note]) -> dict[str, Any]:
        record = fitted.convert(row, notes)
        messages = {"messages": record.pop("prompt") + record.pop("chosen")}
        del record["rejected"]
        return messages | record

    return Adapter(fitted.mapping, fitted.cue, convert)


LAYOUT = Layout(
    "preference",
    lambda row: _pair_of(row) is not None,
    "dpo",
    _fit,
    {"rm": _fit, "orpo": _fit, "sft": _fit_chosen},
)
