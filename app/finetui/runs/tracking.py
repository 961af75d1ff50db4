"""The trackers of a run: a process each beside the training, which may fail, hang or starve and disturbs nothing."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from typing import Any

from finetui.core import home, jobs
from finetui.core.errors import MACHINE, USAGE, FinetuiError, Problem
from finetui.core.files import write_json
from finetui.core.messages import t
from finetui.core.text import one_line
from finetui.core.tracked import METRICS, wandb_mode
from finetui.runs import processes
from finetui.runs.folder import RunFolder
from finetui.runs.journal import Journal
from finetui.runs.outcome import locked
from finetui.runs.state import RunState

PACKAGES = {"wandb": ("wandb",), "tensorboard": ("tensorboard",), "trackio": ("trackio",)}
"""The trackers, and the packages that each needs under the interpreter that trains."""
FOLDER = "tracking"
GRACE_S = 3.0
"""How long a run that has ended waits for its trackers; what they have still to send, they send without it."""
_SENT = ("stage", "method", "rows_per_step", "world_size", "steps", "torch", "hardware", "finetui")


def check_track(words: str | None, python: str) -> str:
    """The trackers of `--track`, joined by commas.

    Raises FinetuiError (exit 2) for one that is unknown, (exit 5) for one whose package is not installed.
    """
    names = list(dict.fromkeys(word.strip() for word in (words or "").split(",") if word.strip()))
    known = ", ".join(PACKAGES)
    if unknown := [
        Problem("tracking.unknown", {"name": name, "names": known}) for name in names if name not in PACKAGES
    ]:
        raise FinetuiError(unknown, USAGE)
    if names:
        wanted = [package for name in names for package in PACKAGES[name]]
        found = jobs.run("environment", {"packages": [], "optional": wanted}, python=python)["optional"]
        missing = [package for package in wanted if package not in found]
        if missing:
            facts = {"packages": " ".join(missing), "python": python}
            raise FinetuiError([Problem("tracking.missing", facts)], MACHINE)
    return ",".join(names)


def announcement(run: RunFolder) -> list[str]:
    """What each tracker of the run will be sent and where that goes, a sentence each."""
    figures = ", ".join(name for names in METRICS.values() for name in names.values())
    lock = locked(run)
    settings = ", ".join(sorted(what_is_sent(lock).keys() - (lock.get("training") or {}).keys()))
    return [
        t("tracking.sends", name=name, where=t(f"tracking.where-{_where(name)}"), figures=figures, settings=settings)
        for name in run.read().track.split(",")
        if name
    ]


def _where(name: str) -> str:
    return name if name != "wandb" else "wandb-online" if wandb_mode() == "online" else "wandb-offline"


def what_is_sent(lock: Mapping[str, Any]) -> dict[str, Any]:
    """What trackers get once, beside the figures of each step: no path, no name of a file, no text of the data."""
    settings = {name: choice["value"] for name, choice in (lock.get("training") or {}).items()}
    facts = {name: lock[name] for name in _SENT if name in lock}
    model = lock.get("model") or {}
    train = (lock.get("data") or {}).get("train") or {}
    return {
        **settings,
        **facts,
        "model": one_line(str(model.get("name", ""))),
        "model_identity": model.get("identity"),
        "rows": train.get("rows"),
        "tokens": train.get("tokens"),
    }


class Trackers:
    """The tracker processes of one supervisor."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start those that the state names; one that cannot be started is a warning."""
        state, run = self._journal.state, self._journal.run
        names = [name for name in state.track.split(",") if name]
        if not names:
            return
        (run.path / FOLDER).mkdir(exist_ok=True)
        write_json(run.path / FOLDER / "config.json", what_is_sent(locked(run)))
        for name in names:
            try:
                self._running[name] = _launch(run, state, name)
            except OSError as error:
                self._warn(name, str(error))

    @property
    def pids(self) -> list[int]:
        """The processes of all trackers, with those that they started."""
        own = [child.pid for child in self._running.values() if child.poll() is None]
        return [*own, *processes.descendants(own)]

    def check(self) -> None:
        """Warn once of each that has ended before its time."""
        for name, child in list(self._running.items()):
            if child.poll() is not None:
                del self._running[name]
                self._warn(name, _last_line(self._journal.run, name) or f"exit code {child.returncode}")

    def finish(self, *, kill: bool) -> None:
        """Wait a little for what is left to be sent; then leave those that still send it alone, or `kill` them."""
        end = time.monotonic() + GRACE_S
        for name, child in self._running.items():
            try:
                if child.wait(max(0.0, end - time.monotonic())) != 0:
                    self._warn(name, _last_line(self._journal.run, name) or f"exit code {child.returncode}")
            except subprocess.TimeoutExpired:
                if kill:
                    self._warn(name, "stopped with the run, before all was sent")
        if kill:
            left = self.pids
            processes.kill_all(lambda: [pid for pid in left if processes.start_time(pid) is not None])
            self._running.clear()

    def _warn(self, name: str, words: str) -> None:
        self._journal.note("warning", code="tracker", text=f"{name}: {one_line(words)}")


def _launch(run: RunFolder, state: RunState, name: str) -> subprocess.Popen[bytes]:
    more = {"TRACKIO_DIR": os.environ.get("TRACKIO_DIR", str(home.folder("trackio")))}
    environment = jobs.worker_environment(state.python, more)
    heard = run.supervisor_events.stat().st_size if run.supervisor_events.exists() else 0
    for variable in ("HF_HUB_OFFLINE", processes.RUN_ID):  # it may publish; and it is none of the training's processes
        environment.pop(variable, None)
    with (run.path / FOLDER / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            [state.python, "-m", "finetui.workers.track", str(run.path), name, str(heard)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=run.path,
            env=environment,
        )


def _last_line(run: RunFolder, name: str) -> str:
    try:
        text = (run.path / FOLDER / f"{name}.log").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return str(error)
    return one_line(next((line for line in reversed(text.splitlines()) if line.strip()), ""), 300)
