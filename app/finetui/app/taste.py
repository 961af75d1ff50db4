"""What a person has chosen for the app: `app.toml` (theme and language, by the app) and `keys.toml`."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from finetui.core import home
from finetui.core.errors import Problem
from finetui.core.messages import LANGUAGES

KEYS_FILE = "keys.toml"
_FILE = "app.toml"
_HELD = frozenset({"ctrl", "alt", "shift"})


@dataclass(frozen=True)
class Taste:
    """What was chosen the last time; None where nothing was."""

    theme: str | None = None
    language: str | None = None


def read_taste() -> Taste:
    """What was chosen; a file that cannot be read counts for nothing."""
    try:
        said = _table(home.home() / _FILE)
    except (OSError, ValueError):
        return Taste()
    theme, language = said.get("theme"), said.get("language")
    return Taste(
        theme if isinstance(theme, str) else None,
        language if isinstance(language, str) and language in LANGUAGES else None,
    )


def keep_taste(taste: Taste) -> None:
    """Write down what was chosen.

    Raises OSError where it cannot be written.
    """
    said = {"theme": taste.theme, "language": taste.language}
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in said.items() if value is not None]
    home.home().mkdir(parents=True, exist_ok=True)
    (home.home() / _FILE).write_text("".join(lines), encoding="utf-8")


def read_keys(known: Iterable[str]) -> tuple[dict[str, str], list[Problem]]:
    """The keys of each action in `keys.toml`, and what is wrong with the file; actions that are not `known` are."""
    path = home.home() / KEYS_FILE
    try:
        said = _table(path)
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError) as error:
        return {}, [Problem("app.bad-keys", {"error": str(error)}, str(path))]
    names = sorted(known)
    unknown = [name for name in said if name not in names]
    empty = [name for name, keys in said.items() if name in names and not (isinstance(keys, str) and keys.strip())]
    problems = [Problem("app.no-such-action", {"name": name, "names": ", ".join(names)}, str(path)) for name in unknown]
    problems += [Problem("app.no-keys", {"name": name}, str(path)) for name in empty]
    wrong = {name: key for name in names if name in said and name not in empty and (key := _no_key(str(said[name])))}
    problems += [Problem("app.no-such-key", {"name": name, "key": key}, str(path)) for name, key in wrong.items()]
    return {name: str(keys) for name, keys in said.items() if name not in (*unknown, *empty, *wrong)}, problems


def _no_key(keys: str) -> str | None:
    """The first of these that is none; None where all are."""
    from textual.keys import Keys, key_to_character  # what has no app reads the rest of this file too

    for key in map(str.strip, keys.split(",")):
        *held, last = key.split("+")
        is_named = last in set(Keys) or key_to_character(last) is not None
        if not (is_named and _HELD.issuperset(held)):
            return key
    return None


def _table(path: Path) -> Mapping[str, object]:
    with path.open("rb") as stream:
        return tomllib.load(stream)
