"""Where the prompt of two answers ends, when both begin with it: after whole messages, or before a word."""

from __future__ import annotations

from finetui.data.formats.chat import Message
from finetui.data.formats.lead import answer_begins, is_whole
from finetui.data.problems import RowProblem

Parted = tuple[list[Message], list[Message], list[Message]]
"""The prompt, the better answer and the worse one."""


def part_chats(prompt: list[Message], chosen: list[Message], rejected: list[Message]) -> Parted:
    """Prompt and answers, where either answer may be a whole conversation with the prompt in it.

    What both conversations begin with, in whole messages, is the prompt; it outweighs a prompt of its own, but for
    system messages and earlier turns that only that one has.

    Raises RowProblem `missing-key` where the two share no question, `no-assistant` where one has no answer.
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


def part_texts(first: str, second: str) -> tuple[str, str, str]:
    """Two texts that begin alike, parted at the last space before they differ, which goes with the answers.

    Raises RowProblem `missing-key` where they begin differently.
    """
    alike = first[: _alike(first, second)]
    space = alike.rfind(" ", 1)
    at = space if space > 0 else len(alike)
    if not first[:at].strip():
        raise RowProblem("missing-key", "prompt (chosen and rejected begin differently)")
    return first[:at], first[at:], second[at:]


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
