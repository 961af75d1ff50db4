"""Whether a lock is one: the kind of every value that `schema.toml` names, all faults at once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from finetui.bundles.launch import are_variables
from finetui.bundles.plan import NAME
from finetui.core.errors import Problem
from finetui.core.messages import t

VERSION = 0
"""The lock format that is written and read here; one with a higher number needs a later finetui."""
REVISION = 1
"""Counts what was added to the format without breaking its readers; a lock states the least that has all it holds.

0: the first. 1: `data.chosen` and `data.test`, where rows were chosen.
"""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LARGEST = 2**63


def faults(lock: Mapping[str, Any], file: str) -> list[Problem]:
    """A problem for each value of the lock that is missing or of another kind."""
    found: list[Problem] = []
    for place, kind in _schema().items():
        for key, value in _values(lock, place.split("."), ""):
            optional = kind.endswith("?")
            if not (value is None and optional) and not _KINDS[kind.rstrip("?")](value):
                facts = {"key": key, "kind": t(f"bundles.kind-{kind.rstrip('?')}")}
                found.append(Problem("bundles.bad-lock", facts, file))
    return found


def _values(parent: object, place: list[str], prefix: str) -> Iterator[tuple[str, object]]:
    """The values at a place, with their keys; what lies in something that is itself at fault is not looked for."""
    if not isinstance(parent, dict):
        return
    name, rest = place[0], place[1:]
    bare = name.removesuffix("[]")
    value = parent.get(bare)
    key = f"{prefix}{bare}"
    if not rest:
        yield key, value
    elif name.endswith("[]"):
        for number, item in enumerate(value if isinstance(value, list) else []):
            yield from _values(item, rest, f"{key}[{number}].")
    else:
        yield from _values(value, rest, f"{key}.")


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < _LARGEST


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and bool(_SHA256.fullmatch(value))


def _is_path(value: object) -> bool:
    """Whether it is a path that stays inside its folder."""
    if not isinstance(value, str) or not value or value.startswith("/") or "\\" in value or "\0" in value:
        return False
    return not {"", ".", ".."} & set(value.split("/"))


def _is_settings(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(setting, dict) and "value" in setting and isinstance(setting.get("reason"), str)
        for setting in value.values()
    )


_KINDS: dict[str, Callable[[object], bool]] = {
    "count": _is_count,
    "positive": lambda value: _is_count(value) and value != 0,
    "text": lambda value: isinstance(value, str) and bool(value),
    "name": lambda value: isinstance(value, str) and bool(NAME.fullmatch(value)),
    "sha256": _is_digest,
    "path": _is_path,
    "table": lambda value: isinstance(value, dict),
    "list": lambda value: isinstance(value, list) and all(isinstance(item, dict) for item in value),
    "texts": lambda value: isinstance(value, dict) and all(isinstance(text, str) for text in value.values()),
    "digests": lambda value: (
        isinstance(value, dict) and all(_is_path(name) and _is_digest(digest) for name, digest in value.items())
    ),
    "settings": _is_settings,
    "variables": are_variables,
}


@cache
def _schema() -> dict[str, str]:
    return tomllib.loads(Path(__file__).with_name("schema.toml").read_text(encoding="utf-8"))
