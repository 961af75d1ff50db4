"""Drafts that outlive a closed connection: the choices of a wizard in `drafts/`, written after every change."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from finetui.core import home
from finetui.core.files import read_json, write_json
from finetui.data.reading import Reading
from finetui.draft import Draft

NOTHING = Draft(data=(), model="", recipe="")
"""The draft that nothing has been chosen in."""
_KEPT = 20
"""Older ones are forgotten."""


@dataclass(frozen=True)
class Kept:
    """A draft and the file that it is kept in."""

    path: Path
    draft: Draft = NOTHING
    step: str = ""
    """Where its wizard stood."""
    changed: float = 0.0
    """When, in seconds since 1970."""


def begun() -> Kept:
    """A new draft; its file is first written by `keep`."""
    return Kept(home.home() / "drafts" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.json")


def keep(kept: Kept) -> Kept:
    """Write a draft down.

    Raises OSError where it cannot be written.
    """
    kept = replace(kept, changed=time.time())
    home.folder("drafts")
    draft = kept.draft
    paths = {name: [_absolute(word) for word in getattr(draft, name)] for name in ("data", "evaluation")}
    choices = {**asdict(draft), **paths, "out": str(draft.out)}
    write_json(kept.path, {"version": 1, "step": kept.step, "changed": kept.changed, "choices": choices})
    return kept


def forget(kept: Kept) -> None:
    """Remove a draft that has become a run, or is not wanted."""
    with contextlib.suppress(OSError):
        kept.path.unlink(missing_ok=True)


def newest() -> Kept | None:
    """The draft that was changed last and in which anything was chosen; one that cannot be read is passed over."""
    folder = home.home() / "drafts"
    paths = sorted(folder.glob("*.json"), reverse=True) if folder.is_dir() else []
    for path in paths[_KEPT:]:
        forget(Kept(path))
    found = [kept for path in paths[:_KEPT] if (kept := _read(path)) is not None and kept.draft != NOTHING]
    return max(found, key=lambda kept: kept.changed, default=None)


def _read(path: Path) -> Kept | None:
    try:
        said = read_json(path)
        return Kept(path, _draft(said["choices"]), str(said["step"]), float(said["changed"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _draft(said: Mapping[str, Any]) -> Draft:
    """The draft of what was written; fields of another version are left out."""
    known: dict[str, Any] = {field.name: said[field.name] for field in fields(Draft) if field.name in said}
    for name in ("data", "assignments", "evaluation"):
        known[name] = tuple(map(str, said[name]))
    known["out"] = Path(said["out"])
    known["reading"] = Reading(**{field.name: said["reading"][field.name] for field in fields(Reading)})
    return Draft(**known)


def _absolute(word: str) -> str:
    """A path as it is found from any folder; words that are none stay."""
    for path, weight in ((word, ""), (word.rpartition("@")[0], f"@{word.rpartition('@')[2]}")):
        if path and (found := Path(path).expanduser()).exists():
            return str(found.absolute()) + weight
    return word
