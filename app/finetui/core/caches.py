"""Where other tools keep what they fetched: the hub cache of Hugging Face, the cache of ModelScope."""

from __future__ import annotations

import os
from pathlib import Path


def hf_home() -> Path:
    """Where Hugging Face's tools keep things: HF_HOME, else ~/.cache/huggingface."""
    cache_home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or f"{cache_home}/huggingface").expanduser()


def hub_roots() -> list[Path]:
    """The hub caches by huggingface_hub's rules: HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, else HF_HOME/hub."""
    cache = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return [Path(cache).expanduser() if cache else hf_home() / "hub"]


def modelscope_roots(kind: str) -> list[Path]:
    """The folders of the ModelScope cache that hold OWNER/NAME of one kind, `models` or `datasets`.

    Dots of a name may stand there as three underscores. Since modelscope_hub 0.5 the same folders hold OWNER--NAME
    with snapshots, as the hub cache does.
    """
    root = Path(os.environ.get("MODELSCOPE_CACHE") or "~/.cache/modelscope").expanduser()
    older = [root / "hub", root] if kind == "models" else []
    return [below.absolute() for below in (root / kind, root / "hub" / kind, *older)]


def snapshots(repository: Path) -> list[Path]:
    """The revisions of one repository in the hub cache: that of `main` first, then the newest."""
    try:
        main = (repository / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        main = ""
    found = children(repository / "snapshots")
    return sorted(found, key=lambda path: (path.name != main, -path.stat().st_mtime, path.name))


def children(folder: Path) -> list[Path]:
    """The folders below one, hidden ones left out; none where it is not there, or not ours to read."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []
