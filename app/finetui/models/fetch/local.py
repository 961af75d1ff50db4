"""What of a repository is on this machine already, in finetui's own folders or in the caches of other tools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from finetui.core import home
from finetui.core.fetched import DATASET, Manifest, Part, folder_of, read_manifest
from finetui.core.jobs import Progress
from finetui.data.sources.hub import cached
from finetui.models.digests import digests
from finetui.models.fetch.listing import Listing, RemoteFile
from finetui.models.fetch.sites import HUB
from finetui.models.fetch.transfer import is_same
from finetui.models.places import named


@dataclass(frozen=True)
class Copy:
    """A folder on this machine that has every file that was asked for."""

    folder: Path
    files: Mapping[str, Part]


def places(name: str, kind: str | None, revision: str | None = None) -> list[Path]:
    """The folders of this machine that may be the model or dataset of an id, the nearest first."""
    words = name if revision is None else f"{name}@{revision}"
    models = [] if kind == DATASET else [*named(words), *named(name)]
    datasets = [] if kind == "model" else [*cached(words), *cached(name)]
    return [folder for folder in dict.fromkeys([*models, *datasets]) if folder.is_dir() and any(folder.iterdir())]


def default_place(name: str, kind: str, revision: str | None = None) -> Path:
    """Where `fetch` puts an id."""
    return home.home() / ("datasets" if kind == DATASET else "models") / folder_of(name, revision)


def whole_copy(
    folders: Iterable[Path], files: Sequence[RemoteFile], on_progress: Progress | None = None
) -> Copy | None:
    """The first folder that has all files, byte for byte as the site lists them; None where none has.

    Sizes are compared before any digest is made.
    """
    for folder in folders:
        paths = {file.path: folder / file.path for file in files}
        if not all(path.is_file() for path in paths.values()):
            continue
        if any(file.bytes not in (None, paths[file.path].stat().st_size) for file in files):
            continue
        if all(is_same(paths[file.path], file, on_progress) for file in files):
            found = digests(paths.values(), on_progress)
            return Copy(folder, {name: Part(path.stat().st_size, found[path]) for name, path in paths.items()})
    return None


def with_known_digests(listing: Listing, folder: Path) -> Listing:
    """The list with the digests that an earlier fetch of this commit left in `folder`, where a mirror tells none."""
    manifest = read_manifest(folder)
    told = (listing.name, listing.site, listing.revision)
    if manifest is None or listing.site != HUB or (manifest.source, manifest.site, manifest.revision) != told:
        return listing
    files = [
        replace(file, bytes=part.bytes, sha256=part.sha256)
        if (part := manifest.files.get(file.path)) and not (file.sha256 or file.git_sha1)
        else file
        for file in listing.files
    ]
    return replace(listing, files=tuple(files))


def intact(folder: Path, on_progress: Progress | None = None) -> Manifest | None:
    """The manifest of a folder whose files are all as they were fetched; None for any other folder."""
    manifest = read_manifest(folder)
    if manifest is None:
        return None
    files = [RemoteFile(path, "", part.bytes, part.sha256) for path, part in manifest.files.items()]
    return manifest if all(is_same(folder / file.path, file, on_progress) for file in files) else None
