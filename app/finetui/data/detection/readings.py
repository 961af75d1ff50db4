"""Other readings of the same data, and what the user is asked about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from finetui.data.problems import Saying


@dataclass(frozen=True)
class Option:
    """One answer to a question, and the flags that give it."""

    value: str
    label: Saying
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """What the user is asked, where the data alone does not tell."""

    id: str
    text: Saying
    options: tuple[Option, ...]
    """The default first."""

    def to_json(self) -> dict[str, Any]:
        """The question as `--json` prints it."""
        options = [{"value": o.value, "label": o.label.text("en"), "flags": list(o.flags)} for o in self.options]
        return {"id": self.id, "text": self.text.text("en"), "options": options, "default": self.options[0].value}


@dataclass(frozen=True)
class Other:
    """Another reading of the same rows: its layout, why it was not taken, and the flags that take it."""

    format: str
    why: Saying
    flags: tuple[str, ...] = ()
    weight: float = 0.0
    """How likely it is beside the one taken: 0 not at all, 1 as likely."""


@dataclass(frozen=True)
class Doubt:
    """What one look at the rows brought to light."""

    told: tuple[Saying, ...] = ()
    other: Other | None = None
    question: Question | None = None


@dataclass(frozen=True)
class Alternative:
    """Another reading of the data, why it was not taken, and the flags that take it."""

    format: str
    confidence: float
    why: Saying
    flags: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The entry of `alternatives`."""
        why = self.why.text("en")
        return {"format": self.format, "confidence": self.confidence, "why": why, "flags": list(self.flags)}
