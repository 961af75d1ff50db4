"""Starting a run: everything is looked at first, then the supervisor is started and has the word."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
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
from finetui.runs import processes
from finetui.runs.folder import FAILED, RunFolder, RunState, create
from finetui.runs.outcome import last_words

GB = 1 << 30
NEEDED_BYTES = GB // 2
"""Room for the adapter, its checkpoints and the log of a LoRA run; all of the first recipes are far below it."""

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
    on_progress: Progress | None = None,
    free_bytes: FreeBytes = lambda path: shutil.disk_usage(path).free,
    machine: Machine | None = None,
) -> RunFolder:
    """Check all that a run depends on, and make its folder.

    Raises FinetuiError: exit 4 for a bundle or a model that is not what was locked, 3 for a bundle that needs trust or
    a model that is not found, 5 where the interpreter lacks a package, a GPU is not there or the disk is full.
    """
    found = Bundle.load(bundle)
    _check_unchanged(found)
    check_trust(found, trust)
    folder = _locked_model(found, model, on_progress)
    interpreter = jobs.interpreter(python)
    jobs.run("environment", {"more": packages_of(found.lock)}, python=python)
    _check_gpus(gpus, machine or probe())
    _check_disk(free_bytes)
    run = create(name or found.name)
    state = RunState(
        run=run.name,
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
    )
    run.write(state.held_by(processes.Identity.of(os.getpid())))
    return run


def launch(run: RunFolder) -> None:
    """Start the supervisor of a prepared run in a session of its own, and wait until it says that the run runs.

    Raises FinetuiError (exit 1) where the supervisor dies without a word; a run that fails early is just failed.
    """
    ready, says = os.pipe()
    with run.log.open("ab") as log:
        first = subprocess.Popen(
            [sys.executable, "-P", "-m", "finetui.runs.supervise", str(run.path), str(says)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, processes.RUN_ID: run.name},
            pass_fds=(says,),
            start_new_session=True,
        )
    os.close(says)
    with os.fdopen(ready, "rb") as stream:
        word = stream.read()  # ends when the supervisor has spoken, or is gone
    first.wait()
    if not word and run.read().status != FAILED:
        facts = {"run": run.name, "words": last_words(run.log)}
        raise FinetuiError(Problem("runs.no-supervisor", facts), JOB_FAILED)


def _check_gpus(gpus: str | None, machine: Machine) -> None:
    """A GPU that CUDA does not find is passed over in silence, and the run would train on the CPU."""
    present = {str(gpu.index) for gpu in machine.gpus}
    missing = [number for number in (gpus or "").split(",") if number.isdigit() and number not in present]
    if missing:
        facts = {"gpus": ",".join(missing), "present": ",".join(sorted(present)) or "–"}
        raise FinetuiError(Problem("runs.no-gpu", facts), MACHINE)


def _check_unchanged(bundle: Bundle) -> None:
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


def _locked_model(bundle: Bundle, reference: str | None, on_progress: Progress | None) -> Path:
    """The folder of the very model that was locked, told by the digest of every file."""
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


def _check_disk(free_bytes: FreeBytes) -> None:
    folder = home.folder("runs")
    free = free_bytes(folder)
    if free < NEEDED_BYTES:
        facts = {"folder": str(folder), "free_gb": f"{free / GB:.1f}", "needed_gb": f"{NEEDED_BYTES / GB:.1f}"}
        raise FinetuiError(Problem("runs.no-disk", facts), MACHINE)
