"""A run that Slurm has in its hands: submitted, looked after by asking squeue, and ended by scancel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from finetui.bundles import evidence
from finetui.bundles.folder import Bundle
from finetui.core.errors import JOB_FAILED, MACHINE, USAGE, FinetuiError, Problem
from finetui.core.files import replacing
from finetui.core.text import one_line
from finetui.runs import processes
from finetui.runs.folder import RunFolder
from finetui.runs.outcome import judge
from finetui.runs.slurm.script import Job, render
from finetui.runs.slurm.site import Site
from finetui.runs.state import FAILED, FINISHED, LIVE, QUEUED, RUNNING

SCRIPT = "job.sbatch"
STOP = "stop"
"""A file in the run's folder: the job is not to be queued again."""
LOOK_S = 2.0
"""Between two questions to squeue by one who follows."""
_ASK_S = 60.0
_CONF = "SLURM_CONF"
_WAITS = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")
_RUNS = ("RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED", "RESIZING")


def check_slurm(here: Mapping[str, object]) -> None:
    """Hold what a run was asked for against Slurm; `here` are options of a run on this machine, with their values.

    Raises FinetuiError (exit 2) where one of them is given, (exit 5) where Slurm's commands are not there.
    """
    if given := [name for name, value in here.items() if value not in (None, False)]:
        raise FinetuiError(Problem("slurm.here-only", {"options": ", ".join(given)}), USAGE)
    missing = [name for name in ("sbatch", "squeue", "scancel") if shutil.which(name) is None]
    if missing:
        raise FinetuiError(Problem("slurm.no-commands", {"commands": ", ".join(missing)}), MACHINE)


def submit(run: RunFolder, site: Site | None = None) -> str:
    """Write the job's script into the run's folder and hand it to sbatch; gives the job's number.

    Raises FinetuiError (exit 1) with what sbatch says where it takes none.
    """
    state = run.read()
    bundle = Bundle.load(Path(state.bundle))
    job = Job(
        name=run.name,
        lock=bundle.lock,
        bundle=bundle.path,
        model=state.model,
        out=str(run.path),
        python=state.python,
        log=str(run.log),
        nodes=state.nodes,
        changes=state.changes,
        environment={"FINETUI_EVENTS": str(run.events), **processes.tags(run.path)},
    )
    script = run.path / SCRIPT
    with replacing(script, "w") as stream:
        stream.write(render(job, site or Site.read()))
    for left in (run.path / STOP, run.exit_record):
        left.unlink(missing_ok=True)
    done = _call(["sbatch", "--parsable", str(script)])
    number = done.stdout.strip().partition(";")[0]
    if done.returncode or not number.isdecimal():
        run.write(replace(state, status=FAILED, cause="error", detail=one_line(done.stderr, 400), ended=time.time()))
        facts = {"words": one_line(done.stderr, 400), "script": str(script)}
        raise FinetuiError(Problem("slurm.refused", facts), JOB_FAILED)
    run.write(replace(state, slurm=number, status=QUEUED, pid=0, pid_start=0, boot_id="", host=""))
    return number


def attend(run: RunFolder) -> None:
    """Ask Slurm how a run of its is, and write that down; where the job is over, how the run ended.

    Where Slurm does not answer, all stays as it was said last.
    """
    state = run.read()
    if not state.slurm or state.status not in LIVE:
        return
    word = job_state(state.slurm)
    if word is None:
        return
    if word in _WAITS or word in _RUNS:
        status = QUEUED if word in _WAITS else RUNNING
        if status != state.status:
            run.write(replace(state, status=status))
        return
    code = run.exit_code()
    verdict = judge(run, state, code, stop_asked=word.startswith("CANCELLED") or (run.path / STOP).exists())
    state = replace(state, status=verdict.status, cause=verdict.cause, detail=verdict.detail)
    run.write(replace(state, exit_code=code, ended=time.time()))
    if verdict.status == FINISHED and state.kind == "run" and state.stop_after is None:
        try:
            evidence.write(Path(state.bundle), run.path)
        except (OSError, FinetuiError):
            return  # the bundle cannot be written to, and is as good without


def job_state(number: str) -> str | None:
    """What squeue calls the job's state; `GONE` where it knows none such any more, None where it does not answer."""
    try:
        done = _call(["squeue", "--noheader", "--states=all", f"--jobs={number}", "--format=%T"])
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return "GONE" if re.search(r"invalid job id", done.stderr, re.IGNORECASE) else None
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else "GONE"


def stop(run: RunFolder, grace_s: float, *, now: bool) -> float:
    """Ask the training to save and end, and cancel the job where that takes too long; gives the seconds it took.

    With `now`, and where the job has not begun, it is cancelled at once.
    """
    state = run.read()
    began = time.monotonic()
    (run.path / STOP).touch()
    word = job_state(state.slurm)
    asks = word in _RUNS and not now
    _call(["scancel", *(["--signal=USR1"] if asks else []), state.slurm])
    while state.status in LIVE:
        time.sleep(LOOK_S / 4)
        attend(run)
        state = run.read()
        if asks and time.monotonic() - began > grace_s:
            _call(["scancel", state.slurm])
            asks = False
    return time.monotonic() - began


def _call(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=_ASK_S, check=False, env=_environment())


def _environment() -> dict[str, str]:
    """Ours without what a job of Slurm would give to the jobs that it submits; which cluster it is stays."""
    of_a_job = ("SLURM_", "SBATCH_")
    return {name: value for name, value in os.environ.items() if name == _CONF or not name.startswith(of_a_job)}
