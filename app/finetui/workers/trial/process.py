"""One process of a trial: `python -m finetui.workers.trial.process FOLDER`, the trainer's own code on made up rows."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finetui.workers.train import machine
from finetui.workers.train import main as training
from finetui.workers.train.data import IGNORED, Rows
from finetui.workers.train.events import Events
from finetui.workers.train.failure import explain
from finetui.workers.train.settings import read_lock

_SEED = 1


def main() -> int:
    """Take the steps, and leave what they came to in FOLDER/result-RANK.json."""
    folder = Path(sys.argv[1])
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    rank = int(os.environ["RANK"])
    die_first()
    try:
        found = take(folder, request, rank)
    except BaseException as error:
        traceback.print_exc()
        failure = explain(error)
        outcome = "out-of-memory" if failure.cause == "out-of-memory" else "failed"
        found = {"outcome": outcome, "cause": failure.cause, "detail": failure.detail}
    (folder / f"result-{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    return int(found["outcome"] != "measured")


def take(folder: Path, request: dict[str, Any], rank: int) -> dict[str, Any]:
    """Load, rehearse the heaviest micro batches and train the two steps, as the trainer does.

    Raises what the trainer raises.
    """
    place = replace(training.find_place(), lock=folder / "lock.json")
    events = Events(place.events if rank == 0 else None)
    lock = read_lock(place.lock, place.changes)
    rows = make_rows(request["rows"], request["vocabulary"])
    evaluation = make_rows(request["evaluation"], request["vocabulary"]) if request["evaluation"] else None
    result = training.load(lock, place, events)
    if not machine.on_cuda():
        forget_loading()
        limit(request["limit_bytes"])
    stop = training.Stop()
    trainer = training.prepare(lock, place, events, result, rows, evaluation, None, stop)
    stop.waits = True
    trainer.train()
    return {
        "outcome": "measured",
        "peak_bytes": machine.memory_bytes() + outside_bytes(request["held_bytes"]),
        "seconds": step_seconds(place.events) if rank == 0 else [],
        "device": machine.device_name(),
    }


def make_rows(sizes: Sequence[tuple[int, int]], vocabulary: int) -> Rows:
    """Rows of random ids: of each its tokens and how many of them, the last ones, are trained."""
    offsets = np.concatenate(([0], np.cumsum([tokens for tokens, _ in sizes]))).astype(np.int64)
    ids = np.random.default_rng(_SEED).integers(0, vocabulary, int(offsets[-1]), dtype=np.int32)
    labels = np.full(len(ids), IGNORED, np.int32)
    for (_, trained), end in zip(sizes, offsets[1:], strict=True):
        labels[end - trained : end] = ids[end - trained : end]
    return Rows(ids, labels, offsets)


def step_seconds(events: Path) -> list[float]:
    """Seconds of each step, from the trainer's own events."""
    lines = (json.loads(line) for line in events.read_text(encoding="utf-8").splitlines())
    return [line["tokens"] / line["tokens_per_second"] for line in lines if line["event"] == "step"]


def outside_bytes(held: Sequence[int]) -> int:
    """What this process has of its GPU beside what torch's allocator counts: the driver's context, NCCL, workspaces.

    All that is in use there, less the allocator's, less what `held` says that others had before.
    """
    if not machine.on_cuda():
        return 0
    device = torch.cuda.current_device()
    free, total = torch.cuda.mem_get_info(device)
    before = held[device] if device < len(held) else 0
    return max(0, total - free - torch.cuda.memory_reserved(device) - before)


def die_first() -> None:
    """Where the machine's memory runs out, let the system end this process and no other."""
    with contextlib.suppress(OSError):  # Linux only
        Path("/proc/self/oom_score_adj").write_text("1000")


def forget_loading() -> None:
    """Let the peak of resident memory count from now on: files that were mapped while loading are no need."""
    with contextlib.suppress(OSError):  # Linux only; elsewhere the peak is that of loading too
        Path("/proc/self/clear_refs").write_text("5")


def limit(size: int | None) -> None:
    """Let this process take so many bytes more, and no others: a tensor beyond them is refused, and that is told."""
    if size is None:
        return
    with contextlib.suppress(OSError, ValueError):
        have = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (have + size, resource.getrlimit(resource.RLIMIT_DATA)[1]))


if __name__ == "__main__":
    sys.exit(main())
