"""A conversation with one or two who answer, each with a history of its own, and how it is kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from finetui.chat.said import Answer, Message, conversation
from finetui.chat.settings import Sampling


@dataclass
class Turn:
    """A question and what was answered."""

    question: str
    answer: Answer | None = None
    """None while it is not there, or where it failed."""


@dataclass
class Side:
    """What has been said with one of them."""

    turns: list[Turn] = field(default_factory=list)

    def messages(self, system: str) -> list[Message]:
        """Everything so far as messages; a question without an answer only at the end."""
        found = conversation("", system)[:-1]
        for turn in self.turns:
            if turn.answer is None and turn is not self.turns[-1]:
                continue
            found.append({"role": "user", "content": turn.question})
            if turn.answer is not None:
                found.append({"role": "assistant", "content": turn.answer.text})
        return found

    def asked(self, system: str) -> list[Message]:
        """What was sent for the last answer."""
        messages = self.messages(system)
        return messages[:-1] if messages and messages[-1]["role"] == "assistant" else messages

    def waits(self) -> bool:
        """Whether the last question has no answer."""
        return bool(self.turns) and self.turns[-1].answer is None

    def copy(self) -> Side:
        """The same words, to be gone on with elsewhere."""
        return Side([Turn(turn.question, turn.answer) for turn in self.turns])


def as_rows(sides: Sequence[Side], system: str) -> str:
    """A line of JSON for each side in the messages form of training data; what was not answered is left out."""
    rows = []
    for side in sides:
        answered = Side([turn for turn in side.turns if turn.answer is not None])
        if answered.turns:
            rows.append(json.dumps({"messages": answered.messages(system)}, ensure_ascii=False) + "\n")
    return "".join(rows)


def as_markdown(sides: Sequence[tuple[str, Side]], system: str, sampling: Sampling) -> str:
    """The conversation to be read, with the name of each side; the words of both in fences that none of them closes."""
    settings = ", ".join(f"{name} {value}" for name, value in asdict(sampling).items())
    parts = [f"# {' · '.join(name for name, _ in sides)}", settings]
    if system:
        parts += ["## system", _fenced(system)]
    for number in range(max((len(side.turns) for _, side in sides), default=0)):
        turns = [(name, side.turns[number]) for name, side in sides if number < len(side.turns)]
        parts += [f"## {number + 1}", _fenced(turns[0][1].question)]
        for name, turn in turns:
            if (answer := turn.answer) is not None:
                facts = f"{answer.tokens} tokens, {answer.tokens_per_second:.1f} tokens/s, {answer.stop_reason}"
                parts += [f"### {name}", _fenced(answer.text), facts]
    return "\n\n".join(parts) + "\n"


def save(path: Path, sides: Sequence[tuple[str, Side]], system: str, sampling: Sampling) -> list[Path]:
    """Add the conversation to a file: rows for `.jsonl`, a text to be read for `.md`, both for a name without either.

    Raises OSError where one cannot be written.
    """
    written = {
        ".jsonl": as_rows([side for _, side in sides], system),
        ".md": as_markdown(sides, system, sampling),
    }
    given = path.suffix.lower()
    kinds = [given] if given in written else list(written)
    paths = [path if kind == given else path.with_name(path.name + kind) for kind in kinds]
    path.parent.mkdir(parents=True, exist_ok=True)
    for place, kind in zip(paths, kinds, strict=True):
        with place.open("a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(written[kind])
    return paths


def _fenced(text: str) -> str:
    longest = run = 0
    for character in text:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"
