"""Who may use which GPU: what live runs claim, and the queue of those that wait.

A claim is what the state of a live run says, so it ends with the last process of the run, whatever has ended that:
there is nothing to be cleaned up after a kill or a reboot. Claims are made, and the queue moves, under one lock.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from finetui.core import home
from finetui.core.errors import MACHINE, FinetuiError, Problem
from finetui.hardware.gpu import Gpu
from finetui.runs.folder import RunFolder, list_runs
from finetui.runs.journal import Journal
from finetui.runs.state import LIVE, QUEUED, STARTING, RunState
from finetui.runs.waiting import Waiter

CPU = "cpu"
"""The claim of a run on a machine without GPUs: runs there share the CPU, but for those that were told to wait."""
LOOK_S = 20.0
"""Between two looks at the queue where no end of another run has called for one; each is also a heartbeat."""
STRANGERS_SHARE = 0.1
"""Of a GPU's memory that programs other than runs may hold: a desktop does, and leaves enough."""


@dataclass(frozen=True)
class Blocked:
    """What a run has to wait for."""

    runs: tuple[RunState, ...] = ()
    """Live runs with a claim on what it asks for, and those that asked for it earlier."""
    programs: tuple[str, ...] = ()
    """Other programs that hold memory of its GPUs."""

    def __bool__(self) -> bool:
        return bool(self.runs or self.programs)


@contextmanager
def turnstile() -> Iterator[None]:
    """Hold the lock under which claims are made.

    Raises OSError where it cannot be made.
    """
    with (home.folder("runs") / ".queue.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def enter(state: RunState, gpus: Sequence[Gpu], *, wait: bool) -> RunState:
    """The state of a run with its claims made, as `starting`, or as `queued` where it has to wait; under `turnstile`.

    Raises FinetuiError (exit 5) where a GPU is not there, or is in use and `wait` is false.
    """
    asked = _asked(state, gpus)
    state = replace(state, claims=",".join(_claim(gpu) for gpu in asked) if gpus else CPU, status=STARTING, ticket=0)
    others = _live_runs(state.run)
    found = blocked(replace(state, claims="" if state.claims == CPU and not wait else state.claims), asked, others)
    if found and wait:
        return replace(state, status=QUEUED, ticket=1 + max((other.ticket for other in others), default=0))
    if found:
        raise FinetuiError(_refusals(state, found, asked, gpus, others), MACHINE)
    return state


def blocked(state: RunState, gpus: Sequence[Gpu], others: Sequence[RunState] | None = None) -> Blocked:
    """What keeps a run from its claims now; `gpus` are as the driver sees them at this moment."""
    mine = claims_of(state)
    others = _live_runs(state.run) if others is None else others
    ahead = [other for other in others if other.status != QUEUED or not state.ticket or other.ticket < state.ticket]
    runs = tuple(other for other in ahead if mine & claims_of(other))
    held = {claim for run in runs for claim in claims_of(run)}
    claimed = [gpu for gpu in gpus if _claim(gpu) in mine - held]
    return Blocked(runs, tuple(text for gpu in claimed for text in _strangers(gpu)))


def wait_turn(journal: Journal, waiter: Waiter, say_queued: Callable[[], None]) -> bool:
    """Wait until a queued run has its claims, and say so in its state; False where a signal takes it out of the queue.

    It sleeps until a run before it ends, so that a queue costs nothing; programs that are no runs it has to look for.
    """
    from finetui.hardware.nvml import load_nvml, read_gpus

    said: list[str] | None = None
    while True:
        with turnstile():
            gpus = () if journal.state.claims == CPU else read_gpus(load_nvml()).gpus
            found = blocked(journal.state, gpus)
            if not found:
                journal.set(status=STARTING)
                return True
        waits_for = [*(other.run for other in found.runs), *found.programs]
        if waits_for != said:
            journal.note("queued", waits_for=waits_for, position=position(journal.run, journal.state))
            said = waits_for
        say_queued()
        watched = [who.pid for other in found.runs for who in (other.identity, other.trainer) if who.is_alive()]
        if waiter.wait(watched, LOOK_S):
            return False
        journal.run.beat()


def position(run: RunFolder, state: RunState) -> int | None:
    """Its place among those that wait, from 1; None where it does not wait."""
    if run.status(state) != QUEUED:
        return None
    return 1 + sum(other.status == QUEUED and other.ticket < state.ticket for other in _live_runs(state.run))


def claims_of(state: RunState) -> set[str]:
    """What a run calls its own."""
    return {claim for claim in state.claims.split(",") if claim}


def _live_runs(but: str) -> list[RunState]:
    """All runs of this machine with a living process, also those that have finished and call their last verbs."""
    found = []
    for run in list_runs():
        try:
            state = run.read()
        except FinetuiError:
            continue  # `runs` shows it as unreadable
        if run.name != but and state.identity.is_here() and (run.status(state) in LIVE or state.identity.is_alive()):
            found.append(state)
    return found


def _asked(state: RunState, gpus: Sequence[Gpu]) -> list[Gpu]:
    """The GPUs that a run will use: those it was given, else the first ones, one for each process.

    Raises FinetuiError (exit 5) for one that is not there, which CUDA passes over in silence to train on the CPU, and
    for fewer than there are processes.
    """
    if state.gpus is None:
        return list(gpus[: state.processes_here])
    named = {word: [gpu for gpu in gpus if _is_named(gpu, word)] for word in state.gpus.split(",")}
    if missing := [word for word, found in named.items() if not found]:
        facts = {"gpus": ",".join(missing), "present": ",".join(str(gpu.index) for gpu in gpus) or "–"}
        raise FinetuiError(Problem("runs.no-gpu", facts), MACHINE)
    asked = [gpu for gpu in gpus if any(gpu in found for found in named.values())]
    if len(asked) < state.processes_here:
        few = {"gpus": state.gpus, "count": len(asked), "world_size": state.processes_here, "bundle": state.bundle}
        raise FinetuiError(Problem("runs.few-gpus", few), MACHINE)
    return asked


def _is_named(gpu: Gpu, word: str) -> bool:
    return gpu.index == int(word) if word.isdecimal() else gpu.uuid.startswith(word)


def _claim(gpu: Gpu) -> str:
    return gpu.uuid or f"gpu-{gpu.index}"


def _strangers(gpu: Gpu) -> list[str]:
    """Programs that hold more of a GPU than a desktop would."""
    held = gpu.total_bytes - gpu.free_bytes if gpu.free_bytes else sum(holder.bytes or 0 for holder in gpu.holders)
    if held <= gpu.total_bytes * STRANGERS_SHARE:
        return []
    names = [f"{holder.name or '?'} ({holder.pid})" for holder in gpu.holders] or ["?"]
    return [f"GPU {gpu.index}: {', '.join(names)}: {held / (1 << 30):.1f} GB"]


def _refusals(
    state: RunState, found: Blocked, asked: Sequence[Gpu], gpus: Sequence[Gpu], others: Sequence[RunState]
) -> list[Problem]:
    taken = {claim for other in others for claim in claims_of(other)}
    free = [str(gpu.index) for gpu in gpus if _claim(gpu) not in taken and not _strangers(gpu)]
    facts = {"free": ",".join(free) or "–", "bundle": state.bundle}
    problems = []
    for other in found.runs:
        numbers = ",".join(str(gpu.index) for gpu in asked if _claim(gpu) in claims_of(other))
        code = "runs.gpu-asked-for" if other.status == QUEUED else "runs.gpu-held"
        problems.append(Problem(code, {**facts, "gpus": numbers, "run": other.run}))
    return problems + [Problem("runs.gpu-strangers", {**facts, "programs": text}) for text in found.programs]
