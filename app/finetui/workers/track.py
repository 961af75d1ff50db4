"""Passes the events of a run on to one tracker, beside the training: whatever befalls a tracker, the run goes on.

`python -m finetui.workers.track RUN_FOLDER TRACKER` follows the run's event files until the run has ended. How far it
has come stands in `tracking/TRACKER.json`, so that a resumed run continues the same curve.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from finetui.core.events import Event, Tail
from finetui.core.files import write_json
from finetui.core.tracked import METRICS, wandb_mode

FOLDER = "tracking"
_POLL_S = 1.0
_KEPT_EVERY_S = 5.0


class Tracker(Protocol):
    """One tracker, opened."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Send figures of a step."""

    def close(self, status: str) -> None:
        """Everything out, the run marked as ended so."""


class _Wandb:
    """Weights & Biases: online where there is a login, else into files that `wandb sync` sends later."""

    def __init__(self, name: str, config: Mapping[str, Any], folder: Path) -> None:
        import wandb

        settings = wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            save_code=False,
            silent=True,
            init_timeout=float(os.environ.get("WANDB_INIT_TIMEOUT", 20)),
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        facts = {"project": os.environ.get("WANDB_PROJECT", "finetui"), "name": name, "id": name, "resume": "allow"}
        for mode in dict.fromkeys((wandb_mode(), "offline")):
            try:
                self._run = wandb.init(**facts, config=dict(config), dir=folder, mode=mode, settings=settings)
                break
            except wandb.Error as error:
                print(f"wandb {mode}: {error}", file=sys.stderr, flush=True)
        else:
            raise RuntimeError("wandb cannot be opened")
        self._run.define_metric("train/global_step")
        self._run.define_metric("*", step_metric="train/global_step")

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._run.log({**metrics, "train/global_step": step})

    def close(self, status: str) -> None:
        self._run.finish(exit_code=0 if status == "finished" else 1)


class _TensorBoard:
    """TensorBoard: event files in the run's folder."""

    def __init__(self, name: str, config: Mapping[str, Any], folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder.parent / "tensorboard"))
        self._writer.add_text("settings", f"```json\n{json.dumps(config, indent=2, sort_keys=True)}\n```", 0)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self, status: str) -> None:
        self._writer.close()


class _Trackio:
    """trackio: a local database, shown by `trackio show`."""

    def __init__(self, name: str, config: Mapping[str, Any], folder: Path) -> None:
        import trackio

        self._trackio = trackio
        project = os.environ.get("TRACKIO_PROJECT", "finetui")
        with contextlib.redirect_stdout(sys.stderr):
            trackio.init(project, name, config=dict(config), resume="allow", auto_log_gpu=False, auto_log_cpu=False)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._trackio.log(dict(metrics), step=step)

    def close(self, status: str) -> None:
        with contextlib.redirect_stdout(sys.stderr):
            self._trackio.finish()


TRACKERS = {"wandb": _Wandb, "tensorboard": _TensorBoard, "trackio": _Trackio}


def follow(run: Path, name: str) -> None:
    """Send all that a run says until it has ended."""
    folder = run / FOLDER
    kept = folder / f"{name}.json"
    trainer = Tail(run / "events.jsonl", json.loads(kept.read_text())["offset"] if kept.exists() else 0)
    supervisor = Tail(run / "supervisor.jsonl", _size(run / "supervisor.jsonl"))
    tracker: Tracker = TRACKERS[name](run.name, json.loads((folder / "config.json").read_text()), folder)
    status, kept_at, parent = "running", time.monotonic(), os.getppid()
    while status == "running":
        ended = [event for event in supervisor.read() if event.name == "ended"]
        for event in trainer.events():
            if metrics := _metrics(event):
                tracker.log(metrics, event.step or 0)
        if time.monotonic() - kept_at > _KEPT_EVERY_S or ended:
            write_json(kept, {"offset": trainer.offset})
            kept_at = time.monotonic()
        if ended:
            status = str(ended[-1]["status"])
        elif os.getppid() != parent:  # the supervisor is gone; the one that adopts the run starts another
            status = "interrupted"
        else:
            time.sleep(_POLL_S)
    tracker.close(status)


def _metrics(event: Event) -> dict[str, float]:
    facts = event.facts
    names = METRICS.get(event.name, {})
    return {shown: facts[name] for name, shown in names.items() if isinstance(facts.get(name), (int, float))}


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def main() -> int:
    run, name = Path(sys.argv[1]), sys.argv[2]
    lost: list[str] = []
    warnings.showwarning = lambda message, *_: lost.append(str(message))  # trackio warns of what it could not keep
    try:
        follow(run, name)
    except Exception as error:  # a tracker may do anything; the supervisor reads the last line
        lost = [f"{type(error).__name__}: {error}"]
    for words in lost:
        print(words, file=sys.stderr)
    return 1 if any("fail" in words or "Error" in words for words in lost) else 0


if __name__ == "__main__":
    sys.exit(main())
