"""A bundle as it lies on disk: read, never changed, nothing in it executed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

from finetui.bundles import manifest, schema
from finetui.core.errors import BAD_INPUT, FinetuiError, Problem

LOCK = "lock.json"


@dataclass(frozen=True)
class Bundle:
    """A locked bundle."""

    path: Path
    """Its folder, absolute."""
    lock: dict[str, Any]
    """What `lock.json` holds, checked."""
    id: str
    """SHA-256 of its manifest."""

    @property
    def name(self) -> str:
        """What it is called in run names."""
        return str(self.lock["name"])

    @classmethod
    def load(cls, path: Path) -> Self:
        """Open the bundle in a folder.

        Raises FinetuiError where it is none, where a later finetui wrote it, or with every fault of its lock.
        """
        folder = bundle_folder(path)
        lock = read_lock(folder)
        try:
            _, identity = manifest.read(folder / manifest.NAME)
        except OSError as error:
            raise FinetuiError(Problem("bundles.no-manifest", file=str(path))) from error
        return cls(folder, lock, identity)


def bundle_folder(path: Path) -> Path:
    """The absolute folder of the bundle at `path`.

    Raises FinetuiError where nothing is there, or something else than a bundle.
    """
    if not path.exists():
        raise FinetuiError(Problem("bundles.absent", file=str(path)))
    if not any((path / name).is_file() for name in (LOCK, manifest.NAME)):
        raise FinetuiError(Problem("bundles.not-a-bundle", file=str(path)))
    return path.resolve()


def read_lock(folder: Path) -> dict[str, Any]:
    """The checked lock of a bundle folder.

    Raises FinetuiError as `Bundle.load` does.
    """
    shown = str(folder / LOCK)
    try:
        text, _ = manifest.read(folder / LOCK)
        lock = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_refuse_twice)
    except (OSError, ValueError, RecursionError) as error:
        detail = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise FinetuiError(Problem("bundles.unreadable-lock", {"error": detail}, shown)) from error
    if not isinstance(lock, dict):
        raise FinetuiError(Problem("bundles.unreadable-lock", {"error": "no JSON object"}, shown))
    version = lock.get("version")
    if type(version) is int and version > schema.VERSION:
        facts = {"version": version, "own": schema.VERSION, "finetui": str(lock.get("finetui", "?"))}
        raise FinetuiError(Problem("bundles.newer-lock", facts, shown))
    if problems := schema.faults(lock, shown):
        raise FinetuiError(problems, BAD_INPUT)
    return lock


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found
