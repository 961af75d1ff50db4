"""The run folder: its files, its state, and how a run is named and found."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from finetui.core import home
from finetui.core.errors import BAD_INPUT, FinetuiError, Problem
from finetui.core.files import pretty_json, read_json, write_json
from finetui.runs import processes
from finetui.runs.state import INTERRUPTED, LIVE, QUEUED, RunState

HEARTBEAT_S = 60.0
"""A run on another machine whose supervisor has written nothing for so long is taken for dead."""

_CANDIDATES_SHOWN = 8
_SPARE_BYTES = 1 << 14


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
    def exit_record(self) -> Path:
        """What launch.sh ended with, kept by the script that ran it."""
        return self.path / "exit.json"

    @property
    def then_log(self) -> Path:
        """What the commands printed that followed its end."""
        return self.path / "then.log"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def output(self) -> Path:
        """The adapter or model."""
        return self.path / "output"

    def holds_model(self) -> bool:
        """Whether its result is there and is a whole model."""
        return (self.output / "config.json").is_file()

    @property
    def lock(self) -> Path:
        """Held by the supervisor for as long as it lives; says who that is."""
        return self.path / "supervisor.lock"

    @property
    def spare(self) -> Path:
        """Room kept on the disk, so that the last word can be written even when it is full."""
        return self.path / ".spare"

    @property
    def _state(self) -> Path:
        return self.path / "state.json"

    def read(self) -> RunState:
        """The state as last written.

        Raises FinetuiError (exit 3) where it is not a run's state, or somebody has removed the run.
        """
        try:
            return RunState.from_json(read_json(self._state))
        except FileNotFoundError as error:
            raise FinetuiError(Problem("runs.gone", {"run": self.name})) from error
        except ValueError as error:
            raise FinetuiError(Problem("runs.bad-state", {"error": str(error)}, str(self._state))) from error

    def write(self, state: RunState) -> None:
        """Replace the state, synced to disk."""
        write_json(self._state, asdict(state))

    def write_in_spare(self, state: RunState) -> None:
        """Replace the state on a full disk: in the room that was kept, which is taken again from what that frees.

        Raises OSError where nothing was kept.
        """
        try:
            with self.spare.open("r+b") as stream:
                stream.write(pretty_json(asdict(state)).encode("utf-8", "backslashreplace"))
                stream.truncate()
                os.fsync(stream.fileno())
        except FileNotFoundError as error:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._state)) from error
        self.spare.replace(self._state)
        with contextlib.suppress(OSError):  # somebody else was quicker
            self.keep_spare()

    def keep_spare(self) -> None:
        """Take a little room on the disk for a state that is to be written when it is full.

        Raises OSError where there is none.
        """
        with self.spare.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, _SPARE_BYTES)

    def exists(self) -> bool:
        """Whether it is a run."""
        return self._state.is_file()

    def status(self, state: RunState | None = None) -> str:
        """The state's status, or `interrupted` where it says that the run lives and nobody is left of it."""
        state = state or self.read()
        if state.status not in LIVE or state.slurm:
            return state.status
        if not state.identity.is_here():
            return state.status if abs(self._now() - self.heartbeat()) < HEARTBEAT_S else INTERRUPTED
        if state.identity.is_alive() or (state.status != QUEUED and self.trains(state)):
            return state.status
        again = self.read()  # the supervisor may have ended between its state's reading and the look at it
        return self.status(again) if again != state else INTERRUPTED

    def trains(self, state: RunState) -> bool:
        """Whether any process of its training lives on this machine, with a supervisor or without."""
        if state.boot_id != processes.boot_id():
            return False
        return state.trainer.is_alive() or bool(processes.of_run(self.path))

    def is_over(self, state: RunState | None = None) -> bool:
        """Whether nothing more will come of it but the command of `--on-finish`, which may take as long as it likes."""
        state = state or self.read()
        if self.status(state) in LIVE:
            return False
        return not (state.identity.is_here() and state.identity.is_alive()) or state.last_call

    def is_orphaned(self, state: RunState) -> bool:
        """Whether its supervisor was killed on this machine, and something is left to supervise or to conclude."""
        if state.status not in LIVE or state.status == QUEUED or state.slurm or not state.identity.is_here():
            return False
        if state.boot_id != processes.boot_id() or state.identity.is_alive():
            return False
        return self.exit_record.exists() or self.trains(state)

    def exit_code(self) -> int | None:
        """What launch.sh ended with, or None where that was not kept."""
        try:
            return int(read_json(self.exit_record)["exit_code"])
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None

    def world_size(self, state: RunState) -> int | None:
        """The number of processes that train since the last launch, once the trainer has said it."""
        try:
            stream = self.events.open("rb")
        except FileNotFoundError:
            return None
        with stream:
            stream.seek(state.events_from)
            for line in stream:
                if b'"started"' in line and line.endswith(b"\n") and (size := _started_with(line)) is not None:
                    return size
        return None

    def supervisor(self) -> tuple[int, float] | None:
        """Process id of the last supervisor and when it began, in seconds since 1970; None where there was none yet."""
        try:
            said = read_json(self.lock)
            return int(said["pid"]), float(said["since"])
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None

    def heartbeat(self) -> float:
        """When its supervisor last gave a sign of life, by the clock of the disk."""
        path = self.supervisor_events if self.supervisor_events.exists() else self._state
        return path.stat().st_mtime

    def beat(self) -> None:
        """Give a sign of life."""
        self.supervisor_events.touch()

    def _now(self) -> float:
        """The time by the clock of the disk, which all machines share that see it; else by our own."""
        clock = self.path / ".clock"
        try:
            clock.touch()
            return clock.stat().st_mtime
        except OSError:  # it is not ours to write
            return time.time()


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


def _started_with(line: bytes) -> int | None:
    """The number of processes, where the line is the trainer's first event."""
    try:
        event = json.loads(line)
        return int(event["world_size"]) if event["event"] == "started" else None
    except (ValueError, TypeError, KeyError):
        return None


def _started(run: RunFolder) -> float:
    try:
        return run.read().started
    except FinetuiError:
        return 0.0


def _launched(run: RunFolder) -> tuple[bool, float]:
    """Whether it is no replay, and when it was started or resumed last."""
    try:
        state = run.read()
    except FinetuiError:
        return False, 0.0
    return state.kind == "run", state.resumed or state.started


def _newest(runs: Sequence[RunFolder]) -> RunFolder:
    return max(reversed(runs), key=_launched)


def find_run(reference: str) -> RunFolder:
    """The run that a name, a unique prefix of one, a path or `last` means.

    `last` was started or resumed last. It passes over replays, unless there is nothing else: they repeat a run, often
    only its first steps, and are not what one merges or talks to.

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
        return _newest(runs)
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
    facts = {"reference": reference, "last": _newest(runs).name if runs else ""}
    raise FinetuiError(Problem(code, facts), BAD_INPUT)
