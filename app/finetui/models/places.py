"""Where models lie on a machine: `models/`, `$FINETUI_MODELS`, the caches of Hugging Face and ModelScope."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from finetui.core import home

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
    for root in _modelscope_roots():
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
    for hub in _hub_roots():
        yield from _snapshots(hub / f"models--{reference.replace('/', '--')}")
    for root in _modelscope_roots():
        yield root / reference.replace(".", "___")
        yield root / reference


def everywhere() -> Iterator[Path]:
    """Every folder of a known place that has a config.json."""
    candidates = _children(home.home() / "models")
    for root in given_roots():
        candidates += [root, *_children(root), *(grandchild for c in _children(root) for grandchild in _children(c))]
    for hub in _hub_roots():
        candidates += [snapshot for repository in sorted(hub.glob("models--*")) for snapshot in _snapshots(repository)]
    for root in _modelscope_roots():
        candidates += [model for owner in _children(root) for model in _children(owner)]
    seen: set[Path] = set()
    for folder in candidates:
        if (folder / "config.json").is_file() and (real := folder.resolve()) not in seen:
            seen.add(real)
            yield folder


def given_roots() -> list[Path]:
    """The folders in `$FINETUI_MODELS`, separated as in PATH."""
    paths = os.environ.get("FINETUI_MODELS", "").split(os.pathsep)
    return [Path(path).expanduser() for path in paths if path]


def _hub_roots() -> list[Path]:
    """The hub caches by huggingface_hub's rules: HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub."""
    if cache := os.environ.get("HF_HUB_CACHE"):
        return [Path(cache).expanduser()]
    cache_home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    hf_home = os.environ.get("HF_HOME") or f"{cache_home}/huggingface"
    return [Path(hf_home).expanduser() / "hub"]


def _modelscope_roots() -> list[Path]:
    """The ModelScope cache: OWNER/NAME in it or in its `models/`, where dots may stand as three underscores."""
    cache = os.environ.get("MODELSCOPE_CACHE")
    roots = [Path(cache).expanduser()] if cache else [Path("~/.cache/modelscope/hub").expanduser()]
    return [below.absolute() for root in roots for below in (root / "models", root, root / "hub" / "models")]


def _snapshots(repository: Path) -> list[Path]:
    """The revisions of one repository in the hub cache: that of `main` first, then the newest."""
    try:
        main = (repository / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        main = ""
    found = [path for path in _children(repository / _SNAPSHOTS) if (path / "config.json").is_file()]
    return sorted(found, key=lambda path: (path.name != main, -path.stat().st_mtime, path.name))


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:  # a place that is not there, or not ours to read, holds no model for us
        return []
