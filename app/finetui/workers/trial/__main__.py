"""`python -m finetui.workers.trial`: two steps of the trainer, in processes of their own.

The request has `model` (a folder), `lock` (what the trainer reads of lock.json), `rows` and `evaluation` (of each row
its tokens and its trained tokens), `vocabulary` (ids are below it), `environment` (variables of the processes),
`limit_bytes` (memory that a process may take on a CPU, or None) and `held_bytes` (what others hold of each GPU). The
result has `outcome`: with `measured` come `peak_bytes` of the fullest process, `seconds` of each step and `device`;
with `out-of-memory` comes its `detail`.

The processes end with this one's input: whoever asked and is gone leaves none behind.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetui.core.errors import JOB_FAILED, FinetuiError, Problem
from finetui.core.worker_io import progress, serve

OUT_OF_MEMORY = "out-of-memory"
_TRAINERS = {
    "FINETUI_EVENTS": "",
    "FINETUI_STOP_AFTER": "",
    "FINETUI_REHEARSE": "1",
    "FINETUI_RESUME": "",
    "FINETUI_CHANGES": "",
}
"""What the trainer reads beside places and ranks; empty is unset."""
_LOOK_MS = 200
_TAIL_BYTES = 4000
_MEMORY_WORDS = ("bad_alloc", "memoryerror", "cannot allocate memory", "can't allocate memory", "out of memory")


def attempt(request: Mapping[str, Any]) -> dict[str, Any]:
    """Take the steps.

    Raises FinetuiError (exit 1) where they fail for another reason than memory.
    """
    with tempfile.TemporaryDirectory(prefix="finetui-try-") as name:
        folder = Path(name)
        (folder / "lock.json").write_text(json.dumps(request["lock"]), encoding="utf-8")
        (folder / "request.json").write_text(json.dumps(dict(request)), encoding="utf-8")
        progress(stage="try")
        statuses = _run(folder, request)
        found = [_said(folder, rank, status) for rank, status in enumerate(statuses)]
    failed = [one for one in found if one["outcome"] != "measured"]
    for one in failed:
        if one["outcome"] == OUT_OF_MEMORY:
            return one
    if told := [one for one in failed if one["outcome"] == "failed"] or failed:
        facts = {"cause": told[0]["cause"], "detail": told[0]["detail"]}
        raise FinetuiError(Problem("tried.failed", facts), JOB_FAILED)
    return max(found, key=lambda one: one["peak_bytes"]) | {"seconds": found[0]["seconds"]}


def _run(folder: Path, request: Mapping[str, Any]) -> list[int | None]:
    """Run the processes to their end; gives their statuses, None for those ended because another one had failed."""
    environment = _environment(folder, request)
    children = []
    try:
        for rank in range(request["lock"]["world_size"]):
            with (folder / f"log-{rank}").open("wb") as log:
                child = subprocess.Popen(
                    [sys.executable, "-m", "finetui.workers.trial.process", str(folder)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                )
            children.append(child)
        return _wait(children)
    finally:
        for child in children:
            child.kill()
            child.wait()


def _environment(folder: Path, request: Mapping[str, Any]) -> dict[str, str]:
    """What launch.sh and torch.distributed.run would tell every process of the trainer."""
    kept = {name: value for name, value in os.environ.items() if name not in _TRAINERS}
    places = {"MODEL": request["model"], "DATA": str(folder), "OUT": str(folder / "out")}
    ranks = {"WORLD_SIZE": str(request["lock"]["world_size"]), "MASTER_ADDR": "127.0.0.1"}
    return {**kept, **request["environment"], **places, **ranks, "MASTER_PORT": str(_free_port()), **_TRAINERS}


def _wait(children: Sequence[subprocess.Popen[bytes]]) -> list[int | None]:
    """Their statuses, once all have ended or one has failed.

    Raises SystemExit where nobody waits for the answer any more.
    """
    asked = select.poll()
    asked.register(sys.stdin.fileno(), 0)  # the end of input is reported unasked
    while True:
        if any(seen & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, seen in asked.poll(_LOOK_MS)):
            raise SystemExit(0)
        statuses = [child.poll() for child in children]
        if None not in statuses or any(statuses):
            return statuses


def _said(folder: Path, rank: int, status: int | None) -> dict[str, Any]:
    """What a process left: its result, or how it ended without one."""
    try:
        found: dict[str, Any] = json.loads((folder / f"result-{rank}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        words = (folder / f"log-{rank}").read_bytes()[-_TAIL_BYTES:].decode("utf-8", "replace").strip()
        last = words.splitlines()[-1] if words else ""
        if status == -signal.SIGKILL:
            return {"outcome": OUT_OF_MEMORY, "detail": "the system ended the process (SIGKILL)"}
        if any(sign in words.lower() for sign in _MEMORY_WORDS):
            return {"outcome": OUT_OF_MEMORY, "detail": last}
        outcome = "ended" if status is None else "failed"
        return {"outcome": outcome, "cause": f"status {status}", "detail": last}
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    serve(attempt)
