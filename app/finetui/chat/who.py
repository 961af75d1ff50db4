"""Those who answer, as a conversation sees them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from finetui.chat.said import Answer, Message
from finetui.chat.settings import Sampling

BASE, TUNED, CHECKPOINT, MODEL, ENDPOINT = "base", "tuned", "checkpoint", "model", "endpoint"
"""The kinds of those who answer."""


@dataclass(frozen=True)
class Who:
    """Somebody who can answer; `chat.who-KIND` says it in words."""

    kind: str
    """`base` and `tuned` of a run or an adapter, `checkpoint` of a run, `model`, `endpoint`."""
    reference: str
    """What `resolve` takes; of an endpoint its address, a blank and its model."""
    name: str
    """Of the run, adapter, or model; foreign text."""
    step: int = 0
    """Of a checkpoint."""

    @property
    def facts(self) -> dict[str, object]:
        """What fills the words."""
        return {"name": self.name, "step": self.step}


@dataclass(frozen=True)
class Piece:
    """One token as a model sees it, or another part of what is sent and comes back."""

    text: str
    """Foreign text."""
    special: bool = False
    """Whether it stands for no text of anybody's: `<|im_end|>`."""
    answered: bool = False
    """Whether the model made it."""


class Lane(Protocol):
    """What answers one question at a time: a worker with its model, or a connection."""

    def alive(self) -> bool:
        """Whether it can be asked again."""

    def kill(self) -> None:
        """End it at once, from any thread."""

    def close(self) -> None:
        """End it."""


class Speaker(Protocol):
    """One of those who answer."""

    @property
    def who(self) -> Who:
        """Who it is."""

    @property
    def lane(self) -> Lane:
        """What it answers through; those who share one answer one after another."""

    def ask(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        on_text: Callable[[str], None],
        stopped: Callable[[], bool],
    ) -> Answer:
        """Answer a conversation; `on_text` gets the words as they come.

        Raises FinetuiError where it cannot.
        """

    def stop(self) -> None:
        """End the answer under way, which comes back `cancelled`. For other threads."""

    def raw(self, messages: Sequence[Message], answer: Answer | None) -> list[Piece]:
        """What is sent for these messages and what came back, as it is.

        Raises FinetuiError where the template refuses the messages.
        """
