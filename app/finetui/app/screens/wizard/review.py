"""The fourth step: everything resolved, what differs from the recipe, and the commands that say the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content

from finetui.app.registry import bindings
from finetui.app.screens.ask import Ask
from finetui.app.screens.wizard.step import Step
from finetui.app.themes import MUTED
from finetui.app.widgets.lines import Lines
from finetui.app.widgets.printed import Printed
from finetui.cli.common import Output
from finetui.cli.hanging import padded
from finetui.core.errors import FinetuiError, render
from finetui.core.messages import t
from finetui.core.text import PATH_LIMIT, one_line
from finetui.offers import bundle_folder
from finetui.steps import attempt, changes, write_commands

if TYPE_CHECKING:
    from rich.console import Console

    from finetui.draft import Draft
    from finetui.recipes.resolve import Plan

_LABEL = 10


@dataclass(frozen=True)
class Paper(Output):
    """An Output that prints on a given console."""

    paper: Console | None = None

    def console(self, *, err: bool = False) -> Console:
        """The given one."""
        assert self.paper is not None
        return self.paper


class ReviewStep(Step):
    """What will be locked."""

    NAME = "review"
    BINDINGS: ClassVar[list[BindingType]] = bindings("review")
    DEFAULT_CSS = """
    ReviewStep #whole { height: 1fr; padding: 0 1; }
    ReviewStep #commands { padding: 0 1; text-wrap: wrap; text-overflow: fold; margin-top: 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._plan: Plan | FinetuiError | None = None

    def compose(self) -> ComposeResult:
        """The plan, the commands."""
        with VerticalScroll(id="whole"):
            yield Lines(id="choices")
            yield Printed(id="plan")
        yield Lines(id="commands")

    def enter(self) -> None:
        """Plan what was chosen."""
        draft = self.draft
        if draft.out.name == "" or draft.out.exists():
            self.wizard.change(replace(draft, out=bundle_folder(draft)))
        self.query_one("#whole").focus()
        self._plan = None
        draft = self.draft

        def work() -> Plan:
            from finetui.wizard import plan

            return plan(draft)

        self.newest("plan", work, self._planned)
        self.speak()

    def missing(self) -> str | None:
        """A plan that can be locked."""
        if isinstance(self._plan, FinetuiError) or (self._plan and self._plan.untrained):
            return "wizard.no-plan"
        return None

    def ask(self) -> bool:
        """What does not fit: which way out is taken, or whether it is locked all the same."""
        plan = self._plan
        if plan is None or isinstance(plan, FinetuiError) or plan.untrained or plan.fits or self.draft.accept_memory:
            return False

        def answered(answer: str | None) -> None:
            if answer == "accept":
                self.wizard.change(replace(self.draft, accept_memory=True))
                self.wizard.action_next()
            elif answer is not None and answer != "back":
                self.wizard.change(self.draft.taking(plan.ways_out[int(answer)]))
                self.enter()

        ways = [(str(place), way.text()) for place, way in enumerate(plan.ways_out)]
        answers = [*ways, *((name, t(f"wizard.memory-{name}")) for name in ("accept", "back"))]
        self.app.push_screen(Ask(t("wizard.memory-title"), t("wizard.does-not-fit"), answers), answered)
        return True

    def _planned(self, found: Plan | FinetuiError) -> None:
        self._plan = found
        self.speak()

    def speak(self) -> None:
        """Everything, in the language in force."""
        draft, plan = self.draft, self._plan
        self.query_one("#choices", Lines).show(list(_chosen(draft, None if isinstance(plan, FinetuiError) else plan)))
        lines = [t("wizard.commands"), *(one_line(words, PATH_LIMIT) for words in draft.launching())]
        self.query_one("#commands", Lines).show([Content.styled(lines[0], MUTED), *lines[1:]])
        self.query_one("#plan", Printed).show(lambda console: _draw(console, plan, draft))

    def action_copy(self) -> None:
        """Copy the commands."""
        self.app.copy_to_clipboard("\n".join(self.draft.launching()) + "\n")
        self.notify(t("wizard.copied"), markup=False)

    def action_save(self) -> None:
        """Write the commands into a file: tmux lets no copy through unless it is told to."""
        written = attempt(lambda: write_commands(self.draft))
        if isinstance(written, FinetuiError):
            self.wizard.finetui.refuse(written)
        else:
            self.notify(t("wizard.saved", path=str(written)), markup=False)


def _chosen(draft: Draft, plan: Plan | None) -> Iterator[Content]:
    """What was chosen, and what of it differs from the recipe."""
    for label, value in (
        ("data", ", ".join(draft.data)),
        ("model", draft.model),
        ("recipe", draft.recipe),
        ("bundle", str(draft.out)),
    ):
        yield Content.assemble((padded(t(f"wizard.label-{label}"), _LABEL), MUTED), one_line(value, 400))
    for change in changes(draft, plan):
        yield Content.assemble(
            (padded(t("wizard.label-changed"), _LABEL), MUTED),
            f"{change.name}  {one_line(change.before, 60)} → ",
            (one_line(change.after, 60), "bold $accent"),
        )


def _draw(console: Console, plan: Plan | FinetuiError | None, draft: Draft) -> None:
    from finetui.cli.plan_view import show

    if plan is None:
        console.print(t("wizard.planning"))
    elif isinstance(plan, FinetuiError):
        console.print(render(plan.problems), style="red")
    else:
        console.print()
        show(Paper(paper=console), plan, draft)
