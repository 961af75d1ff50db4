"""One thing that the doctor has to say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from finetui.core.errors import Problem

MISSING, WARNING, NOTE, OK = "missing", "warning", "note", "ok"
LEVELS = (MISSING, WARNING, NOTE, OK)
"""The worst first: `missing` is needed for what was asked, `warning` will cost time or money, `note` is optional."""


@dataclass(frozen=True)
class Finding:
    """A fact with its weight."""

    level: str
    """One of `LEVELS`."""
    problem: Problem
    """What it says, in words of the message table; its next command is the one that mends it."""

    def to_json(self) -> dict[str, Any]:
        """The finding as `--json` prints it, in English."""
        return {
            "code": self.problem.code,
            "level": self.level,
            "text": self.problem.message("en"),
            "command": self.problem.next("en"),
        }


def gib(count: int) -> str:
    """Bytes as GiB with one decimal."""
    return f"{count / (1 << 30):.1f}"


def say(level: str, code: str, **facts: object) -> Finding:
    """A finding in words of the doctor's own."""
    return Finding(level, Problem(f"doctor.{code}", facts))


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first, each level as the checks have it."""
    return tuple(sorted(findings, key=lambda finding: LEVELS.index(finding.level)))


def is_fit(findings: Iterable[Finding]) -> bool:
    """Whether everything is there that was asked for."""
    return all(finding.level != MISSING for finding in findings)
