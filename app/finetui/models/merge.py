"""Merging an adapter into its base model: checked first, streamed, carried, compared, and only then put in place."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from finetui.core import jobs
from finetui.core.errors import BAD_INPUT, MACHINE, FinetuiError, Problem
from finetui.core.jobs import Progress
from finetui.models.adapter import changes, read_adapter
from finetui.models.carry import carry, companions
from finetui.models.held import own_rows
from finetui.models.identify import ModelFacts, identify
from finetui.models.merged import Merged, Quantization, QuantizedBase
from finetui.models.serving import write_stop_ids, write_template
from finetui.models.weights import ADAPTER, INDEX, read_weights

_MERGE_RAM_BYTES = 700_000_000
"""torch, and three blocks of rows."""
_SLACK_BYTES = 64_000_000
_LOADED = 1.15
"""Memory of a loaded model, activations included, over that of its weights."""


@dataclass(frozen=True)
class Chat:
    """How the adapter was trained to talk."""

    stop_ids: Sequence[int] = ()
    """Ids that end a turn."""
    template: str | None = None
    """The chat template, where it is not the base model's own."""


def merge(
    adapter_folder: Path,
    base: Path,
    out: Path,
    *,
    available_bytes: int,
    rows: Sequence[Sequence[int]] | None = None,
    chat: Chat | None = None,
    quantization: Quantization | None = None,
    python: str | None = None,
    on_progress: Progress | None = None,
) -> Merged:
    """Merge the adapter into the base model and write the result to `out`, which must not exist or be empty.

    `available_bytes` is the memory that jobs may use; `rows` are ids to compare on, by default some of the model's own;
    `quantization` is how the base was packed in training, which only the comparison heeds: `base` is the original.
    Raises FinetuiError (exit 3) where the two do not fit together, (exit 5) where memory or disk do not suffice.
    """
    started = time.monotonic()
    facts = identify(base, on_progress)
    weights = read_weights(base, [])
    adapter = read_adapter(adapter_folder)
    plan = changes(adapter, facts, weights)
    files = companions(base)
    _check_room(base, [*weights.files, *map(str, files)], out, available_bytes)
    with _building(out) as part:
        request = {
            "base": str(base.absolute()),
            "adapter": str((adapter_folder / ADAPTER).absolute()),
            "out": str(part),
            "files": list(weights.files),
            "changes": {name: asdict(change) for name, change in plan.items()},
        }
        done = jobs.run("merge", request, python=python, on_progress=on_progress)
        carry(base, [*files, *([Path(INDEX)] if weights.indexed else [])], part)
        if chat is not None and chat.template is not None:
            write_template(part, chat.template)
        write_stop_ids(part, chat.stop_ids if chat is not None else ())
        figures: Mapping[str, Any] = {"quantized_base": QuantizedBase.unmeasured(quantization)}
        if (dtype := comparison_dtype(facts, available_bytes)) is not None:
            folders = {"base": str(base.absolute()), "adapter": str(adapter_folder.absolute()), "merged": str(part)}
            asked = {
                **folders,
                "scratch": str(part.parent),
                "rows": list(rows or own_rows(facts)),
                "dtype": dtype,
                "has_tokenizer": facts.has_tokenizer,
                "quantization": asdict(quantization) if quantization else None,
            }
            figures = _compare(asked, python, on_progress)
        size = sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
    return Merged(
        out=str(out),
        bytes=size,
        peak_rss_bytes=done["peak_rss_bytes"],
        seconds=round(time.monotonic() - started, 3),
        base=facts.name,
        **figures,
    )


def _check_room(base: Path, names: Sequence[str], out: Path, available_bytes: int) -> None:
    """Disk and memory before the first byte.

    Raises FinetuiError (exit 5) where either is short.
    """
    place = out.absolute()
    while not place.exists():
        place = place.parent
    needed = sum((base / name).stat().st_size for name in names) + _SLACK_BYTES
    free = shutil.disk_usage(place).free
    problems = []
    if free < needed:
        facts = {"free_mb": free // 10**6, "needed_mb": needed // 10**6}
        problems.append(Problem("merge.disk", facts, str(place)))
    if available_bytes < _MERGE_RAM_BYTES:
        facts = {"free_mb": available_bytes // 10**6, "needed_mb": _MERGE_RAM_BYTES // 10**6}
        problems.append(Problem("merge.ram", facts))
    if problems:
        raise FinetuiError(problems, MACHINE)


def _compare(request: Mapping[str, Any], python: str | None, on_progress: Progress | None) -> Mapping[str, Any]:
    """Fields of `Merged` that the worker `compare` fills."""
    found = jobs.run("compare", request, python=python, on_progress=on_progress)
    quantized = QuantizedBase(**base) if (base := found.get("quantized_base")) else None
    return {**found, "quantized_base": quantized, "compared_in": request["dtype"]}


def comparison_dtype(facts: ModelFacts, available_bytes: int) -> str | None:
    """What to compare in: float32 where it fits, so that only the merge differs and not the arithmetic around it; else
    the dtype of the weights; None where the model does not fit at all.
    """
    item_bytes = {"float32": 4, "bfloat16": 2, "float16": 2}
    for dtype in ("float32", facts.dtype):
        if dtype in item_bytes and facts.parameters * item_bytes[dtype] * _LOADED + _MERGE_RAM_BYTES < available_bytes:
            return dtype
    return None


@contextlib.contextmanager
def _building(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place at the end, and goes away on any error.

    Raises FinetuiError (exit 3) where `out` is taken, or another merge is writing it. What a killed merge left behind
    is removed.
    """
    if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
        raise FinetuiError(Problem("merge.out-taken", {"out": str(out)}), BAD_INPUT)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.absolute().with_name(f"{out.name}.part")
    with part.with_name(f".{out.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FinetuiError(Problem("merge.out-busy", {"out": str(out)}), BAD_INPUT) from error
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            yield part
            os.replace(part, out)
        finally:
            shutil.rmtree(part, ignore_errors=True)
            Path(lock.name).unlink(missing_ok=True)
