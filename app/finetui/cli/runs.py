"""The commands `run`, `replay`, `watch`, `runs`, `logs` and `stop`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from finetui.cli.common import Amount, GpuList, Output, PathWord, command, option
from finetui.cli.run_display import show_end, show_next, show_run
from finetui.core.errors import BAD_INPUT, MISMATCH, FinetuiError, Problem, render_warnings
from finetui.core.errors import INTERRUPTED as LEFT
from finetui.core.events import last
from finetui.core.messages import t
from finetui.core.text import safe_text
from finetui.runs.figures import short_number
from finetui.runs.folder import RunFolder, find_run, list_runs
from finetui.runs.following import follow_log, wait_for_training
from finetui.runs.launch import adopt, launch, prepare
from finetui.runs.outcome import result, standing
from finetui.runs.queue import position
from finetui.runs.replay import changed, compare, expected_of, summary
from finetui.runs.slurm.job import submit
from finetui.runs.state import FAILED, FINISHED, INTERRUPTED, QUEUED, RUNNING, STARTING, STOPPED
from finetui.runs.stopping import GRACE_S, stop
from finetui.runs.tracking import announcement

_UNREADABLE = "unreadable"
_SHOWN = (QUEUED, RUNNING, FINISHED, FAILED, STOPPED, INTERRUPTED, _UNREADABLE)
"""The statuses of the list: what starts counts as running."""


@command("run")
@click.argument("bundle", type=PathWord())
@option("--detach", is_flag=True, help_code="runs.opt-detach")
@option("--model", metavar="PATH", help_code="runs.opt-model")
@option("--python", metavar="PATH", help_code="cli.opt-python")
@option("--gpus", type=GpuList(), metavar="LIST", help_code="cli.opt-gpus")
@option("--trust", metavar="ID", help_code="runs.opt-trust")
@option("--wait", is_flag=True, help_code="runs.opt-wait")
@option("--nodes", type=click.IntRange(1), metavar="N", help_code="nodes.opt-nodes")
@option("--node-rank", type=click.IntRange(0), metavar="K", help_code="nodes.opt-node-rank")
@option("--master", metavar="HOST:PORT", help_code="nodes.opt-master")
@option("--slurm", is_flag=True, help_code="slurm.opt-slurm")
@option("--then", metavar="LIST", help_code="runs.opt-then")
@option("--on-finish", metavar="CMD", help_code="runs.opt-on-finish")
@option("--track", metavar="LIST", help_code="tracking.opt-track")
@option("--price", type=Amount(), metavar="PER_HOUR", help_code="runs.opt-price")
def run_command(output: Output, bundle: Path, detach: bool, **choices: Any) -> int:
    """Train a bundle, and follow it."""
    run = prepare(bundle, **choices)
    try:
        if choices["slurm"]:
            output.note(t("slurm.submitted", run=run.name, job=submit(run), folder=str(run.path)))
        else:
            launch(run)
            output.note(t("runs.started", run=run.name, pid=run.read().pid, folder=str(run.path)))
        if (state := run.read()).node_rank:
            output.note(t("nodes.follows", rank=state.node_rank, count=state.nodes, master=state.master))
        for line in announcement(run):
            output.note(line)
        if detach and (choices["slurm"] or run.status() == QUEUED):
            output.result(result(run))
            output.data(t("runs.queued", run=run.name))
            return 0
        if detach:
            if not wait_for_training(run):
                return show_end(output, run)
            output.result(result(run))
            output.data(t("runs.detached", run=run.name))
            return 0
        show_run(output, run)
    except KeyboardInterrupt:
        return _leave(output, run)
    code = show_end(output, run)
    if code == 0 and not run.read().then:
        show_next(output, run)
    return code


@command("replay")
@click.argument("bundle", type=PathWord())
@option("--steps", type=click.IntRange(1), metavar="N", help_code="runs.opt-replay-steps")
@option("--model", metavar="PATH", help_code="runs.opt-model")
@option("--python", metavar="PATH", help_code="cli.opt-python")
@option("--gpus", type=GpuList(), metavar="LIST", help_code="cli.opt-gpus")
@option("--trust", metavar="ID", help_code="runs.opt-trust")
def replay_command(output: Output, bundle: Path, steps: int | None, **choices: Any) -> int:
    """Run a bundle again and compare."""
    replayed = changed(bundle)
    if replayed is None:
        expected = expected_of(bundle)
        run = prepare(bundle, kind="replay", stop_after=steps, **choices)
        try:
            launch(run)
            output.note(t("runs.started", run=run.name, pid=run.read().pid, folder=str(run.path)))
            show_run(output, run)
        except KeyboardInterrupt:
            return _leave(output, run)
        replayed = compare(expected, run)
    output.result(replayed.to_json())
    output.data(summary(replayed))
    return 0 if replayed.reproduced else MISMATCH


@command("watch")
@click.argument("run", metavar="RUN")
@option("--price", type=Amount(), metavar="PER_HOUR", help_code="runs.opt-price")
def watch_command(output: Output, run: str, price: float | None) -> int:
    """Follow a run to its end."""
    found = _tended(run)
    try:
        show_run(output, found, price)
    except KeyboardInterrupt:
        return _leave(output, found)
    return show_end(output, found)


@command("runs")
@option("--status", "statuses", type=click.Choice(_SHOWN), metavar="STATUS", multiple=True, help_code="runs.opt-status")
def runs_command(output: Output, statuses: tuple[str, ...]) -> int:
    """List all runs, or those of a status."""
    found = [row for run in reversed(list_runs()) if (row := _row(run))["status"] in (statuses or _SHOWN)]
    output.result({"runs": found})
    if output.json:
        return 0
    if not found:
        output.note(render_warnings([Problem("runs.no-runs")]))
        return 0
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("run", "status", "step", "loss", "bundle"):
        table.add_column(t(f"runs.column-{column}"), no_wrap=column == "run", overflow="fold")
    for row in found:
        steps = f"{row['steps']}/{row['steps_total']}"
        loss = short_number(row["final_loss"], ".4f")
        status = t(f"runs.status-{row['status']}")
        if row.get("position"):
            status = t("runs.status-queued-at", position=row["position"])
        table.add_row(safe_text(row["run"]), status, steps, loss, safe_text(row["bundle"]))
    output.console().print(table)
    return 0


@command("logs")
@click.argument("run", metavar="RUN")
@option("-f", "--follow", "follows", is_flag=True, help_code="runs.opt-follow")
def logs_command(output: Output, run: str, follows: bool) -> int:
    """Print a run's log."""
    found = _tended(run)
    if not found.log.exists():
        raise FinetuiError(Problem("runs.no-log", {"run": found.name}), BAD_INPUT)
    if output.json:
        output.result({"run": found.name, "log": str(found.log), "text": _text(found)})
        return 0
    try:
        for piece in follow_log(found) if follows else [_text(found)]:
            print(safe_text(piece), end="", flush=True)
    except KeyboardInterrupt:
        return LEFT
    return 0


@command("stop")
@click.argument("run", metavar="RUN")
@option("--grace", type=Amount(), default=GRACE_S, show_default=True, help_code="runs.opt-grace")
@option("--now", is_flag=True, help_code="runs.opt-now")
def stop_command(output: Output, run: str, grace: float, now: bool) -> int:
    """Stop a run."""
    found = find_run(run)
    if not found.is_over():
        output.note(t("runs.stopping-now" if now else "runs.stopping", run=found.name, seconds=round(grace)))
    done = stop(found, grace, now=now)
    outcome = result(found)
    checkpoint = last(found.events, ["checkpoint"])
    shown = t("runs.no-checkpoint") if checkpoint is None else str(found.path / checkpoint["path"])
    output.result(
        {
            **outcome,
            "was_running": done.was_running,
            "killed": list(done.killed),
            "processes": done.processes,
            "left": done.left,
            "stop_seconds": done.seconds,
            "checkpoint": None if checkpoint is None else shown,
        }
    )
    if not done.was_running:
        output.data(t("runs.not-running", run=found.name, status=t(f"runs.status-{outcome['status']}")))
    else:
        facts = {"steps": outcome["steps_total"], "step": outcome["steps"], "checkpoint": shown}
        output.data(t("runs.stop-ended", run=found.name, seconds=f"{done.seconds:.1f}", **facts))
        output.data(t("runs.stop-left", processes=done.processes, left=done.left))
    if done.killed:
        pids = ", ".join(map(str, done.killed))
        output.data(t("runs.stop-killed", count=len(done.killed), pids=pids))
    return 0


def _leave(output: Output, run: RunFolder) -> int:
    """The person has stopped following: say that the run goes on."""
    output.result(result(run))
    output.note("\n" + t("runs.goes-on", run=run.name))
    return LEFT


def _tended(reference: str) -> RunFolder:
    """The run that is meant; one whose supervisor was killed gets a new one."""
    run = find_run(reference)
    adopt(run)
    return run


def _row(run: RunFolder) -> dict[str, Any]:
    """A line of the list: from the state and the last step alone, so that a thousand runs are listed at once."""
    try:
        adopt(run)
        state = run.read()
        stands = standing(run, state)
        step = last(run.events, ["step"])
    except (FinetuiError, OSError):
        nothing = {"steps": 0, "steps_total": 0, "final_loss": None, "bundle": ""}
        return {"run": run.name, "status": _UNREADABLE, **nothing}
    return {
        "run": run.name,
        "status": RUNNING if stands.status == STARTING else stands.status,
        "position": position(run, state) if stands.status == QUEUED else None,
        "kind": state.kind,
        "steps": 0 if step is None else step.step,
        "steps_total": state.steps_asked,
        "final_loss": None if step is None else step["loss"],
        "bundle": state.bundle,
        "started": state.started,
        "ended": state.ended,
        "cause": stands.cause,
        "folder": str(run.path),
    }


def _text(run: RunFolder) -> str:
    return run.log.read_text(encoding="utf-8", errors="replace")
