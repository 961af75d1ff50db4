"""Errors made to be shown: what is wrong, where, what was expected, and the command to try next.

A `Problem` carries a code of the message table and the facts that fill it; its words are looked up only when it is
shown, so one problem can be printed in English or Chinese and always written to JSON in English.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from finetui.core.messages import entry, language, t
from finetui.core.text import PATH_LIMIT, one_line

DONE = 0
JOB_FAILED = 1
USAGE = 2
BAD_INPUT = 3
MISMATCH = 4
MACHINE = 5
INTERRUPTED = 130
_NAME_LIMIT = 400


class ShellWords(str):
    """Words of a command line, quoted already: a next command takes them as they are."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    code: str
    """Key in the message table, such as `data.empty-file`."""
    facts: Mapping[str, object] = field(default_factory=dict)
    """Values for the placeholders of the message; one whose words differ by language is a mapping of languages."""
    file: str | None = None
    """The file it stands in, as the user named it."""
    line: int | None = None
    """Line in that file, from 1."""

    def message(self, lang: str | None = None) -> str:
        """What is wrong, in words."""
        return t(self.code, lang, **self._facts(lang))

    def expected(self, lang: str | None = None) -> str | None:
        """What would have been right, or None where the message says it all."""
        return self._part("expected", lang)

    def next(self, lang: str | None = None) -> str | None:
        """The command to try next, foreign names in it quoted for a shell."""
        return self._part("next", lang, {key: _quoted(fact) for key, fact in self._facts(lang).items()})

    def _facts(self, lang: str | None) -> dict[str, object]:
        said = lang or language()
        facts = {key: fact.get(said, fact) if isinstance(fact, Mapping) else fact for key, fact in self.facts.items()}
        return {"file": self.file and one_line(self.file, _NAME_LIMIT), "line": self.line, **facts}

    def _part(self, part: str, lang: str | None, facts: Mapping[str, object] | None = None) -> str | None:
        if part not in entry(self.code):
            return None
        return t(f"{self.code}#{part}", lang, **(facts or self._facts(lang)))

    def to_json(self) -> dict[str, Any]:
        """The problem as `--json` prints it, in English."""
        return {
            "code": self.code,
            "message": self.message("en"),
            "file": self.file and one_line(self.file, PATH_LIMIT),
            "line": self.line,
            "expected": self.expected("en"),
            "next": self.next("en"),
        }

    def to_wire(self) -> dict[str, Any]:
        """The problem as a worker hands it over: unrendered, so that the reader's language applies."""
        kept = (int, float, Mapping)
        facts = {key: value if isinstance(value, kept) else str(value) for key, value in self.facts.items()}
        return {"code": self.code, "facts": facts, "file": self.file, "line": self.line}

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Problem:
        """The inverse of `to_wire`."""
        return cls(wire["code"], dict(wire.get("facts") or {}), wire.get("file"), wire.get("line"))


class FinetuiError(Exception):
    """One or more problems that end a command, and the exit code that it ends with."""

    def __init__(self, problems: Problem | Iterable[Problem], exit_code: int = BAD_INPUT) -> None:
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        self.exit_code = exit_code
        super().__init__("; ".join(problem.message("en") for problem in self.problems))

    def __reduce__(self) -> tuple[Any, ...]:
        """How the error travels to another process."""
        return type(self), (self.problems, self.exit_code)


def render(problems: Iterable[Problem], lang: str | None = None) -> str:
    """The problems as lines for a terminal: `error: file:line: what`, then what was expected and the next command."""
    return "\n".join(_render(problem, "errors.error", lang) for problem in problems)


def render_warnings(problems: Iterable[Problem], lang: str | None = None) -> str:
    """The same layout for what does not end the command."""
    return "\n".join(_render(problem, "errors.warning", lang) for problem in problems)


def _render(problem: Problem, heading: str, lang: str | None) -> str:
    file = problem.file and one_line(problem.file, _NAME_LIMIT)
    where = t("errors.where", lang, file=file, line=problem.line) if problem.line else file
    message = problem.message(lang)
    said = not where or re.search(rf"(?<![\w./-]){re.escape(where)}(?![\w/-])", message)
    lines = [t(heading, lang, text=message if said else f"{where}: {message}")]
    if expected := problem.expected(lang):
        lines.append(t("errors.expected", lang, text=expected))
    if command := problem.next(lang):
        lines.append(t("errors.next", lang, command=command))
    return "\n".join(lines)


def _quoted(fact: object) -> object:
    if isinstance(fact, (int, float, ShellWords)):
        return fact
    return shlex.quote(one_line(str(fact), PATH_LIMIT))
