"""Where models lie on a machine: `models/`, `$FINETUI_MODELS`, the caches of Hugging Face and ModelScope."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from finetui.core import home
from finetui.core.caches import children, hub_roots, modelscope_roots, snapshots
from finetui.core.fetched import folder_of, is_hub_id, read_manifest

DEMO = "demo"
"""The name of the model that finetui makes itself."""
_SNAPSHOTS = "snapshots"


def origin(folder: Path) -> tuple[str, str | None, str | None]:
    """Name, source and revision of a model, as far as the place where it lies, or what `fetch` left there, tells."""
    place = folder.absolute()
    if place == (home.home() / "models" / DEMO).absolute():
        return DEMO, DEMO, None
    manifest = read_manifest(folder)
    if manifest is not None and manifest.site != "url" and is_hub_id(manifest.source):
        return manifest.source.rpartition("/")[2], manifest.source, manifest.revision
    for seen in dict.fromkeys((place, place.resolve())):
        if found := _in_cache(seen):
            return found[0].rpartition("/")[2], *found
    return place.resolve().name, None, None


def _in_cache(place: Path) -> tuple[str, str | None] | None:
    """Id and revision of a folder in the cache of a hub; None for any other."""
    if place.parent.name == _SNAPSHOTS:
        kind, _, hub_id = place.parent.parent.name.partition("--")
        if kind == "models":
            return hub_id.replace("--", "/"), place.name
        if place.parents[2] in modelscope_roots("models"):
            return f"{kind}/{hub_id}", place.name
    for root in modelscope_roots("models"):
        if place.is_relative_to(root) and len(place.relative_to(root).parts) == 2:
            return place.relative_to(root).as_posix().replace("___", "."), None
    return None


def named(reference: str) -> Iterator[Path]:
    """Folders that may be the model of this name or hub id, nearest place first."""
    if not reference or reference.startswith(("/", ".", "~")) or ".." in Path(reference).parts:
        return
    folder = folder_of(*reference.split("@", 1))
    for root in (home.home() / "models", *given_roots()):
        yield root / folder
        if root.name == reference:
            yield root
        if "/" not in reference:
            yield from (owner / folder for owner in children(root))
    repository = reference.replace("/", "--")
    for hub in hub_roots():
        yield from _snapshots(hub / f"models--{repository}")
    for root in modelscope_roots("models"):
        yield root / reference.replace(".", "___")
        yield root / reference
        yield from _snapshots(root / repository)


def everywhere() -> Iterator[Path]:
    """Every folder of a known place that has a config.json."""
    candidates = list[Path]()
    for root in (home.home() / "models", *given_roots()):
        candidates += [root, *children(root), *(grandchild for c in children(root) for grandchild in children(c))]
    for hub in hub_roots():
        candidates += [snapshot for repository in sorted(hub.glob("models--*")) for snapshot in _snapshots(repository)]
    for root in modelscope_roots("models"):
        for owner in children(root):
            candidates += [*children(owner), *_snapshots(owner)]
    seen: set[Path] = set()
    for folder in candidates:
        if (folder / "config.json").is_file() and (real := folder.resolve()) not in seen:
            seen.add(real)
            yield folder


def given_roots() -> list[Path]:
    """The folders in `$FINETUI_MODELS`, separated as in PATH."""
    paths = os.environ.get("FINETUI_MODELS", "").split(os.pathsep)
    return [Path(path).expanduser() for path in paths if path]


def _snapshots(repository: Path) -> list[Path]:
    """The revisions of one repository in the hub cache that hold a model, the likeliest first."""
    return [path for path in snapshots(repository) if (path / "config.json").is_file()]
