"""What a site has under a name: its files with their sizes and digests, and the names that may not be written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finetui.core.errors import BAD_INPUT, MACHINE, FinetuiError, Problem
from finetui.core.fetched import MANIFEST
from finetui.core.text import safe_text

_MOST_FILES = 100_000
_LONGEST_NAME, _LONGEST_PATH = 255, 1024
"""In bytes; the second leaves room for the folder on every system."""
_NAMED = 5


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository, as the site lists it."""

    path: str
    """Its path in the repository, with slashes."""
    address: str
    bytes: int | None = None
    """None where the site does not say."""
    sha256: str | None = None
    git_sha1: str | None = None
    """The id of its blob in git, which the hub tells of small files in place of a SHA-256."""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Listing:
    """A repository at one revision."""

    site: str
    kind: str
    """`model` or `dataset`."""
    name: str
    """The id as the site spells it; for a plain file its address without secrets."""
    revision: str | None
    """The commit, where the site tells it."""
    files: tuple[RemoteFile, ...]
    page: str
    """Where people read about it."""


def check_names(paths: Sequence[str]) -> None:
    """Refuse names that would be written anywhere else than below their folder, or that no terminal should show.

    Raises FinetuiError (exit 3) with the first of them.
    """
    if len(paths) > _MOST_FILES:
        raise FinetuiError(Problem("fetch.too-many-files", {"count": len(paths), "most": _MOST_FILES}), BAD_INPUT)
    known = set(paths)
    hostile = [path for path in paths if _is_hostile(path)]
    folders = {str(parent) for path in known.difference(hostile) for parent in Path(path).parents}
    hostile += sorted(known & folders)
    if len(known) < len(paths):
        hostile += sorted({path for path in known if paths.count(path) > 1})[:_NAMED]
    if hostile:
        problems = [Problem("fetch.hostile-name", {"name": ascii(path)}) for path in hostile[:_NAMED]]
        raise FinetuiError(problems, BAD_INPUT)


def check_cases(paths: Sequence[str], folder: Path) -> None:
    """Refuse names that differ in case alone where the file system of `folder` would take them for one.

    Raises FinetuiError (exit 5).
    """
    seen: dict[str, str] = {}
    clashes = [(path, other) for path in paths if (other := seen.setdefault(path.casefold(), path)) != path]
    if clashes and folder.with_name(folder.name.swapcase()).exists():
        first, other = clashes[0]
        raise FinetuiError(Problem("fetch.case-clash", {"name": first, "other": other}, str(folder)), MACHINE)


def _is_hostile(path: str) -> bool:
    parts = path.split("/")
    return (
        any(part in ("", ".", "..") or len(part.encode("utf-8", "replace")) > _LONGEST_NAME for part in parts)
        or len(path.encode("utf-8", "replace")) > _LONGEST_PATH
        or "\\" in path
        or safe_text(path) != path
        or "\n" in path
        or "\t" in path
        or parts[0] in (MANIFEST, ".parts", ".fetched.jsonl")
    )
