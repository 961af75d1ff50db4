"""How the user wants the data to be read, where that is not left to the detection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Reading:
    """What overrides the detection; empty, all is left to it."""

    format: str | None = None
    """An id of the inventory."""
    stage: str | None = None
    """The training stage that the data is wanted for."""
    mapping: Mapping[str, str] = field(default_factory=dict)
    """Canonical part (user, assistant, system, …) to the column or path it comes from."""
    text_by: str = "line"
    """What one row of a plain text file is: `line` or `paragraph` (text between blank lines)."""
    keep_meta: bool = True
    """Whether columns beside the conversation are kept under `meta`."""
    fill: Mapping[str, str] = field(default_factory=dict)
    """Placeholder to the text that takes its place: `name` for `{{name}}`."""


AS_DETECTED = Reading()
