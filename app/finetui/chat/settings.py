"""The settings of a chat: each with its range, read from what a person typed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from finetui.core.errors import USAGE, FinetuiError, Problem


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen."""

    max_new_tokens: int = 256
    """An answer is cut here."""
    temperature: float = 0.0
    """0 takes the likeliest token every time."""
    top_p: float = 1.0
    """Only the likeliest tokens that together have this probability."""
    seed: int = 42
    """For temperatures above 0."""


@dataclass(frozen=True)
class Setting:
    """One number of Sampling; `chat.opt-NAME` with dashes says what it is for."""

    name: str
    """Its field in Sampling."""
    expected: str
    """Its range, as people write one."""
    least: float
    most: float = math.inf
    whole: bool = False
    """Whether it is a whole number."""
    above: bool = False
    """Whether it is more than `least`, and not as much."""

    @property
    def option(self) -> str:
        """The option of the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def help_code(self) -> str:
        """The message that says what it is for."""
        return "chat.opt-" + self.name.replace("_", "-")

    def fits(self, value: float) -> bool:
        """Whether a number is in range."""
        return (self.least < value if self.above else self.least <= value) and value <= self.most and value < math.inf

    def read(self, text: str) -> float | None:
        """The number that was typed, or None where it is none or out of range."""
        try:
            value = int(text) if self.whole else float(text)
        except ValueError:
            return None
        return value if self.fits(value) else None


SETTINGS = (
    Setting("temperature", ">= 0", 0),
    Setting("top_p", "> 0, <= 1", 0, 1, above=True),
    Setting("max_new_tokens", ">= 1", 1, whole=True),
    Setting("seed", "0 … 2^63 - 1", 0, 2**63 - 1, whole=True),
)
"""All of them, in the order of a form."""


def checked(values: Mapping[str, float]) -> Sampling:
    """The settings of these numbers.

    Raises FinetuiError (exit 2) with every number that is out of range.
    """
    problems = [
        Problem("chat.bad-number", {"option": each.option, "value": values[each.name], "expected": each.expected})
        for each in SETTINGS
        if not each.fits(values[each.name])
    ]
    if problems:
        raise FinetuiError(problems, USAGE)
    return Sampling(**values)  # type: ignore[arg-type]  # whole numbers are the caller's
