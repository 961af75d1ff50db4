"""Passes the events of a run on to one tracker, beside the training: whatever befalls a tracker, the run goes on.

`python -m finetui.workers.track RUN_FOLDER TRACKER OFFSET` follows the run's event files until the run has ended, what
its supervisor says from byte OFFSET on. How far it has come stands in `tracking/TRACKER.json`, so that a resumed run
continues the same curve: steps that are made again after a kill are not sent again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import threading
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from finetui.core.events import Event, Tail
from finetui.core.files import write_json
from finetui.core.tracked import METRICS, wandb_mode

FOLDER = "tracking"
_POLL_S = 1.0
_KEPT_EVERY_S = 5.0
_ALONE_S = 60.0
"""How long it may go on once the supervisor of its run is gone."""


class Tracker(Protocol):
    """One tracker, opened."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Send figures of a step."""

    def close(self, status: str) -> None:
        """Everything out, the run marked as ended so."""


class _Wandb:
    """Weights & Biases: online where there is a login, else into files that `wandb sync` sends later."""

    def __init__(self, name: str, config: Mapping[str, Any], folder: Path, _: int) -> None:
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
                wandb.teardown()  # else the id counts as in use by what has just failed
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

    def __init__(self, name: str, config: Mapping[str, Any], folder: Path, first: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder.parent / "tensorboard"), purge_step=first or None)
        if not first:
            self._writer.add_text("settings", f"```json\n{json.dumps(config, indent=2, sort_keys=True)}\n```", 0)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self, status: str) -> None:
        self._writer.close()


class _Trackio:
    """trackio: a local database, shown by `trackio show`."""

    def __init__(self, name: str, config: Mapping[str, Any], folder: Path, _: int) -> None:
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


def follow(run: Path, name: str, heard: int) -> None:
    """Send all that a run says until it has ended; what its supervisor says counts from byte `heard` on."""
    folder = run / FOLDER
    progress = Progress.read(folder / f"{name}.json")
    trainer = Tail(run / "events.jsonl", progress.offset)
    supervisor = Tail(run / "supervisor.jsonl", heard)
    config = json.loads((folder / "config.json").read_text())
    tracker: Tracker = TRACKERS[name](run.name, config, folder, progress.first)
    status, kept_at, parent = "running", time.monotonic(), os.getppid()
    while status == "running":
        ended = [event for event in supervisor.read() if event.name == "ended"]
        gone = os.getppid() != parent  # the supervisor is; the one that adopts the run starts another
        for event in trainer.events():
            if (metrics := _metrics(event)) and progress.is_new(event):
                tracker.log(metrics, event.step or 0)
        if ended or gone:
            status = str(ended[-1]["status"]) if ended else "interrupted"
        if status != "running" or time.monotonic() - kept_at > _KEPT_EVERY_S:
            progress.offset = trainer.offset
            progress.write()
            kept_at = time.monotonic()
        if status == "running":
            time.sleep(_POLL_S)
    tracker.close(status)


@dataclass
class Progress:
    """How far a tracker has come, over all launches of its run."""

    path: Path
    offset: int = 0
    """Bytes of the trainer's events that were read."""
    sent: dict[str, int] = field(default_factory=dict)
    """The highest step that was sent of each kind of event."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """As it was last written."""
        return cls(path, **json.loads(path.read_text())) if path.exists() else cls(path)

    def write(self) -> None:
        """Keep it."""
        write_json(self.path, {"offset": self.offset, "sent": self.sent})

    @property
    def first(self) -> int:
        """The first step that was not sent, or 0 where none was."""
        return max(self.sent.values(), default=-1) + 1

    def is_new(self, event: Event) -> bool:
        """Whether a step was not sent yet; it counts as sent from now on."""
        step = event.step or 0
        if step <= self.sent.get(event.name, -1):
            return False
        self.sent[event.name] = step
        return True


def _metrics(event: Event) -> dict[str, float]:
    facts = event.facts
    names = METRICS.get(event.name, {})
    return {shown: facts[name] for name, shown in names.items() if isinstance(facts.get(name), (int, float))}


def _end_some_day() -> None:
    """End this process a while after its supervisor, however its tracker hangs."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_S)
        time.sleep(_ALONE_S)
        print("did not end in time", file=sys.stderr, flush=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> int:
    run, name, heard = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    _end_some_day()
    lost: list[str] = []
    warnings.showwarning = lambda message, *_: lost.append(str(message))  # trackio warns of what it could not keep
    try:
        with (run / FOLDER / f"{name}.lock").open("w") as alone:
            fcntl.flock(alone, fcntl.LOCK_EX)  # one of an earlier launch may still be sending
            follow(run, name, heard)
    except Exception as error:  # a tracker may do anything; the supervisor reads the last line
        lost = [f"{type(error).__name__}: {error}"]
    for words in lost:
        print(words, file=sys.stderr)
    return 1 if any("fail" in words or "Error" in words for words in lost) else 0


if __name__ == "__main__":
    sys.exit(main())
