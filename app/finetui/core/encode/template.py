"""A chat template with all that it needs to be rendered again: the part of a lock that fixes the text a model sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Template:
    """One chat template, resolved for one tokenizer; as JSON it goes into the lock, and needs no model folder then."""

    name: str
    """`default` or another name that the model gives it, the name of a built-in one, or a file's."""
    source: str
    """`model`, `builtin` or `file`."""
    text: str
    """The Jinja source."""
    special_tokens: Mapping[str, str] = field(hash=False)
    """What `bos_token`, `eos_token` and their like mean in the template."""
    date: str | None
    """`YYYY-MM-DD`: what `strftime_now` tells the time of; None where the source never asks."""
    eos_id: int | None
    """The tokenizer's end-of-text id, appended to raw text."""
    bos_id: int | None
    """The tokenizer's beginning-of-text id."""
    pad_id: int | None
    """The tokenizer's padding id, if it has one."""
    stop_ids: tuple[int, ...]
    """Ids that end an answer: the tokenizer's EOS, the generation config's, and the template's own end of turn."""
    tool_use: str | None = None
    """A second source, used instead of `text` where a conversation comes with tools."""

    def source_text(self, tools: object) -> str:
        """The source that applies with or without tools."""
        return self.tool_use if self.tool_use is not None and tools is not None else self.text

    def to_json(self) -> dict[str, Any]:
        """The template as JSON."""
        return {**asdict(self), "special_tokens": dict(self.special_tokens), "stop_ids": list(self.stop_ids)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Template:
        """The inverse of `to_json`.

        Raises TypeError or KeyError where it is something else.
        """
        return cls(**{**value, "stop_ids": tuple(value["stop_ids"])})
