"""Layout `preference`: a chosen and a rejected answer to one prompt, which may be a column, or what both begin with."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from finetui.data.formats.chat import Message, check_turns, plain_message
from finetui.data.formats.layout import Adapter, Convert, Layout
from finetui.data.formats.lead import Lead, answer_begins, finished, is_turns, is_whole, lead_of
from finetui.data.formats.markers import FAMILIES, Family, family_of, turns_of
from finetui.data.formats.prompt_completion import said_by
from finetui.data.formats.rows import checked, unfit
from finetui.data.problems import Note, RowProblem, Saying

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
_CONSTANT = "chosen = rejected"


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
    chosen, rejected = pairs.most_common(1)[0][0] if pairs else PAIRED[0]
    lead = lead_of(rows, (chosen, rejected))
    mapping = {**lead.mapping(), "chosen": chosen, "rejected": rejected}
    if chosen == rejected:
        mapping |= {"chosen": f"{chosen}[0]", "rejected": f"{chosen}[1]"}
    shown = ", ".join((*lead.columns, *dict.fromkeys((chosen, rejected))))
    code = "detect.cue-preference" if lead.column else "detect.cue-preference-implicit"
    return Adapter(mapping, Saying(code, {"columns": shown}), _converter(lead, chosen, rejected))


def _converter(lead: Lead, better: str, worse: str) -> Convert:
    used = frozenset({*lead.columns, better, worse})

    def convert(row: Any, notes: list[Note]) -> dict[str, Any]:
        row = checked(row, (better, worse))
        prompt, chosen, rejected = _parts(row, lead, better, worse, notes)
        check_turns([*prompt, *chosen], notes)
        if not any(message["role"] == "assistant" for message in rejected):
            raise RowProblem("no-assistant", worse)
        if chosen == rejected:
            notes.append(("no-trained-token", _CONSTANT))
        return finished({"prompt": prompt, "chosen": chosen, "rejected": rejected}, row, lead, used)

    return convert


def _parts(
    row: dict[str, Any], lead: Lead, better: str, worse: str, notes: list[Note]
) -> tuple[list[Message], list[Message], list[Message]]:
    """Prompt, better and worse answer of a row.

    Raises RowProblem where a part is to be set aside.
    """
    first, second = row[better], row[worse]
    if better == worse:
        if type(first) is not list or len(first) != 2:
            raise unfit(first, better)
        first, second = first
    asked = lead.value(row)
    if asked is None and type(first) is str and type(second) is str:
        told = [_turns(text) for text in (first, second)]
        if not all(told):
            return _split_text(first, second, better, worse)
        first, second = told
    chosen, rejected = said_by("assistant", first, better, notes), said_by("assistant", second, worse, notes)
    if asked is None and (is_whole(chosen) or is_whole(rejected)):
        return split_pair([], chosen, rejected)
    if type(asked) is str and asked.lstrip().startswith(_HH) and (before := _turns(asked)) and before[-1] == _OPEN:
        return split_pair(said_by("user", before[:-1], str(lead.column), notes), chosen, rejected)
    return split_pair(lead.messages(row, notes), chosen, rejected)


def split_pair(
    prompt: list[Message], chosen: list[Message], rejected: list[Message]
) -> tuple[list[Message], list[Message], list[Message]]:
    """Prompt and answers, where either answer may be a whole conversation with the prompt in it.

    What both conversations begin with, in whole messages, is the prompt; it outweighs a prompt of its own, but for
    system messages and earlier turns that only that one has.

    Raises RowProblem `missing-key` where the two share no question.
    """
    if is_whole(chosen) and is_whole(rejected):
        shared = _shared(chosen, rejected)
        if not any(message["role"] == "user" for message in chosen[:shared]):
            raise RowProblem("missing-key", "prompt (chosen and rejected share no question)")
        return _joined(prompt, chosen[:shared]), chosen[shared:], rejected[shared:]
    if is_whole(chosen):
        begins = answer_begins(chosen, "chosen")
        return _joined(prompt, chosen[:begins]), chosen[begins:], rejected
    if is_whole(rejected):
        begins = answer_begins(rejected, "rejected")
        return _joined(prompt, rejected[:begins]), chosen, rejected[begins:]
    if not prompt:
        raise RowProblem("missing-key", "prompt")
    return prompt, chosen, rejected


def _shared(one: list[Message], other: list[Message]) -> int:
    """How many messages two conversations begin with alike, each keeping its last answer."""
    most = min(len(one), len(other)) - 1
    return next((at for at in range(most) if one[at] != other[at]), most)


def _joined(prompt: list[Message], shared: list[Message]) -> list[Message]:
    """The shared messages with what a prompt of its own has before them."""
    if prompt[-len(shared) :] == shared:
        return prompt
    if shared[0]["role"] == "system":
        return shared
    return [message for message in prompt if message["role"] == "system"] + shared


def _split_text(first: str, second: str, better: str, worse: str) -> tuple[list[Message], list[Message], list[Message]]:
    """Two texts that begin alike, parted at the last space before they differ, which goes with the answers."""
    alike = first[: _alike(first, second)]
    space = alike.rfind(" ", 1)
    at = space if space > 0 else len(alike)
    if not first[:at].strip():
        raise RowProblem("missing-key", "prompt (chosen and rejected begin differently)")
    prompt: list[Message] = [{"role": "user", "content": first[:at]}]
    return prompt, [plain_message("assistant", first[at:], better)], [plain_message("assistant", second[at:], worse)]


def _opens(text: str, family: Family) -> bool:
    """Whether a marker of the family is the first sign of a text."""
    marker = family.marker.search(text, 0, _OPENING)
    return marker is not None and not text[: marker.start()].strip()


def _alike(first: str, second: str) -> int:
    """How many characters two texts begin with alike, found by halves."""
    least, most = 0, min(len(first), len(second))
    while least < most:
        middle = (least + most + 1) // 2
        if first[least:middle] == second[least:middle]:
            least = middle
        else:
            most = middle - 1
    return least


def _turns(text: str) -> list[Any]:
    """The messages of a text that is a chat from its first sign on: rendered as Anthropic's HH is, or as JSON.

    Nothing where it is none.
    """
    if text[:1] == "[":
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return []
        return value if is_turns(value) else []
    opening = next((family for family in FAMILIES if _opens(text, family)), None)
    family = family_of(text, opening) if opening else None
    if family is None or family is not opening:
        return []
    try:
        return [{"role": turn.role, "content": turn.text} for turn in turns_of(text, family)]
    except ValueError:
        return []


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
