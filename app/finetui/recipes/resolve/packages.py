"""Which of the packages that settings depend on are installed, told without importing any of them."""

from __future__ import annotations

import contextlib
import sys
from importlib import metadata
from pathlib import Path

from finetui.core import home, jobs
from finetui.core.files import read_json, write_json
from finetui.recipes.resolve.derive import BITS, FLASH

ASKED = (FLASH, BITS)
TORCH = "torch"
_TOLD = (*ASKED, TORCH)


def installed(python: str | None = None) -> dict[str, str]:
    """Versions by name under the interpreter that will train: this one's metadata, or another one's report.

    A report is remembered until something is installed there. Raises FinetuiError as `jobs.run` does.
    """
    interpreter = jobs.interpreter(python)
    if Path(interpreter).absolute() == Path(sys.executable).absolute():
        found = {name: _version(name) for name in _TOLD}
        return {name: version for name, version in found.items() if version}
    store, key = home.home() / "cache" / "interpreters.json", _stamp(interpreter)
    known: dict[str, dict[str, str]] = {}
    with contextlib.suppress(OSError, ValueError):
        known = dict(read_json(store))
    if key not in known:
        known[key] = dict(jobs.run("environment", {"optional": _TOLD}, python=python)["optional"])
        with contextlib.suppress(OSError):  # a full or read-only disk costs time, not truth
            store.parent.mkdir(parents=True, exist_ok=True)
            write_json(store, known)
    return known[key]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _stamp(interpreter: str) -> str:
    """The interpreter, and when something was last installed beside it."""
    folders = Path(interpreter).parent.parent.glob("lib/python*/*-packages")
    times = sorted(folder.stat().st_mtime_ns for folder in folders)
    return f"{interpreter}|{times}|{_TOLD}"
