"""The files of a model that are not its weights, copied along."""

from __future__ import annotations

import fnmatch
import os
import shutil
from pathlib import Path

from finetui.core.errors import BAD_INPUT, FinetuiError, Problem

_WEIGHTS = (
    "*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json", "*.pt", "*.pth", "*.ckpt", "*.pkl",
    "*.gguf", "*.onnx", "*.onnx_data", "*.h5", "*.msgpack", "*.npz",
)  # fmt: skip
_CACHES = ("__pycache__",)


def companions(folder: Path) -> list[Path]:
    """Every file below a model's folder that is neither weights nor hidden nor a cache, relative to it, sorted.

    Raises FinetuiError (exit 3) where one is a link to outside the model: what it points at was never part of it.
    """
    found: list[Path] = []
    problems: list[Problem] = []
    for directory, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if not name.startswith(".") and name not in _CACHES)
        for name in sorted(files):
            path = Path(directory) / name
            if name.startswith(".") or any(fnmatch.fnmatch(name, pattern) for pattern in _WEIGHTS):
                continue
            target = Path(os.path.realpath(path))  # a link in a circle is not followed to an error
            if target.is_relative_to(_whole(folder)) and path.is_file():
                found.append(path.relative_to(folder))
            else:
                facts = {"target": str(target)}
                problems.append(Problem("merge.link-out", facts, str(path)))
    if problems:
        raise FinetuiError(problems, BAD_INPUT)
    return found


def carry(folder: Path, files: list[Path], out: Path) -> None:
    """Copy files of one folder into another, content and not links."""
    for name in files:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, out / name)


def _whole(folder: Path) -> Path:
    """The folder that a model's links may point into: itself, or all of its repository in the hub's cache."""
    real = folder.resolve()
    return real.parent.parent if real.parent.name == "snapshots" else real
