"""The manifest: a line `sha256  path` for every file, sorted, as `sha256sum -c` reads it."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NAME = "manifest-sha256.txt"
EVIDENCE = "evidence"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
_MOST_BYTES = 64 << 20
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Contents:
    """What a folder holds."""

    digests: dict[str, str]
    """SHA-256 by path, relative to the folder, with `/`."""
    odd: dict[str, str]
    """What a bundle never holds, by path: `symlink`, `special file`, `file name` or `unreadable`."""


def scan(folder: Path, leave_out: frozenset[str]) -> Contents:
    """Read everything under `folder` but the top-level names in `leave_out`; no link is followed, no pipe is opened."""
    digests: dict[str, str] = {}
    odd: dict[str, str] = {}
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError:
            odd[place.relative_to(folder).as_posix()] = "unreadable"
            continue
        for entry in entries:
            path = Path(entry.path).relative_to(folder).as_posix()
            if path in leave_out:
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
            elif fault := _fault(entry, path):
                odd[path] = fault
            else:
                try:
                    digests[path] = _digest(entry.path)
                except OSError:
                    odd[path] = "unreadable"
    return Contents(digests, odd)


def render(digests: Mapping[str, str]) -> str:
    """The one manifest of these files: sorted by the bytes of the path, a newline after each line."""
    return "".join(f"{digests[path]}  {path}\n" for path in sorted(digests, key=str.encode))


def parse(text: str) -> dict[str, str]:
    """What a manifest lists, of whatever form it is; the last of two lines for one path counts."""
    lines = (_LINE.fullmatch(line) for line in text.split("\n"))
    return {match[2]: match[1] for match in lines if match}


def read(path: Path) -> tuple[str, str]:
    """The text of a manifest file, bytes that are no UTF-8 replaced, and the SHA-256 of its bytes.

    Raises OSError where it is no readable file of its own, or absurdly large.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as stream:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
            raise OSError(f"{path} is no manifest")
        data = stream.read()
    return data.decode("utf-8", "replace"), hashlib.sha256(data).hexdigest()


def digest_of(text: str) -> str:
    """SHA-256 of a manifest's text: of a bundle's, the bundle id."""
    return hashlib.sha256(text.encode()).hexdigest()


def _fault(entry: os.DirEntry[str], path: str) -> str | None:
    if entry.is_symlink():
        return "symlink"
    if not entry.is_file(follow_symlinks=False):
        return "special file"
    return "file name" if _UNWRITABLE.search(path) else None


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
