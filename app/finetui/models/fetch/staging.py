"""The hidden folder beside the final one in which a fetch grows, so that nothing half looks like a model."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from finetui.core.errors import USAGE, FinetuiError, Problem
from finetui.core.fetched import Manifest, Part, write_manifest
from finetui.core.files import naming
from finetui.models.fetch.listing import RemoteFile
from finetui.models.fetch.reference import without_secrets


class Staging:
    """`.NAME.part` beside NAME: whole files at their places, parts in `.parts`, a journal of what is whole."""

    def __init__(self, target: Path) -> None:
        """Raises FinetuiError (exit 2) where the target is a whole disk, which no folder can take the place of."""
        if target.is_mount():
            raise FinetuiError(Problem("fetch.mount-point", {"inside": str(target / "fetched")}, str(target)), USAGE)
        self.target = target = _named(target)
        self.folder = target.with_name(f".{target.name}.part")
        self._parts = self.folder / ".parts"
        self._journal = self.folder / ".fetched.jsonl"
        self._old = target.with_name(f".{target.name}.old")

    @property
    def lock(self) -> Path:
        """The file that the process at work holds."""
        return self.target.with_name(f".{self.target.name}.lock")

    def open(self) -> None:
        """Make the folder, or find it as the last attempt left it."""
        if self._old.exists() and not self.target.exists():  # that attempt ended between two renames
            os.replace(self._old, self.target)
        self._parts.mkdir(parents=True, exist_ok=True)

    @property
    def scratch(self) -> Path:
        """A folder for what is not yet at its place."""
        return self._parts / "unpacked"

    def part(self, file: RemoteFile) -> Path:
        """Where a file grows; another version of the file grows elsewhere."""
        return self._parts / _version(file)

    def whole(self) -> dict[str, Part]:
        """The files that earlier attempts have brought in, by path, as `keep` was told of them."""
        found: dict[str, Part] = {}
        for line in self._lines():
            path = self.folder / line["path"]
            with contextlib.suppress(OSError):
                if path.stat().st_size == line["bytes"]:
                    found[line["version"]] = Part(line["bytes"], line["sha256"])
        return found

    def has(self, file: RemoteFile, whole: Mapping[str, Part]) -> Part | None:
        """This very version of a file, where it is among the whole ones."""
        return whole.get(_version(file))

    def keep(self, file: RemoteFile, arrived: Path, part: Part) -> None:
        """Put a whole file at its place and write it down."""
        place = self.folder / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(arrived, place)
        arrived.with_name(f"{arrived.name}.etag").unlink(missing_ok=True)
        told = {"path": file.path, "bytes": part.bytes, "sha256": part.sha256, "version": _version(file)}
        with naming(self._journal), self._journal.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(told) + "\n")

    def bytes_of(self, file: RemoteFile) -> int:
        """How much of a file is there."""
        try:
            return self.part(file).stat().st_size
        except OSError:
            return 0

    def publish(self, manifest: Manifest, target: Path | None = None) -> Path:
        """Give the folder its final name, in the place of what bears it now; files of other versions are left behind.

        Raises OSError where it cannot be renamed.
        """
        target = _named(target) if target else self.target
        shutil.rmtree(self._parts)
        self._journal.unlink(missing_ok=True)
        for path in sorted(self.folder.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                with contextlib.suppress(OSError):  # has files
                    path.rmdir()
            elif path.relative_to(self.folder).as_posix() not in manifest.files:
                path.unlink()
        write_manifest(self.folder, manifest)
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = self._beside(target)
        if target.is_dir() and any(target.iterdir()):
            shutil.rmtree(self._old, ignore_errors=True)
            os.replace(target, self._old)
        os.replace(folder, target)
        shutil.rmtree(self._old, ignore_errors=True)
        return target

    def _beside(self, target: Path) -> Path:
        """The folder on the disk of `target`, from where alone it can take its name."""
        if self.folder.stat().st_dev == target.parent.stat().st_dev:
            return self.folder
        beside = target.with_name(self.folder.name)
        shutil.rmtree(beside, ignore_errors=True)
        shutil.copytree(self.folder, beside)
        shutil.rmtree(self.folder)
        return beside

    def _lines(self) -> Iterator[dict[str, Any]]:
        """The journal, a half last line left out."""
        try:
            text = self._journal.read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        for line in text.splitlines():
            with contextlib.suppress(ValueError):
                yield json.loads(line)


def _named(target: Path) -> Path:
    """A target by a path whose last part is its name on the disk, which it can be renamed to."""
    return target.resolve() if target.is_symlink() or ".." in target.parts else target.absolute()


def _version(file: RemoteFile) -> str:
    """A name for one version of one file, fit for a file's name however long the path is."""
    known = file.sha256 or file.git_sha1 or without_secrets(file.address)
    return hashlib.sha256(f"{file.path}\0{known}\0{file.bytes}".encode("utf-8", "backslashreplace")).hexdigest()[:40]
