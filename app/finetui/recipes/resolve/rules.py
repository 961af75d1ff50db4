"""The table of what cannot work together, and of what works and is probably not meant."""

from __future__ import annotations

import operator
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from finetui.core.errors import Problem

_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


@dataclass(frozen=True)
class Rule:
    """One entry of `rules.toml`; the words are those of the message with its name."""

    name: str
    when: Mapping[str, Any]
    """Fact to what it has to be: a value, one of a list, or a comparison such as `"> 0.001"`."""
    knobs: tuple[str, ...] = ()
    """The settings that it is about."""
    warns: bool = False
    """Whether the settings stand nevertheless."""
    machine: bool = False
    """Whether another machine, or a package, would do."""
    planned: bool = False
    """Whether it can be planned nevertheless, and only not be trained."""

    @property
    def refuses(self) -> bool:
        """Whether there is not even a plan."""
        return not (self.warns or self.planned)

    def holds(self, facts: Mapping[str, Any]) -> bool:
        """Whether every condition is met; a fact that is not known meets none."""
        return all(_meets(facts.get(name), wanted) for name, wanted in self.when.items())

    def problem(self, facts: Mapping[str, Any]) -> Problem:
        """What it says of these facts."""
        return Problem(f"rules.{self.name}", {name: _shown(fact) for name, fact in facts.items()})


@cache
def rules() -> tuple[Rule, ...]:
    """All rules, in the order of the table."""
    table = tomllib.loads(Path(__file__).with_name("rules.toml").read_text(encoding="utf-8"))
    return tuple(
        Rule(
            name,
            entry["when"],
            tuple(entry.get("knobs", ())),
            warns=entry.get("warns", False),
            machine=entry.get("machine", False),
            planned=entry.get("planned", False),
        )
        for name, entry in table.items()
    )


def broken(facts: Mapping[str, Any]) -> Sequence[Rule]:
    """Every rule that these facts break, those that only warn too."""
    return [rule for rule in rules() if rule.holds(facts)]


def _meets(fact: Any, wanted: Any) -> bool:
    if fact is None:
        return False
    if isinstance(wanted, list):
        return fact in wanted
    if isinstance(wanted, str):
        sign, _, limit = wanted.partition(" ")
        if sign in _COMPARE:
            return _COMPARE[sign](fact, float(limit))
    return bool(fact == wanted and isinstance(fact, bool) == isinstance(wanted, bool))


def _shown(fact: Any) -> object:
    if isinstance(fact, bool):
        return str(fact).lower()
    if isinstance(fact, float):
        return f"{fact:g}"
    return fact if isinstance(fact, int) else str(fact)
