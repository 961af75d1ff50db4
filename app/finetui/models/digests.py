"""SHA-256 of model files, remembered by path, size, modification time and inode, so that gigabytes are read once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from finetui.core import home
from finetui.core.files import read_json, sha256_file, write_json
from finetui.core.jobs import Progress

_REMEMBERED = 5000


def digests(paths: Iterable[Path], on_progress: Progress | None = None) -> dict[Path, str]:
    """The SHA-256 of each file, in hex; read again only where a file has changed since.

    Raises OSError where a file cannot be read.
    """
    known = _remembered()
    found: dict[Path, str] = {}
    fresh: dict[str, str] = {}
    todo = list(paths)
    for done, path in enumerate(todo, start=1):
        key = _key(path)
        if key not in known:
            if on_progress is not None:
                on_progress({"stage": "digest", "done": done, "total": len(todo)})
            fresh[key] = sha256_file(path)
            if _key(path) != key:  # written to while it was read: true for nobody
                raise OSError(f"{path} changed while it was read")
        found[path] = known.get(key) or fresh[key]
    if fresh:
        _remember(fresh)
    return found


def remember(found: Mapping[Path, str]) -> None:
    """Keep digests that were made while the files were written or read for another reason.

    Raises OSError where a file is not there.
    """
    _remember({_key(path): digest for path, digest in found.items()})


def _key(path: Path) -> str:
    real = path.resolve()
    stat = real.stat()
    return f"{real}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ino}"


def _store() -> Path:
    return home.folder("cache") / "model-digests.json"


def _remembered() -> dict[str, str]:
    with contextlib.suppress(OSError, ValueError):  # a cache that cannot be read is an empty one
        stored = read_json(_store())
        if isinstance(stored, dict):
            return stored
    return {}


def _remember(fresh: dict[str, str]) -> None:
    entries = list({**_remembered(), **fresh}.items())[-_REMEMBERED:]
    with contextlib.suppress(OSError):  # a full or read-only disk costs time, not truth
        write_json(_store(), dict(entries))
