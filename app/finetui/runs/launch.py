"""Starting a run: everything is looked at first, then the supervisor is started and has the word."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetui.bundles.folder import Bundle
from finetui.bundles.needs import packages_of
from finetui.bundles.trust import check_trust
from finetui.bundles.verify import verify
from finetui.core import home, jobs
from finetui.core.errors import BAD_INPUT, JOB_FAILED, MACHINE, MISMATCH, FinetuiError, Problem
from finetui.core.jobs import Progress
from finetui.hardware.probe import Machine, probe
from finetui.models.find import find_by_identity, find_model, matches
from finetui.models.identify import identify
from finetui.runs import processes, queue
from finetui.runs.after import check_then
from finetui.runs.folder import RunFolder, create
from finetui.runs.nodes import ANYWHERE, check_nodes
from finetui.runs.outcome import last_words
from finetui.runs.slurm.job import attend, check_slurm
from finetui.runs.slurm.site import Site
from finetui.runs.state import FAILED, RunState
from finetui.runs.tracking import check_track

GB = 1 << 30
NEEDED_BYTES = GB // 2
"""Room for the log and the smallest of results; what a lock predicts to be more is asked for."""

FreeBytes = Callable[[Path], int]
_SHOWN = 5


def start(bundle: Path, **choices: Any) -> RunFolder:
    """`prepare` and `launch` in one: returns once the run's own supervisor says that it runs, or that it failed."""
    run = prepare(bundle, **choices)
    launch(run)
    return run


def prepare(
    bundle: Path,
    *,
    model: str | None = None,
    python: str | None = None,
    gpus: str | None = None,
    name: str | None = None,
    stop_after: int | None = None,
    kind: str = "run",
    trust: str | None = None,
    wait: bool = False,
    nodes: int | None = None,
    node_rank: int | None = None,
    master: str | None = None,
    slurm: bool = False,
    then: str | None = None,
    on_finish: str | None = None,
    track: str | None = None,
    price: float | None = None,
    on_progress: Progress | None = None,
    free_bytes: FreeBytes = lambda path: shutil.disk_usage(path).free,
    machine: Machine | None = None,
) -> RunFolder:
    """Check all that a run depends on, and make its folder, with its claims on GPUs or its place in the queue.

    Raises FinetuiError: exit 4 for a bundle or a model that is not what was locked, 3 for a bundle that needs trust or
    a model that is not found, 2 for what cannot follow and machines that do not fit the lock, 5 where the interpreter
    lacks a package, a GPU is not there or in use (and `wait` is false), or the disk is full.
    """
    found = Bundle.load(bundle)
    follows = check_then(then, found.lock)
    here = {"--gpus": gpus, "--wait": wait, "--then": then, "--on-finish": on_finish, "--track": track}
    if slurm:
        check_slurm({**here, "--node-rank": node_rank, "--master": master})
        place = check_nodes(nodes or 1, 0, ANYWHERE, found.lock, follows=False)
        python = python or Site.read().python or None
    else:
        place = check_nodes(nodes, node_rank, master, found.lock, follows=bool(follows))
    check_unchanged(found)
    check_trust(found, trust)
    folder = locked_model(found, model, on_progress)
    interpreter = jobs.interpreter(python)
    jobs.run("environment", {"more": packages_of(found.lock)}, python=python)
    tracked = check_track(track, interpreter)
    check_disk(free_bytes, found.lock)
    state = RunState(
        run="",
        bundle=str(found.path),
        bundle_id=found.id,
        bundle_name=found.name,
        model=str(folder.absolute()),
        python=interpreter,
        world_size=found.lock["world_size"],
        steps_total=found.lock["steps"],
        started=time.time(),
        kind=kind,
        gpus=gpus,
        stop_after=stop_after,
        nodes=place.count,
        node_rank=place.rank,
        master=place.master,
        then=follows,
        on_finish=on_finish,
        track=tracked,
        price=price,
    )
    if slurm:
        run = create(name or found.name)
        run.write(replace(state, run=run.name, master=""))
        return run
    with queue.turnstile():
        state = queue.enter(state, (machine or probe()).gpus, wait=wait)
        run = create(name or found.name)
        run.write(replace(state, run=run.name).held_by(processes.Identity.of(os.getpid())))
    return run


def launch(run: RunFolder) -> None:
    """Start the supervisor of a prepared run in a session of its own; returns once it says that the run runs or waits.

    Raises FinetuiError (exit 5) where the run has a supervisor already, naming it, (exit 1) where its own dies without
    a word; a run that fails early is just failed.
    """
    word = _supervise("start", run)
    if word == "held":
        pid, since = run.supervisor() or (0, 0.0)
        facts = {"run": run.name, "pid": pid, "since": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since))}
        raise FinetuiError(Problem("runs.has-supervisor", facts), MACHINE)
    if word is None and run.read().status != FAILED:
        facts = {"run": run.name, "words": last_words(run.log)}
        raise FinetuiError(Problem("runs.no-supervisor", facts), JOB_FAILED)


def adopt(run: RunFolder) -> None:
    """Give a run whose supervisor was killed a new one, while its trainer goes on or to write down how it has ended.

    Of one that Slurm has, ask Slurm how it is.
    """
    attend(run)
    if run.is_orphaned(run.read()):
        _supervise("attach", run)  # where another command was quicker, it holds the run, and that is as good


def _supervise(mode: str, run: RunFolder) -> str | None:
    """Start a supervisor, and give its first word; None where it dies without one."""
    ready, says = os.pipe()
    with run.log.open("ab") as log:
        first = subprocess.Popen(
            [sys.executable, "-P", "-m", "finetui.runs.supervise", mode, str(run.path), str(says)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **processes.tags(run.path)},
            pass_fds=(says,),
            start_new_session=True,
        )
    os.close(says)
    with os.fdopen(ready, "rb") as stream:
        said = stream.read()  # ends when the supervisor has spoken, or is gone
    first.wait()
    return str(json.loads(said)["said"]) if said else None


def check_unchanged(bundle: Bundle) -> None:
    """Raises FinetuiError (exit 4) with the files of a bundle that are no longer as they were locked."""
    mismatches = verify(bundle.path)["mismatches"]
    problems = [
        Problem(
            "runs.changed-bundle",
            {
                "bundle": str(bundle.path),
                "path": found["path"],
                "expected": found["expected"] or "–",
                "actual": found["actual"] or "–",
            },
        )
        for found in mismatches[:_SHOWN]
    ]
    if problems:
        raise FinetuiError(problems, MISMATCH)


def locked_model(bundle: Bundle, reference: str | None, on_progress: Progress | None) -> Path:
    """The folder of the very model that was locked, told by the digest of every file.

    Raises FinetuiError: exit 4 where the model at `reference` is another one, 3 where there is none.
    """
    locked = bundle.lock["model"]
    identity, files = locked["identity"], locked["files"]
    if reference is not None:
        given = find_model(reference, on_progress)
        if not matches(given, identity, files, on_progress):
            actual = identify(given, on_progress).files
            differing = sorted(name for name in {*files, *actual} if files.get(name) != actual.get(name))
            facts = {"path": reference, "files": ", ".join(differing[:_SHOWN]), "name": locked["name"]}
            raise FinetuiError(Problem("runs.other-model", {**facts, "bundle": str(bundle.path)}), MISMATCH)
        return given
    folder = find_by_identity(identity, files, [bundle.path.parent], on_progress)
    if folder is None:
        facts = {"name": locked["name"], "places": "$FINETUI_HOME/models, $FINETUI_MODELS", "bundle": str(bundle.path)}
        raise FinetuiError(Problem("runs.no-model", facts), BAD_INPUT)
    return folder


def check_disk(free_bytes: FreeBytes, lock: Mapping[str, Any]) -> None:
    """Raises FinetuiError (exit 5) where the disk of the runs has no room for one of this lock."""
    folder = home.folder("runs")
    free = free_bytes(folder)
    needed = max(NEEDED_BYTES, lock.get("predicted", {}).get("run_bytes", 0))
    if free < needed:
        facts = {"folder": str(folder), "free_gb": f"{free / GB:.1f}", "needed_gb": f"{needed / GB:.1f}"}
        raise FinetuiError(Problem("runs.no-disk", facts), MACHINE)
