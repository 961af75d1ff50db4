"""What follows a run's end: verbs of finetui once it has finished, and a shell command however it ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from finetui.core.errors import USAGE, FinetuiError, Problem
from finetui.core.text import one_line
from finetui.runs import processes
from finetui.runs.folder import RunFolder
from finetui.runs.journal import Journal
from finetui.runs.state import FAILED, FINISHED
from finetui.runs.waiting import Waiter

VERBS = ("merge",)
"""The commands that take a run and need nobody to answer."""
_LOOK_S = 60.0
_REPORT_S = 300.0


def check_then(words: str | None, lock: Mapping[str, Any]) -> str:
    """The verbs of `--then`, joined by commas, held against what the bundle will give.

    Raises FinetuiError (exit 2) with every verb that cannot follow.
    """
    verbs = [word.strip() for word in (words or "").split(",") if word.strip()]
    unknown = [verb for verb in verbs if verb not in VERBS]
    problems = [Problem("runs.then-unknown", {"verb": verb, "verbs": ", ".join(VERBS)}) for verb in unknown]
    if "merge" in verbs and lock.get("method") != "lora":
        problems.append(Problem("runs.then-no-adapter", {"method": str(lock.get("method"))}))
    if problems:
        raise FinetuiError(problems, USAGE)
    return ",".join(verbs)


def call_what_follows(journal: Journal, waiter: Waiter) -> None:
    """The report; where it has finished, the verbs of `--then` up to one that fails; the command of `--on-finish`."""
    from finetui.core import jobs

    run = journal.run
    if journal.state.status in (FINISHED, FAILED) and run.events.exists():
        _report(journal)
    while journal.state.status == FINISHED and (verbs := journal.state.verbs_left):
        state, verb = journal.state, verbs[0]
        command = [sys.executable, "-P", "-m", "finetui", verb, str(run.path), "--python", state.python, "--plain"]
        code = _call(command, {**os.environ, **jobs.visible_gpus(state.gpus)}, run, waiter)
        journal.note("then", verb=verb, exit_code=code)
        journal.set_if_room(then_exits=",".join([*filter(None, [state.then_exits]), str(code)]))
    state = journal.state
    if state.on_finish is not None and state.on_finish_exit is None:
        told = {"RUN": state.run, "STATUS": state.status, **processes.tags(run.path)}
        code = _call(["/bin/sh", "-c", state.on_finish], {**os.environ, **told}, run, waiter)
        journal.note("on_finish", exit_code=code)
        journal.set_if_room(on_finish_exit=code)


def _report(journal: Journal) -> None:
    """Have the report written; what goes wrong with it is noted, and is no fault of the run."""
    run = journal.run
    command = [sys.executable, "-P", "-m", "finetui.runs.review.report", str(run.path)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, **processes.tags(run.path)},
            timeout=_REPORT_S,
            check=False,
        )
        journal.note("report", exit_code=done.returncode, words=one_line(done.stderr, 400))
    except subprocess.TimeoutExpired:
        journal.note("report", exit_code=None, words=f"not done after {_REPORT_S:.0f} s")


def _call(command: Sequence[str], environment: Mapping[str, str], run: RunFolder, waiter: Waiter) -> int:
    """Run a command to its end; a stop ends it and all that it has started."""
    with run.then_log.open("ab") as log:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=run.path, env=environment
        )
    while child.poll() is None:
        if waiter.wait([child.pid], _LOOK_S):
            processes.kill_all(lambda: processes.everything_else(run.path))
    return child.returncode
