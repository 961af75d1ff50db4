"""Ending a run from outside: ask, wait, and kill what is left."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass

from finetui.core.errors import MACHINE, FinetuiError, Problem
from finetui.runs import processes
from finetui.runs.folder import INTERRUPTED, RUNNING, STARTING, RunFolder

GRACE_S = 120.0
"""What a trainer gets for its last step and its checkpoint."""
_AFTER_KILL_S = 15.0
_POLL_S = 0.1


@dataclass(frozen=True)
class Stop:
    """What stopping a run took."""

    status: str
    """How the run ended: `stopped`, or what it already was."""
    was_running: bool
    """Whether there was anything to stop."""
    killed: tuple[int, ...]
    """Pids that did not end by themselves."""
    seconds: float
    """From the request to the end."""


def stop(run: RunFolder, grace_s: float = GRACE_S) -> Stop:
    """Ask a run to save and end, and kill every process of it that has not ended after `grace_s` seconds.

    Also clears what a killed supervisor has left behind. Raises FinetuiError (exit 5) for a run on another machine.
    """
    state = run.read()
    began = time.monotonic()
    if state.status not in (STARTING, RUNNING):
        return Stop(run.status(state), False, tuple(processes.kill_run(state.run)), time.monotonic() - began)
    if not state.identity.is_here():
        raise FinetuiError(Problem("runs.elsewhere", {"run": run.name, "host": state.host}), MACHINE)
    was_running = run.status(state) != INTERRUPTED
    identity = _supervisor(run)
    if identity.send(signal.SIGTERM) and not _ended_within(identity, grace_s):
        members = processes.of_run(state.run, [identity.pid])
        identity.send(signal.SIGTERM)  # the second one makes the supervisor end everything
        _ended_within(identity, _AFTER_KILL_S)
    else:
        members = []
    killed = {pid for pid in members if processes.start_time(pid) is None} | set(processes.kill_run(state.run))
    return Stop(run.status(), was_running or bool(killed), tuple(sorted(killed)), time.monotonic() - began)


def _supervisor(run: RunFolder) -> processes.Identity:
    """Who answers for the run, once it is its supervisor and no longer the process that starts it."""
    while (state := run.read()).status == STARTING and state.identity.is_alive():
        time.sleep(_POLL_S)
    return state.identity


def _ended_within(identity: processes.Identity, seconds: float) -> bool:
    """Wait until the run's supervisor has ended."""
    deadline = time.monotonic() + seconds
    while identity.is_alive():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
