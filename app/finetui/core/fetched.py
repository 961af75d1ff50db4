"""What `fetch` leaves in a folder beside the files: where they came from, and the digest of each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetui.core.files import read_json, write_json

MANIFEST = ".finetui.json"
MODEL, DATASET = "model", "dataset"
_VERSION = 1
_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)


@dataclass(frozen=True)
class Part:
    """One fetched file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Where the files of a folder came from."""

    source: str
    """What finds it on any machine: the id that its hub gave it; for a file of the web its address."""
    site: str
    """`hub`, `modelscope` or `url`."""
    kind: str
    """`model` or `dataset`."""
    revision: str | None
    """The commit, where the site tells one."""
    whole: bool
    """Whether all that training needs was fetched; False without weights, or for chosen files."""
    files: Mapping[str, Part]
    """Every file by its path in the folder."""


def is_hub_id(words: str) -> bool:
    """Whether words have the form of an id, `OWNER/NAME` or `NAME`."""
    return _ID.fullmatch(words) is not None and ".." not in words


def folder_of(hub_id: str, revision: str | None = None) -> str:
    """The folder of an id below `models/` or `datasets/`; a revision that was asked for by name has its own."""
    return hub_id if revision is None else f"{hub_id}@{revision.replace('/', '-')}"


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder; None where there is none, or one that `fetch` cannot have written."""
    try:
        told = read_json(folder / MANIFEST)
        if told["version"] != _VERSION:
            return None
        files = {str(path): Part(int(part["bytes"]), str(part["sha256"])) for path, part in told["files"].items()}
        source, site, kind, revision = (told[key] for key in ("source", "site", "kind", "revision"))
        if not all(isinstance(text, str) for text in (source, site, kind)) or not isinstance(revision, str | None):
            return None
        return Manifest(source, site, kind, revision, told["whole"] is True, files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a folder."""
    files = {path: {"bytes": part.bytes, "sha256": part.sha256} for path, part in manifest.files.items()}
    told: dict[str, Any] = {
        "version": _VERSION,
        "source": manifest.source,
        "site": manifest.site,
        "kind": manifest.kind,
        "revision": manifest.revision,
        "whole": manifest.whole,
        "files": files,
    }
    write_json(folder / MANIFEST, told)
