"""The run folder: its files, its state, and how a run is named and found."""

from __future__ import annotations

import os
import re
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from finetui.core import home
from finetui.core.errors import BAD_INPUT, FinetuiError, Problem
from finetui.core.files import read_json, write_json
from finetui.runs.processes import Identity

HEARTBEAT_S = 60.0
"""A run on another machine whose supervisor has written nothing for so long is taken for dead."""

STARTING, RUNNING = "starting", "running"
FINISHED, FAILED, STOPPED, INTERRUPTED = "finished", "failed", "stopped", "interrupted"
STATUSES = (STARTING, RUNNING, FINISHED, FAILED, STOPPED, INTERRUPTED)
_CANDIDATES_SHOWN = 8
_KINDS = {"str": (str,), "int": (int,), "float": (int, float), "None": (type(None),)}


@dataclass(frozen=True)
class RunState:
    """What the supervisor has said of a run: the content of `state.json`."""

    run: str
    """The run's name, which is also its RUN_ID."""
    bundle: str
    """The bundle's folder."""
    bundle_id: str
    """Digest of the bundle's manifest."""
    bundle_name: str
    """The bundle's own name."""
    model: str
    """The base model's folder."""
    python: str
    """The interpreter that trains."""
    world_size: int
    """Training processes that the lock asks for."""
    steps_total: int
    """Optimizer steps of the whole run."""
    started: float
    """When it was started, in seconds since 1970."""
    kind: str = "run"
    """`run` or `replay`."""
    status: str = STARTING
    """`starting running finished failed stopped`; readers add `interrupted` (see `RunFolder.status`)."""
    host: str = ""
    """Machine of the process that answers for the run: first its starter, then its supervisor."""
    pid: int = 0
    """Its process id."""
    pid_start: int = 0
    """Its start time in clock ticks since boot."""
    boot_id: str = ""
    """The kernel's id of that boot."""
    ended: float | None = None
    """When it ended."""
    exit_code: int | None = None
    """What launch.sh ended with."""
    cause: str | None = None
    """Why it failed: a stable code (see `outcome`)."""
    detail: str | None = None
    """The cause's particulars, or the last words of the log."""
    gpus: str | None = None
    """The GPUs it was given, as CUDA_VISIBLE_DEVICES has them."""
    stop_after: int | None = None
    """Stop after so many steps, the schedule unchanged; None for all."""

    @property
    def identity(self) -> Identity:
        """The process that answers for the run."""
        return Identity(self.host, self.pid, self.pid_start, self.boot_id)

    def held_by(self, identity: Identity) -> RunState:
        """The same with another process answering for it."""
        return replace(self, **asdict(identity))

    @property
    def steps_asked(self) -> int:
        """Steps that this run is to do."""
        return self.steps_total if self.stop_after is None else min(self.stop_after, self.steps_total)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """The inverse of `asdict`; keys of a later version are passed over.

        Raises TypeError or ValueError where a fact is missing, or is of another type.
        """
        known = {field.name: str(field.type) for field in fields(cls)}
        state = cls(**{key: item for key, item in value.items() if key in known})
        for name, kinds in known.items():
            if type(getattr(state, name)) not in [kind for word in kinds.split(" | ") for kind in _KINDS[word]]:
                raise ValueError(f"{name} is no {kinds}")
        if state.status not in STATUSES:
            raise ValueError(f"no status {state.status}")
        return state


@dataclass(frozen=True)
class RunFolder:
    """One run's folder and the files in it."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name, which is also its RUN_ID."""
        return self.path.name

    @property
    def events(self) -> Path:
        """Written by the trainer alone."""
        return self.path / "events.jsonl"

    @property
    def supervisor_events(self) -> Path:
        """Written by the supervisor alone: samples, its exit and the cause; also its heartbeat."""
        return self.path / "supervisor.jsonl"

    @property
    def log(self) -> Path:
        """What the trainer printed."""
        return self.path / "train.log"

    @property
    def done(self) -> Path:
        """The trainer's own record, written last."""
        return self.path / "done.json"

    @property
    def output(self) -> Path:
        """The adapter or model."""
        return self.path / "output"

    def holds_model(self) -> bool:
        """Whether its result is there and is a whole model."""
        return (self.output / "config.json").is_file()

    @property
    def lock(self) -> Path:
        """Held by the supervisor for as long as it lives."""
        return self.path / "supervisor.lock"

    @property
    def _state(self) -> Path:
        return self.path / "state.json"

    def read(self) -> RunState:
        """The state as last written.

        Raises FinetuiError (exit 3) where it is not a run's state.
        """
        try:
            return RunState.from_json(read_json(self._state))
        except (ValueError, TypeError, AttributeError) as error:
            raise FinetuiError(Problem("runs.bad-state", {"error": str(error)}, str(self._state))) from error

    def write(self, state: RunState) -> None:
        """Replace the state, synced to disk."""
        write_json(self._state, asdict(state))

    def exists(self) -> bool:
        """Whether it is a run."""
        return self._state.is_file()

    def status(self, state: RunState | None = None) -> str:
        """The state's status, or `interrupted` where it says running and nobody is left to run it."""
        state = state or self.read()
        if state.status not in (STARTING, RUNNING):
            return state.status
        if state.identity.is_here():
            return state.status if state.identity.is_alive() else INTERRUPTED
        return state.status if time.time() - self._heartbeat() < HEARTBEAT_S else INTERRUPTED

    def _heartbeat(self) -> float:
        path = self.supervisor_events if self.supervisor_events.exists() else self._state
        return path.stat().st_mtime


def create(name: str) -> RunFolder:
    """Make a new folder `YYYYMMDD-HHMMSS-NAME` under `runs/`; a second one in the same second gets `-2`.

    Raises OSError where it cannot be made.
    """
    runs = home.folder("runs").absolute()
    plain = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "run"
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{plain}"
    attempt = 1
    while True:
        path = runs / (stem if attempt == 1 else f"{stem}-{attempt}")
        try:
            path.mkdir()
        except FileExistsError:
            attempt += 1
        else:
            return RunFolder(path)


def list_runs() -> list[RunFolder]:
    """All runs, oldest first; one whose state cannot be read counts as the oldest."""
    found = [RunFolder(path) for path in home.folder("runs").iterdir()]
    return sorted((run for run in found if run.exists()), key=lambda run: (_started(run), run.name))


def _started(run: RunFolder) -> float:
    try:
        return run.read().started
    except FinetuiError:
        return 0.0


def _is_original(run: RunFolder) -> bool:
    try:
        return run.read().kind == "run"
    except FinetuiError:
        return False


def find_run(reference: str) -> RunFolder:
    """The run that a name, a unique prefix of one, a path or `last` means.

    `last` passes over replays: they repeat a run, often only its first steps, and are not what one merges or talks to.

    Raises FinetuiError (exit 3) where there is none, or more than one.
    """
    as_path = RunFolder(Path(reference).expanduser().absolute())
    if "/" in reference or reference in (".", ".."):
        as_path = RunFolder(Path(os.path.realpath(as_path.path)))
        if as_path.exists():
            return as_path
        raise FinetuiError(Problem("runs.not-a-run", {"path": reference}), BAD_INPUT)
    runs = list_runs()
    if reference == "last" and runs:
        return next((run for run in reversed(runs) if _is_original(run)), runs[-1])
    exact = [run for run in runs if run.name == reference]
    matches = exact or [run for run in runs if reference and run.name.startswith(reference)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        shown = ", ".join(run.name for run in matches[:_CANDIDATES_SHOWN])
        facts = {"reference": reference, "count": len(matches), "candidates": shown}
        raise FinetuiError(Problem("runs.ambiguous", facts), BAD_INPUT)
    if as_path.exists():
        return as_path
    code = "runs.no-runs" if not runs else "runs.no-such-run"
    facts = {"reference": reference, "last": runs[-1].name if runs else ""}
    raise FinetuiError(Problem(code, facts), BAD_INPUT)
