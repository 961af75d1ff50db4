"""Words that other tools use and that are no knobs here: what each is, and what stands in its place."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from finetui.core.text import one_line

_LONGEST = 200
_FILE = Path(__file__).with_name("glossary.toml")


@dataclass(frozen=True)
class Term:
    """One such word."""

    name: str
    """As it is written most often."""
    group: str
    """The group of knobs that it belongs with."""
    help: Mapping[str, str]
    """What it is where it comes from, by language."""
    here: Mapping[str, str]
    """What finetui does instead, by language."""
    also: tuple[str, ...] = ()
    """Other names of it."""
    knobs: tuple[str, ...] = ()
    """The knobs that do its work."""
    write: Mapping[str, str] | None = None
    """What to write in a recipe, by the value that it had elsewhere; `*` for any, with {value} or {list} in it."""

    def written(self, value: Any) -> str:
        """What a recipe says in place of this word with that value, or nothing where only `here` can tell."""
        text = value if isinstance(value, str) else as_toml(value)
        found = (self.write or {}).get(text.lower(), (self.write or {}).get("*", ""))
        names = [part.strip() for part in text.split(",")] if isinstance(value, str) else value
        return found.replace("{list}", as_toml(names)).replace("{value}", as_toml(value))


@cache
def terms() -> Mapping[str, Term]:
    """All of them by name, in the order of the table."""
    with _FILE.open("rb") as stream:
        rows = tomllib.load(stream)
    lists = ("also", "knobs")
    return {
        name: Term(name=name, **{**row, **{key: tuple(row.get(key, ())) for key in lists}})
        for name, row in rows.items()
    }


def find_term(word: str) -> Term | None:
    """The term of that name or other name, however it is spelled."""
    plain = plain_name(word)
    return next((term for term in terms().values() if plain in (term.name, *term.also)), None)


def plain_name(word: str) -> str:
    """A name as tables have it: without dashes in front, with underscores, in lower case."""
    return word[:_LONGEST].strip().lstrip("-").lower().replace("-", "_").replace(" ", "_")


def as_toml(value: Any) -> str:
    """A value as a recipe has it, shortened where no person would have written it."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    try:
        return one_line(json.dumps(value, ensure_ascii=False, default=str), _LONGEST)
    except RecursionError:
        return "…"
