"""Where finetui keeps things: `$FINETUI_HOME`, by default `~/.finetui`."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The root of everything kept."""
    return Path(os.environ.get("FINETUI_HOME") or Path.home() / ".finetui").expanduser()


def folder(name: str) -> Path:
    """One of `bundles runs drafts cache models`, made where it is missing.

    Raises OSError where it cannot be made.
    """
    path = home() / name
    path.mkdir(parents=True, exist_ok=True)
    return path
