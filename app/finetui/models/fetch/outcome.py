"""What was asked of `fetch`, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetui.core.errors import Problem
from finetui.core.fetched import Part


@dataclass(frozen=True)
class Request:
    """What a person wants to have on this machine."""

    words: str
    """An id, an address, or `demo`."""
    out: Path | None = None
    """The folder to write; None for the place where the id finds it."""
    revision: str | None = None
    dataset: bool = False
    """Whether it is a dataset, also where there is a model of that name."""
    site: str | None = None
    """`hub`, `modelscope`, `url`; None as the words tell."""
    weights: bool = True
    files: tuple[str, ...] = ()
    """Patterns of the files wanted; none for what training needs."""


@dataclass(frozen=True)
class Fetched:
    """A model or a dataset that is on this machine now."""

    path: Path
    kind: str
    source: str
    """What finds it on any machine."""
    site: str
    revision: str | None
    files: Mapping[str, Part]
    fetched_bytes: int = 0
    """Bytes that came over the network."""
    resumed_bytes: int = 0
    """Bytes of an earlier attempt that were gone on with."""
    seconds: float = 0.0
    already: bool = False
    """Whether it was here before, so that nothing was fetched."""
    left_out: tuple[str, ...] = ()
    """Files of the repository that training does not need."""
    notes: tuple[Problem, ...] = field(default=())
    """What the person should know of it."""

    def to_json(self) -> dict[str, Any]:
        """The contract of `finetui fetch --json`."""
        return {
            "path": str(self.path),
            "kind": self.kind,
            "source": self.source,
            "site": self.site,
            "revision": self.revision,
            "files": [
                {"path": path, "bytes": part.bytes, "sha256": part.sha256} for path, part in sorted(self.files.items())
            ],
            "bytes": sum(part.bytes for part in self.files.values()),
            "fetched_bytes": self.fetched_bytes,
            "resumed": self.resumed_bytes > 0,
            "seconds": round(self.seconds, 3),
            "already": self.already,
            "left_out": sorted(self.left_out),
            "notes": [note.to_json() for note in self.notes],
        }
