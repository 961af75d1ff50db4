"""The wizard's screen: the stepper, the step that is shown, and the draft that all of them change."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.widgets import ContentSwitcher

from finetui.app.registry import bindings
from finetui.app.screens.ask import Ask
from finetui.app.screens.letters import is_free_letter
from finetui.app.screens.room import Room
from finetui.app.screens.wizard.data import DataStep
from finetui.app.screens.wizard.launch import LaunchStep
from finetui.app.screens.wizard.model import ModelStep
from finetui.app.screens.wizard.recipe import RecipeStep
from finetui.app.screens.wizard.review import ReviewStep
from finetui.app.screens.wizard.step import Step
from finetui.app.themes import MUTED
from finetui.app.widgets.lines import Lines
from finetui.core.errors import Problem
from finetui.core.messages import t
from finetui.core.text import one_line
from finetui.draft import Draft
from finetui.drafts import Kept, begun, forget, keep, newest

STEPS: tuple[type[Step], ...] = (DataStep, ModelStep, RecipeStep, ReviewStep, LaunchStep)


class Wizard(Room):
    """From data to a started run."""

    NAME = "wizard"
    BINDINGS: ClassVar[list[BindingType]] = bindings("wizard")
    DEFAULT_CSS = """
    Wizard #stepper { height: 1; padding: 0 1; margin-bottom: 1; }
    Wizard #steps { height: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept = begun()
        self._at = 0
        self._told = False

    def body(self) -> ComposeResult:
        """The stepper above the steps."""
        yield Lines(id="stepper")
        with ContentSwitcher(id="steps", initial=f"step-{STEPS[0].NAME}"):
            for step in STEPS:
                yield step()

    def on_mount(self) -> None:
        """Begin with the data, or offer the draft of last time."""
        super().on_mount()
        self._enter(0)
        if (last := newest()) is not None:
            self._offer(last)

    # ---- the draft

    @property
    def draft(self) -> Draft:
        """The choices so far."""
        return self._kept.draft

    def change(self, draft: Draft) -> None:
        """Take other choices, and write them down."""
        self._kept = replace(self._kept, draft=draft)
        self._write()

    def _write(self) -> None:
        step = STEPS[self._at].NAME
        try:
            self._kept = keep(replace(self._kept, step=step))
        except OSError as error:
            if not self._told:  # said once: the choices are still here
                self._told = True
                self.finetui.warn(Problem("wizard.not-kept", {"error": error.strerror or str(error)}))

    def forget(self) -> None:
        """The draft has become a run."""
        forget(self._kept)

    def _offer(self, last: Kept) -> None:
        draft = last.draft
        facts = {
            "time": time.strftime("%Y-%m-%d %H:%M", time.localtime(last.changed)),
            "data": one_line(", ".join(draft.data)) or "–",
            "model": one_line(draft.model) or "–",
            "recipe": one_line(draft.recipe) or "–",
        }
        answers = [(name, t(f"wizard.draft-{name}")) for name in ("continue", "anew", "drop")]

        def answered(answer: str | None) -> None:
            if answer == "continue":
                self._kept = last
                names = [step.NAME for step in STEPS]
                self._enter(names.index(last.step) if last.step in names else 0)
            elif answer == "drop":
                forget(last)

        self.app.push_screen(Ask(t("wizard.draft-title"), t("wizard.draft-text", **facts), answers), answered)

    # ---- the steps

    @property
    def step(self) -> Step:
        """The step that is shown."""
        return self.query_one(f"#step-{STEPS[self._at].NAME}", Step)

    def action_next(self) -> None:
        """Go on, where what this step is for has been chosen."""
        if self.step.ask():
            return
        if (missing := self.step.missing()) is not None:
            self.notify(t(missing, **self.step.missing_facts()), severity="warning", markup=False)
        elif self._at + 1 < len(STEPS):
            self._enter(self._at + 1)

    def action_back(self) -> None:
        """Close what is open, go back a step, or leave; nothing that was chosen is lost."""
        if self.step.close():
            return
        if self._at:
            self._enter(self._at - 1)
        else:
            self.dismiss()

    def on_key(self, event: events.Key) -> None:
        """A letter that does nothing here is typed into the step's line; what it does elsewhere it never does here."""
        if is_free_letter(self, event):
            event.stop()
            if (line := self.step.line()) is not None:
                line.focus()
                line.insert_text_at_cursor(event.character or "")

    def action_go(self, place: int) -> None:
        """Back to a step that was passed."""
        if place < self._at:
            self._enter(place)

    def _enter(self, place: int) -> None:
        self._at = place
        self.query_one("#steps", ContentSwitcher).current = f"step-{STEPS[place].NAME}"
        if self.draft.data:
            self._write()
        self.speak()
        self.step.enter()

    def speak(self) -> None:
        """The stepper."""
        parts: list[Content] = []
        for place, step in enumerate(STEPS):
            title = t(f"wizard.step-{step.NAME}")
            style = "bold $accent" if place == self._at else "$success" if place < self._at else MUTED
            sign = "✓ " if place < self._at else f"{place + 1} "
            part = Content.styled(sign + title, style)
            parts += [part if place >= self._at else part.stylize(f"@click=screen.go({place})"), Content("  ›  ")]
        self.query_one("#stepper", Lines).show([Content.assemble(*parts[:-1])])
