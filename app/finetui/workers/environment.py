"""What is installed under this interpreter: versions by reading metadata alone, without importing any of it."""

from __future__ import annotations

import csv
import hashlib
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

from finetui.core.errors import MACHINE, FinetuiError, Problem
from finetui.core.worker_io import serve

NEEDED = ("torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers", "pyarrow", "numpy")
"""What the trainer imports for any stage and method."""
_INSTALLER_FILES = {"INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_cache.json"}


def handle(request: Mapping[str, Any]) -> dict[str, Any]:
    """Python, torch's build, and the versions of the `packages` asked for, of `more`, and of all that they rest on.

    Of the `optional` ones only those that are installed are told.
    Raises FinetuiError (exit 5) that names all the packages that are missing.
    """
    usual, more = tuple(request.get("packages") or NEEDED), tuple(request.get("more", ()))
    python, problems = sys.executable, []
    if missing := [name for name in usual if _installed(name) is None]:
        problems.append(Problem("hardware.missing-packages", {"python": python, "packages": ", ".join(missing)}))
    lacking = [name for name in more if _installed(name) is None]
    problems += [Problem("hardware.missing-package", {"python": python, "package": name}) for name in lacking]
    if problems:
        raise FinetuiError(problems, MACHINE)
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "packages": dict(sorted(_closure((*usual, *more)).items())),
        "torch": _torch(),
        "optional": {name: found.version for name in request.get("optional", ()) if (found := _installed(name))},
    }


def _closure(names: Iterable[str]) -> dict[str, str]:
    """Versions of the packages and of everything installed that they require, extras aside."""
    versions: dict[str, str] = {}
    waiting = [_normal(name) for name in names]
    while waiting:
        name = waiting.pop()
        found = None if name in versions else _installed(name)
        if found is None:
            continue
        versions[name] = found.version
        for requirement in found.requires or ():
            if not re.search(r";.*\bextra\s*==", requirement):
                waiting.append(_normal(re.match(r"[\w.-]+", requirement)[0]))
    return versions


def _torch() -> dict[str, str | None]:
    found = _installed("torch")
    if found is None:
        return {"version": None, "local": None, "record_sha256": None}
    version, _, local = found.version.partition("+")
    return {"version": version, "local": local, "record_sha256": _record_digest(found.read_text("RECORD"))}


def _record_digest(record: str | None) -> str | None:
    """SHA-256 of a RECORD less what an installer adds to it: the same wheel gives the same digest everywhere.

    Scripts outside site-packages hold the interpreter's path; byte code has no digest.
    """
    if record is None:
        return None
    kept = sorted(
        f"{path},{digest}"
        for path, digest, *_ in csv.reader(record.splitlines())
        if digest and not path.startswith(("../", "/")) and not _is_installers(path)
    )
    return hashlib.sha256("\n".join(kept).encode()).hexdigest()


def _is_installers(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    return folder.endswith(".dist-info") and name in _INSTALLER_FILES


def _installed(name: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    serve(handle)
