"""Whether the files of a fetched folder are still those that came."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetui.core.errors import BAD_INPUT, FinetuiError, Problem
from finetui.core.fetched import DATASET, Manifest, read_manifest
from finetui.core.files import sha256_file
from finetui.core.jobs import Progress
from finetui.models.digests import remember
from finetui.models.fetch.local import places
from finetui.models.fetch.reference import read_reference


@dataclass(frozen=True)
class Checked:
    """A folder held against its manifest."""

    path: Path
    manifest: Manifest
    absent: tuple[str, ...]
    mismatches: tuple[tuple[str, str, str], ...]
    """Path, the digest as fetched, the digest now."""

    @property
    def is_good(self) -> bool:
        """Whether every file is there as it came."""
        return not (self.absent or self.mismatches)

    def to_json(self) -> dict[str, Any]:
        """The contract of `finetui fetch --check --json`."""
        return {
            "ok": self.is_good,
            "path": str(self.path),
            "source": self.manifest.source,
            "revision": self.manifest.revision,
            "files": len(self.manifest.files),
            "absent": list(self.absent),
            "mismatches": [{"path": p, "expected": e, "actual": a} for p, e, a in self.mismatches],
        }


def check(words: str, *, dataset: bool = False, revision: str | None = None, on_progress: Progress | None) -> Checked:
    """Read every file of what was fetched under these words, a path or an id, and compare its digest.

    Raises FinetuiError (exit 3) where nothing was fetched under them, OSError where a file cannot be read.
    """
    folder, manifest = _find(words, dataset, revision)
    absent: list[str] = []
    mismatches: list[tuple[str, str, str]] = []
    total = sum(part.bytes for part in manifest.files.values())
    done = 0
    for name, part in manifest.files.items():
        path = folder / name
        if on_progress is not None:
            on_progress({"stage": "digest", "done": done, "total": total})
        if not path.is_file():
            absent.append(name)
        elif (actual := sha256_file(path)) != part.sha256:
            mismatches.append((name, part.sha256, actual))
            remember({path: actual})  # or fetching it again would take the file for the one that came
        done += part.bytes
    return Checked(folder, manifest, tuple(absent), tuple(mismatches))


def _find(words: str, dataset: bool, revision: str | None) -> tuple[Path, Manifest]:
    path = Path(words).expanduser()
    if path.is_dir() and (manifest := read_manifest(path)):
        return path, manifest
    if not path.is_dir():
        asked = read_reference(words, revision=revision)
        for folder in places(asked.name, DATASET if dataset else asked.kind, asked.revision):
            if manifest := read_manifest(folder):
                return folder, manifest
    raise FinetuiError(Problem("fetch.never-fetched", {"words": words}), BAD_INPUT)
