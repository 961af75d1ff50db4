"""Ending a run from outside: ask, wait, kill what is left, and count that nobody is."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from finetui.core.errors import MACHINE, FinetuiError, Problem
from finetui.runs import processes
from finetui.runs.folder import RunFolder
from finetui.runs.launch import adopt
from finetui.runs.slurm.job import attend
from finetui.runs.slurm.job import stop as stop_job
from finetui.runs.state import LIVE, QUEUED, STARTING, RunState
from finetui.runs.waiting import NOW, STOP

GRACE_S = 120.0
"""What a trainer gets for its last step and its checkpoint."""
_AFTER_KILL_S = 15.0
_POLL_S = 0.05


@dataclass(frozen=True)
class Stop:
    """What stopping a run took."""

    status: str
    """How the run ended: `stopped`, or what it already was."""
    was_running: bool
    """Whether there was anything to stop."""
    processes: int
    """How many processes it had when it was asked."""
    killed: tuple[int, ...]
    """Pids that did not end by themselves."""
    left: int
    """Processes that carry its RUN_ID now: 0, unless one hangs in the kernel."""
    seconds: float
    """From the request to the end."""


def stop(run: RunFolder, grace_s: float = GRACE_S, *, now: bool = False) -> Stop:
    """Ask a run to save and end, and kill every process of it that has not ended after `grace_s` seconds.

    With `now` nothing is saved. Also takes a run out of the queue, ends what follows a finished one, and clears what
    killed processes have left behind. Raises FinetuiError (exit 5) for a run on another machine.
    """
    state = run.read()
    if state.slurm:
        attend(run)
        was_running = run.status() in LIVE
        seconds = stop_job(run, grace_s, now=now) if was_running else 0.0
        return Stop(run.status(), was_running, 0, (), 0, seconds)
    began = time.monotonic()
    if not state.identity.is_here():
        if state.status in LIVE:
            raise FinetuiError(Problem("runs.elsewhere", {"run": run.name, "host": state.host}), MACHINE)
        return Stop(run.status(state), False, 0, (), 0, 0.0)
    was_running = run.status(state) in LIVE or (state.identity.is_alive() and state.has_more)
    adopt(run)
    members = processes.of_run(run.path, [os.getpid()])
    identity = _supervisor(run)
    hit: list[int] = []
    if identity.send(NOW if now else STOP) and not _ended_within(identity, _AFTER_KILL_S if now else grace_s):
        hit = processes.of_run(run.path, [identity.pid])
        identity.send(NOW)
        _ended_within(identity, _AFTER_KILL_S)
    elif now:
        hit = members
    killed = {pid for pid in hit if pid != identity.pid and processes.start_time(pid) is None}
    killed |= set(processes.kill_run(run.path))
    return Stop(
        status=run.status(),
        was_running=was_running or bool(killed),
        processes=len(members),
        killed=tuple(sorted(killed)),
        left=len(processes.of_run(run.path, [os.getpid()])),
        seconds=time.monotonic() - began,
    )


def _supervisor(run: RunFolder) -> processes.Identity:
    """Who answers for the run: its supervisor, or the process that starts it where that has come to a halt."""
    deadline = time.monotonic() + _AFTER_KILL_S
    while _is_of_its_starter(run, state := run.read()) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return state.identity


def _is_of_its_starter(run: RunFolder, state: RunState) -> bool:
    holder = run.supervisor()
    waits = state.status in (STARTING, QUEUED) and state.identity.is_alive()
    return waits and (holder is None or holder[0] != state.pid)


def _ended_within(identity: processes.Identity, seconds: float) -> bool:
    """Wait until the run's supervisor has ended."""
    deadline = time.monotonic() + seconds
    while identity.is_alive():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
