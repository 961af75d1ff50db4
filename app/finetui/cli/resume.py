"""The command `resume`."""

from __future__ import annotations

import json
from typing import Any

import click

from finetui.cli.common import GpuList, Output, command, option
from finetui.cli.run_display import show_end, show_next, show_run
from finetui.core.errors import INTERRUPTED as LEFT
from finetui.core.knobs import parse_assignments
from finetui.core.messages import t
from finetui.runs.folder import find_run
from finetui.runs.following import wait_for_training
from finetui.runs.launch import launch
from finetui.runs.outcome import result
from finetui.runs.resume import prepare_resume
from finetui.runs.slurm.job import submit
from finetui.runs.state import QUEUED
from finetui.runs.tracking import announcement


@command("resume")
@click.argument("run", metavar="RUN")
@option("--set", "assignments", metavar="KNOB=VALUE", multiple=True, help_code="resume.opt-set")
@option("--detach", is_flag=True, help_code="runs.opt-detach")
@option("--model", metavar="PATH", help_code="runs.opt-model")
@option("--python", metavar="PATH", help_code="cli.opt-python")
@option("--gpus", type=GpuList(), metavar="LIST", help_code="cli.opt-gpus")
@option("--trust", metavar="ID", help_code="runs.opt-trust")
@option("--wait", is_flag=True, help_code="runs.opt-wait")
@option("--then", metavar="LIST", help_code="runs.opt-then")
@option("--on-finish", metavar="CMD", help_code="runs.opt-on-finish")
def resume_command(output: Output, run: str, assignments: tuple[str, ...], detach: bool, **choices: Any) -> int:
    """Go on with a run, and follow it."""
    found = prepare_resume(find_run(run), changes=parse_assignments(assignments), **choices)
    try:
        state = found.read()
        if state.slurm:
            output.note(t("slurm.submitted", run=found.name, job=submit(found), folder=str(found.path)))
        else:
            launch(found)
            state = found.read()
            output.note(t("runs.started", run=found.name, pid=state.pid, folder=str(found.path)))
        for line in announcement(found):
            output.note(line)
        if state.changes:
            changed = ", ".join(f"{name}={value}" for name, value in json.loads(state.changes).items())
            output.note(t("resume.changed", changes=changed))
        if detach:
            waits = found.status() == QUEUED
            if not waits and not wait_for_training(found):
                return show_end(output, found)
            output.result(result(found))
            output.data(t("runs.queued" if waits else "runs.detached", run=found.name))
            return 0
        show_run(output, found)
    except KeyboardInterrupt:
        output.result(result(found))
        output.note("\n" + t("runs.goes-on", run=found.name))
        return LEFT
    code = show_end(output, found)
    if code == 0 and not found.read().then:
        show_next(output, found)
    return code
