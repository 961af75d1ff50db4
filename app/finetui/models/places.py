"""Where models lie on a machine: `models/`, `$FINETUI_MODELS`, the caches of Hugging Face and ModelScope."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from finetui.core import home
from finetui.core.caches import children, hub_roots, modelscope_roots, snapshots

DEMO = "demo"
"""The name of the model that finetui makes itself."""
_SNAPSHOTS = "snapshots"


def origin(folder: Path) -> tuple[str, str | None, str | None]:
    """Name, source and revision of a model, as far as the place where it lies tells them."""
    place = folder.absolute()
    if place == (home.home() / "models" / DEMO).absolute():
        return DEMO, DEMO, None
    if place.parent.name == _SNAPSHOTS and place.parent.parent.name.startswith("models--"):
        hub_id = place.parent.parent.name.removeprefix("models--").replace("--", "/")
        return hub_id.rpartition("/")[2], hub_id, place.name
    for root in modelscope_roots("models"):
        if place.is_relative_to(root) and len(place.relative_to(root).parts) == 2:
            hub_id = place.relative_to(root).as_posix().replace("___", ".")
            return hub_id.rpartition("/")[2], hub_id, None
    return place.resolve().name, None, None


def named(reference: str) -> Iterator[Path]:
    """Folders that may be the model of this name or hub id, nearest place first."""
    if reference.startswith(("/", ".", "~")) or ".." in Path(reference).parts:
        return
    yield home.home() / "models" / reference
    for root in given_roots():
        yield root / reference
        if root.name == reference:
            yield root
    for hub in hub_roots():
        yield from _snapshots(hub / f"models--{reference.replace('/', '--')}")
    for root in modelscope_roots("models"):
        yield root / reference.replace(".", "___")
        yield root / reference


def everywhere() -> Iterator[Path]:
    """Every folder of a known place that has a config.json."""
    candidates = children(home.home() / "models")
    for root in given_roots():
        candidates += [root, *children(root), *(grandchild for c in children(root) for grandchild in children(c))]
    for hub in hub_roots():
        candidates += [snapshot for repository in sorted(hub.glob("models--*")) for snapshot in _snapshots(repository)]
    for root in modelscope_roots("models"):
        candidates += [model for owner in children(root) for model in children(owner)]
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
