"""A run on a terminal: a picture of its steps, or a line for each; and its end in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from finetui.cli.common import Output
from finetui.cli.dashboard import Paid, dashboard, step_line, time_line
from finetui.core.errors import JOB_FAILED, render, render_warnings
from finetui.core.events import VERSION, Event, version
from finetui.core.messages import t
from finetui.runs.figures import short_number
from finetui.runs.folder import RunFolder
from finetui.runs.following import follow_batches
from finetui.runs.outcome import locked, problem, problems_after, result
from finetui.runs.review.findings import findings
from finetui.runs.review.history import History
from finetui.runs.state import FINISHED, LIVE

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live


class Screen:
    """Where the lines of a run go: above a picture that is redrawn, or simply one after another."""

    def __init__(self, output: Output, live: Live | None = None) -> None:
        self._output = output
        self._live = live

    def line(self, text: str) -> None:
        """A line that stays."""
        if self._live is None:
            self._output.note(text)
        else:
            self._live.console.print(text)

    @property
    def redraws(self) -> bool:
        """Whether something can be drawn again in its place."""
        return self._live is not None

    def draw(self, picture: RenderableType) -> None:
        """Put it in place of what was drawn before."""
        if self._live is not None:
            self._live.update(picture, refresh=True)


@contextmanager
def screen(output: Output) -> Iterator[Screen]:
    """A screen on stderr, live where that is a terminal."""
    if not output.live:
        yield Screen(output)
        return
    from rich.live import Live

    with Live(console=output.console(err=True), auto_refresh=False, redirect_stdout=False) as live:
        yield Screen(output, live)


def show_run(output: Output, run: RunFolder, price: float | None = None) -> None:
    """Follow a run to its end: redrawn at a glance on a terminal, else a line for each step and where the time went.

    `price` is that of one GPU for an hour, where it is another than the run was started with.
    """
    state, lock, history = run.read(), locked(run), History()
    paid = Paid(state.world_size, state.price if price is None else price)
    steps = state.steps_asked
    if (written := version(run.events)) != VERSION:
        output.note(t("runs.other-schema", version=written, known=VERSION))
    with screen(output) as shown:
        for events in follow_batches(run, glance=shown.redraws):
            for event in events:
                history.take([event])
                if line := describe(event):
                    shown.line(line)
                elif event.name == "step" and not shown.redraws:
                    shown.line(step_line(history, steps))
            if shown.redraws:
                shown.draw(dashboard(history, steps, lock, paid, live=run.status() in LIVE))
        shown.draw(
            dashboard(history, steps, lock, paid, live=False)
        )  # the last event comes before the state's last word
        if not shown.redraws and len(history):
            shown.line(time_line(history, paid))
            for finding in findings(history):
                shown.line(t("errors.warning", text=finding.text()))


def show_end(output: Output, run: RunFolder, **more: Any) -> int:
    """Say how a run ended, on stdout or as its JSON contract, and give the exit code for it."""
    outcome = {**result(run), **more}
    why = None if outcome["status"] == FINISHED else render([problem(run, outcome)])
    output.result(outcome)
    if why is not None:
        output.note(why)
        return JOB_FAILED
    if rank := run.read().node_rank:
        output.data(t("nodes.finished", run=run.name, rank=rank))
        return 0
    facts = {
        "run": run.name,
        "steps": outcome["steps"],
        "loss": short_number(outcome["final_loss"], ".4f"),
        "speed": short_number(outcome["tokens_per_second"], ".0f"),
    }
    output.data(t("runs.finished", **facts))
    if "output_sha256" in outcome:
        output.data(t("runs.output-model", output=outcome["output"], sha256=outcome["output_sha256"]))
    else:
        output.data(t("runs.output", output=outcome["output"], sha256=outcome["adapter_sha256"]))
    if wanting := problems_after(run):
        output.note(render_warnings(wanting))
    return 0


def show_next(output: Output, run: RunFolder) -> None:
    """Say what comes after a run that has finished: a whole model has nothing to merge."""
    output.note(t("runs.next", verb="chat" if run.holds_model() else "merge", run=run.name))


def describe(event: Event) -> str | None:
    """The line for an event that is no step, or None where it says nothing to a person."""
    match event.name:
        case "started":
            facts = {key: event[key] for key in ("world_size", "device", "steps")}
            reached = event.facts.get("resumed_from")
            return t("resume.resumed-line", step=reached, **facts) if reached else t("runs.loading", **facts)
        case "model_loaded":
            return t("runs.loaded", trainable=event["trainable_parameters"])
        case "evaluation":
            return t("runs.evaluation-line", step=event.step, loss=short_number(event["loss"], ".4f"))
        case "checkpoint":
            return t("runs.checkpoint-line", step=event.step, path=event["path"])
        case "best":
            return t("runs.best-line", step=event.step, loss=short_number(event["loss"], ".4f"), path=event["path"])
        case "warning":
            return t("errors.warning", text=event["text"])
        case "stop":
            return t("runs.stop-line")
        case "queued":
            waits_for = ", ".join(map(str, event["waits_for"]))
            return t("runs.queued-line", position=event["position"], waits_for=waits_for)
        case "then":
            return t("runs.then-line", verb=event["verb"], exit_code=event["exit_code"])
        case "on_finish":
            return t("runs.on-finish-line", exit_code=event["exit_code"])
        case _:
            return None
