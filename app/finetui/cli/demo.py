"""`finetui demo`: the main job, unattended, and what came of it side by side."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from finetui.cli.common import Output, command, option
from finetui.cli.stages import Stages
from finetui.core.errors import JOB_FAILED, Problem, render
from finetui.core.messages import t
from finetui.core.text import one_line

if TYPE_CHECKING:
    from finetui.demo.flow import Demo
    from finetui.demo.scoring import Question, Reply
    from finetui.runs.folder import RunFolder

_WIDTH = 80
_SHOWN = 72
"""Characters of an answer that the table shows: enough to judge it by, little enough for 30 rows to be read."""
_CUT = "…\ufffd"
"""What a cut leaves at the end: the sign of it, half a character."""


@command("demo")
@option("--python", metavar="PATH", help_code="cli.opt-python")
def demo_command(output: Output, python: str | None) -> int:
    """Walk the whole way, then show the table, the score, the places and the next commands."""
    from finetui.demo.flow import play

    output.note(t("demo.welcome"))
    demo = play(Steps(output), python=python)
    result = demo.to_json()
    output.result(result)
    show_table(output, demo)
    for line in ("questions", "general"):
        output.data(t(f"demo.score-{line}", **result))
    for place in ("bundle", "run_folder", "merged"):
        output.data(t(f"demo.place-{place}", path=result[place]))
    output.data(t("demo.took", minutes=f"{demo.seconds / 60:.1f}"))
    if missed := demo.score().missed:
        output.note(render([Problem(code, result) for code in missed]))
        return JOB_FAILED
    output.data(t("demo.next", run=result["run"], bundle=result["bundle"]))
    return 0


class Steps:
    """The demo's progress on stderr: a line for each step, one that is redrawn within it where that is a terminal."""

    def __init__(self, output: Output) -> None:
        from finetui.demo.flow import STEPS

        self._output = output
        self._numbers = {step: number for number, step in enumerate(STEPS, start=1)}
        self._stages = Stages(output)

    def begin(self, step: str) -> None:
        """A step begins."""
        text = t(f"demo.step-{step}")
        self._output.note(t("demo.step", number=self._numbers[step], of=len(self._numbers), text=text))
        self._stages = Stages(self._output)

    def end(self, step: str, seconds: float, facts: Mapping[str, object]) -> None:
        """A step has ended."""
        self._stages.__exit__(None, None, None)
        self._output.note(t("demo.done", text=t(f"demo.done-{step}", **facts), seconds=f"{seconds:.1f}"))

    def progress(self, facts: Mapping[str, Any]) -> None:
        """How far the job of a step is."""
        if facts["stage"] != "generate":
            self._stages(facts)
        elif self._output.live:
            sys.stderr.write("\r" + t("demo.answers", done=facts["done"], total=facts["total"]))
            sys.stderr.write("\r" if facts["done"] == facts["total"] else "")
            sys.stderr.flush()

    def follow(self, run: RunFolder) -> None:
        """Show a run until it ends; it goes on where the person leaves."""
        from finetui.cli.run_display import show_run

        try:
            show_run(self._output, run)
        except KeyboardInterrupt:
            self._output.note("\n" + t("runs.goes-on", run=run.name))
            raise


def show_table(output: Output, demo: Demo) -> None:
    """Base and tuned side by side, in 80 columns, wide characters counted as two."""
    from rich.table import Table

    table = Table(box=None, width=_WIDTH, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column(t("demo.column-question"), ratio=1, overflow="fold")
    for column in ("base", "tuned"):
        table.add_column(width=1)
        table.add_column(t(f"demo.column-{column}"), ratio=1, overflow="fold")
    asked = len(demo.questions)
    for question, *replies in zip(demo.questions, demo.base[:asked], demo.tuned[:asked], strict=True):
        table.add_row(question.text, *(cell for reply in replies for cell in _cells(question, reply)))
    console = output.console()
    console.print()
    console.print(table)
    console.print()


def _cells(question: Question, reply: Reply) -> tuple[str, str]:
    """Whether it is right, and what was said; `…` where the answer did not end by itself."""
    text = one_line(reply.text.strip(), _SHOWN)
    return "✓" if question.accepts(reply.text) else "✗", text if reply.stopped else f"{text.rstrip(_CUT)}…"
