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
from finetui.core.glossary import Term, as_toml, find_term, plain_name, terms
from finetui.core.messages import LANGUAGES, language, t
from finetui.core.text import one_line

Value = int | float | bool | str | list[str]
_PLAIN_NAMES = re.compile(r"[\w.]+(?:\s*,\s*[\w.]+)*")  # anything else is one expression, as peft reads it
_FILE = Path(__file__).with_name("knobs.toml")
_SET = "--set"
_LONGEST = 200
GROUPS = (
    "task", "model", "rows", "length", "adapter", "quantization", "schedule", "batch", "optimizer", "memory",
    "evaluation", "checkpoints", "preference", "launch", "tracking", "export",
)  # fmt: skip
"""What settings are grouped by in forms and in the glossary; a title each is `knobs.group-NAME`."""


@dataclass(frozen=True)
class Knob:
    """One setting."""

    name: str
    """Upstream's name, unique over all tables."""
    table: str
    """The recipe table it stands in."""
    group: str
    """Those that are chosen together; one of `GROUPS`."""
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
    other_values: Mapping[str, str] | None = None
    """Which of `choices` other tools' words stand for."""
    unit: Mapping[str, str] | None = None
    """Unit of the value, by language."""
    also: tuple[str, ...] = ()
    """What other tools call it, where they mean the same by the same value."""
    stages: tuple[str, ...] = ()
    """The stages that have it; empty for all."""
    methods: tuple[str, ...] = ()
    """The methods that have it; empty for all."""
    locked: str = "training"
    """Where lock.json keeps it: `training`, or `data` where it chooses rows and the trainer never hears of it."""

    def applies(self, stage: str, method: str) -> bool:
        """Whether a training of this stage and method has the knob at all."""
        return (not self.stages or stage in self.stages) and (not self.methods or method in self.methods)

    def expected(self, lang: str | None = None) -> str:
        """What the knob takes, in one phrase of the language in force, for errors and help."""
        if self.choices:
            return " | ".join(self.choices)
        bounds = [
            f"{sign} {bound:.15g}"
            for sign, bound in ((">", self.above), (">=", self.min), ("<=", self.max))
            if bound is not None
        ]
        said = lang or language()
        unit = ("（{}）" if said == "zh" else " ({})").format(self.unit[said]) if self.unit else ""
        return " ".join([t(f"knobs.type-{self.type}", lang), ", ".join(bounds)]).strip() + unit

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
    lists = ("choices", "stages", "methods", "also")
    return {
        name: Knob(name=name, **{**row, **{key: tuple(row.get(key, ())) for key in lists}})
        for name, row in rows.items()
    }


def tables() -> list[str]:
    """The recipe tables that hold knobs."""
    return list(dict.fromkeys(knob.table for knob in knobs().values()))


def nearest(word: str, names: Iterable[str], likeness: float = 0.5) -> str:
    """The name most like `word`, by difflib's ratio at least `likeness`, or an empty string."""
    return next(iter(difflib.get_close_matches(word[:_LONGEST], list(names), 1, likeness)), "")


def named(word: str) -> list[Knob | Term]:
    """What a word stands for: the knob or term of that name, here or elsewhere, else all whose help has it."""
    plain = plain_name(word)
    if knob := _by_name(plain):
        return [knob]
    if term := find_term(plain):
        return [term]
    said = word.strip().lower()
    if len(said) < 2:
        return []
    entries: list[Knob | Term] = [*knobs().values(), *terms().values()]
    return [entry for entry in entries if any(said in text.lower() for text in entry.help.values())]


def check(name: str, value: Any, *, file: str | None = None, line: int | None = None) -> Value | Problem:
    """`value` as the knob holds it (an int given to a float becomes one), or what is wrong with it."""
    knob = knobs().get(name)
    if knob is None:
        return unknown(name, value, file=file, line=line)
    fitting = _fit(knob, value)
    if fitting is None:
        return _bad_value(knob, value, file, line)
    return fitting


def unknown(name: str, value: Any, *, file: str | None = None, line: int | None = None) -> Problem:
    """What is wrong with a name that is no knob: how another tool's is said here, or which name it nearly is."""
    shown = one_line(name, _LONGEST)
    if knob := _by_name(plain_name(name)):
        value = (knob.other_values or {}).get(value, value) if isinstance(value, str) else value
        fits = _fit(knob, value) is not None
        said = f"{knob.name}={value}" if file == _SET else f"[{knob.table}] {knob.name} = {as_toml(value)}"
        write = said if fits else {lang: f"{knob.name}: {takes}" for lang, takes in _takes(knob).items()}
        return Problem("knobs.other-name", {"knob": shown, "right": knob.name, "write": write}, file, line)
    if term := find_term(name):
        return Problem("knobs.other-term", {"knob": shown, "here": term.written(value) or term.here}, file, line)
    near = nearest_name(name)
    return Problem("knobs.unknown-near" if near else "knobs.unknown", {"knob": shown, "near": near}, file, line)


def nearest_name(word: str) -> str:
    """The knob or term whose name, here or elsewhere, is most like `word`, or an empty string."""
    entries: list[Knob | Term] = [*knobs().values(), *terms().values()]
    names = {name: entry.name for entry in entries for name in (entry.name, *entry.also)}
    return names.get(nearest(plain_name(word), names, 0.6), "")


def _meant(knob: Knob, text: str) -> str | None:
    """What a text that does not fit was probably meant to be: another tool's word, a slip, a number in quotes."""
    plain = text.strip().lower()
    if knob.choices:
        return (knob.other_values or {}).get(plain) or nearest(plain, knob.choices, 0.8) or None
    return plain if _fit(knob, _parse(knob.name, plain)) is not None else None


def _by_name(plain: str) -> Knob | None:
    return next((knob for knob in knobs().values() if plain in (knob.name.lower(), *knob.also)), None)


def _takes(knob: Knob) -> dict[str, str]:
    return {lang: knob.expected(lang) for lang in LANGUAGES}


def _bad_value(knob: Knob, value: Any, file: str | None, line: int | None) -> Problem:
    typed = isinstance(value, str) and file in (None, _SET)
    facts: dict[str, object] = {"knob": knob.name, "value": one_line(value, _LONGEST) if typed else as_toml(value)}
    if isinstance(value, str) and (meant := _meant(knob, value)) is not None:
        return Problem(
            "knobs.meant", {**facts, "meant": as_toml(meant) if not typed and knob.choices else meant}, file, line
        )
    return Problem("knobs.bad-value", {**facts, "takes": _takes(knob)}, file, line)


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
        checked = check(name, _parse(name, text.strip()), file=_SET)
        if isinstance(checked, Problem):
            problems.append(checked)
        else:
            values[name] = checked
    if problems:
        raise FinetuiError(problems, USAGE)
    return values


def _parse(name: str, text: str) -> Any:
    """The text after `=` as the knob's type reads it; left as text where it does not."""
    knob = _by_name(plain_name(name))
    kind = knob.type if knob else "text"
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
