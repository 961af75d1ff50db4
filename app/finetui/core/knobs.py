"""The one table of every setting, `knobs.toml`: what flags, recipes, validation, lock keys and help come from."""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from finetui.core.errors import USAGE, FinetuiError, Problem
from finetui.core.messages import language

Value = int | float | bool | str | list[str]
_PLAIN_NAMES = re.compile(r"[\w.]+(?:\s*,\s*[\w.]+)*")  # anything else is one expression, as peft reads it
_FILE = Path(__file__).with_name("knobs.toml")


@dataclass(frozen=True)
class Knob:
    """One setting."""

    name: str
    """Upstream's name, unique over all tables."""
    table: str
    """The recipe table it stands in."""
    type: str
    """int, float, bool, text, choice or names."""
    changes: str
    """`result`, or `memory` where only memory and speed change."""
    help: Mapping[str, str]
    """What it is, by language."""
    trade: Mapping[str, str]
    """What more or less of it costs, by language."""
    default: Value | None = None
    """What holds where a recipe says nothing; None where `resolve` derives it."""
    choices: tuple[str, ...] = ()
    """The words a choice takes."""
    min: float | None = None
    """Least value."""
    above: float | None = None
    """Exclusive lower bound."""
    max: float | None = None
    """Greatest value."""
    unit: str = ""
    """Unit of the value."""
    stages: tuple[str, ...] = ()
    """The stages that have it; empty for all."""
    methods: tuple[str, ...] = ()
    """The methods that have it; empty for all."""
    locked: str = "training"
    """Where lock.json keeps it: `training`, or `data` where it chooses rows and the trainer never hears of it."""

    def applies(self, stage: str, method: str) -> bool:
        """Whether a training of this stage and method has the knob at all."""
        return (not self.stages or stage in self.stages) and (not self.methods or method in self.methods)

    def expected(self) -> str:
        """What the knob takes, in one phrase, for errors and help."""
        if self.choices:
            return " | ".join(self.choices)
        bounds = []
        if self.above is not None:
            bounds.append(f"> {self.above}")
        if self.min is not None:
            bounds.append(f">= {self.min}")
        if self.max is not None:
            bounds.append(f"<= {self.max}")
        kind = {"names": "name or list of names"}.get(self.type, self.type)
        return " ".join([kind, ", ".join(bounds)]).strip() + (f" ({self.unit})" if self.unit else "")

    def explain(self, lang: str | None = None) -> str:
        """Help and trade-off in the language in force."""
        chosen = lang or language()
        return f"{self.help[chosen]}\n{self.trade[chosen]}"


def locked_under(place: str) -> list[str]:
    """The knobs that lock.json keeps under `training` or `data`."""
    return [name for name, knob in knobs().items() if knob.locked == place]


@cache
def knobs() -> Mapping[str, Knob]:
    """All knobs by name, in the order of the table."""
    with _FILE.open("rb") as stream:
        rows = tomllib.load(stream)
    lists = ("choices", "stages", "methods")
    return {
        name: Knob(name=name, **{**row, **{key: tuple(row.get(key, ())) for key in lists}})
        for name, row in rows.items()
    }


def tables() -> list[str]:
    """The recipe tables that hold knobs."""
    return list(dict.fromkeys(knob.table for knob in knobs().values()))


def nearest(word: str, names: Iterable[str]) -> str:
    """The name most like `word`, or an empty string."""
    return next(iter(difflib.get_close_matches(word, list(names), 1, 0.5)), "")


def check(name: str, value: Any, *, file: str | None = None, line: int | None = None) -> Value | Problem:
    """`value` as the knob holds it (an int given to a float becomes one), or what is wrong with it."""
    knob = knobs().get(name)
    if knob is None:
        near = nearest(name, knobs())
        return Problem("knobs.unknown-near" if near else "knobs.unknown", {"knob": name, "near": near}, file, line)
    fitting = _fit(knob, value)
    if fitting is None:
        facts = {"knob": name, "value": str(value), "takes": knob.expected()}
        return Problem("knobs.bad-value", facts, file, line)
    return fitting


def parse_assignments(assignments: Iterable[str]) -> dict[str, Value]:
    """`--set knob=value`, checked; a later one wins.

    Raises FinetuiError (exit 2) with every assignment that is wrong.
    """
    values: dict[str, Value] = {}
    problems: list[Problem] = []
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip()
        if not equals:
            problems.append(Problem("knobs.no-equals", {"text": assignment}))
            continue
        checked = check(name, _parse(name, text.strip()), file="--set")
        if isinstance(checked, Problem):
            problems.append(checked)
        else:
            values[name] = checked
    if problems:
        raise FinetuiError(problems, USAGE)
    return values


def _parse(name: str, text: str) -> Any:
    """The text after `=` as the knob's type reads it; left as text where it does not."""
    kind = knobs()[name].type if name in knobs() else "text"
    if kind in ("int", "float"):
        for read in (int, float):
            try:
                return read(text)
            except ValueError:
                continue
        return text
    if kind == "bool":
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind == "names" and text != "all-linear" and _PLAIN_NAMES.fullmatch(text):
        return [part.strip() for part in text.split(",")]
    return text


def _fit(knob: Knob, value: Any) -> Value | None:
    match knob.type:
        case "bool":
            return value if isinstance(value, bool) else None
        case "int" | "float":
            return _fit_number(knob, value)
        case "choice":
            return value if value in knob.choices else None
        case "names":
            names = value if isinstance(value, list) else [value]
            if not names or not all(isinstance(name, str) and name for name in names):
                return None
            return list(names) if isinstance(value, list) else str(value)
        case _:
            return value if isinstance(value, str) else None


def _fit_number(knob: Knob, value: Any) -> int | float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    if knob.type == "int" and not isinstance(value, int):
        return None
    if (
        (knob.min is not None and value < knob.min)
        or (knob.above is not None and value <= knob.above)
        or (knob.max is not None and value > knob.max)
    ):
        return None
    return float(value) if knob.type == "float" else value
