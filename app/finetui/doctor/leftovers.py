"""Runs of finetui whose processes are on this machine: those that train, and what is left of those that are over."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from finetui.core import home
from finetui.core.errors import FinetuiError
from finetui.runs import processes
from finetui.runs.folder import list_runs
from finetui.runs.state import LIVE


@dataclass(frozen=True)
class RunHere:
    """One run with processes here."""

    name: str
    pids: frozenset[int]
    is_over: bool
    """Whether it has ended, so that its processes are leftovers."""


def runs_here() -> tuple[RunHere, ...]:
    """The runs of this FINETUI_HOME that have processes on this machine."""
    if not (home.home() / "runs").is_dir():
        return ()
    members = _members()
    found = []
    for run in list_runs():
        if run.name in members:
            try:
                is_over = run.status() not in LIVE
            except FinetuiError:  # its state cannot be read, so nobody can say that it runs
                is_over = True
            found.append(RunHere(run.name, frozenset(members[run.name]), is_over))
    return tuple(found)


def _members() -> dict[str, set[int]]:
    """The pids of all processes that carry a RUN_ID, by it."""
    members: dict[str, set[int]] = defaultdict(set)
    try:
        pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    except OSError:  # no such system
        pids = []
    for pid in pids:
        if name := processes.environment(pid).get(processes.RUN_ID):
            members[name].add(pid)
    return members
