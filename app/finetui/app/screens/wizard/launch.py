"""The last step: lock the bundle, start the run, go where it is watched."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.widgets import Input

from finetui.app.registry import SCREENS, bindings
from finetui.app.screens.ask import Ask
from finetui.app.screens.wizard.step import Step
from finetui.app.widgets.line import Line
from finetui.app.widgets.lines import Lines
from finetui.core.errors import FinetuiError, Problem, render, render_warnings
from finetui.core.messages import t
from finetui.core.text import PATH_LIMIT, one_line
from finetui.runs.folder import RunFolder
from finetui.steps import called, lock_and_start


class Name(Line):
    """The name of the bundle; its Enter starts the run."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("launch")


class LaunchStep(Step):
    """A name, and Enter."""

    NAME = "launch"
    DEFAULT_CSS = """
    LaunchStep Lines { padding: 0 1; text-wrap: wrap; }
    LaunchStep #bundle { margin: 0 0 1 0; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._busy = False
        self._done: list[str] = []
        self._now = ""
        self._wrong: FinetuiError | None = None

    def compose(self) -> ComposeResult:
        """The name of the bundle, what happens."""
        yield Lines(id="launch-words")
        yield Name(id="bundle")
        yield Lines(id="stages")

    def enter(self) -> None:
        """Offer the name."""
        self.query_one("#bundle", Input).value = self.draft.out.name
        self.query_one("#bundle").focus()
        if not self._busy:
            self._done, self._now, self._wrong = [], "", None
        self.speak()

    def ask(self) -> bool:
        """There is no step to go on to: the run itself is what comes next."""
        self._launch()
        return True

    def close(self) -> bool:
        """What has begun is not left half done."""
        if self._busy:
            self.notify(t("wizard.busy"), markup=False)
        return self._busy

    @on(Input.Submitted, "#bundle")
    def _entered(self) -> None:
        self._launch()

    def _launch(self) -> None:
        if self._busy:
            return
        typed = self.query_one("#bundle", Input).value.strip()
        self.wizard.change(called(self.draft, typed))
        self._busy, self._done, self._wrong, self._now = True, [], None, t("wizard.locking")
        draft = self.draft
        self.newest("launch", lambda: lock_and_start(draft, self.tell), self._started)
        self.speak()

    @on(Step.Stage)
    def _told(self, stage: Step.Stage) -> None:
        if stage.text != self._now:
            self._now = stage.text
            self.speak()

    def _started(self, found: tuple[RunFolder, tuple[Problem, ...]] | FinetuiError) -> None:
        self._busy, self._now = False, ""
        if isinstance(found, FinetuiError):
            self._wrong = found
            self.speak()
            self.query_one("#bundle").focus()
            if any(problem.code == "data.too-many-rejected" for problem in found.problems):
                self._ask_about_rejected(found)
            return
        run, warnings = found
        wizard = self.wizard
        wizard.forget()
        app = wizard.finetui
        wizard.dismiss()
        if "monitor" in SCREENS:
            app.open("monitor", run.path)
        if warnings:
            app.notify(render_warnings(warnings), severity="warning", markup=False, timeout=12)

    def _ask_about_rejected(self, refused: FinetuiError) -> None:
        def answered(answer: str | None) -> None:
            if answer == "accept":
                self.wizard.change(replace(self.draft, accept_rejected=True))
                self._launch()

        text = "\n".join(problem.message() for problem in refused.problems)
        answers = [(name, t(f"wizard.rejected-{name}")) for name in ("accept", "back")]
        self.app.push_screen(Ask(t("wizard.rejected-title"), text, answers), answered)

    def speak(self) -> None:
        """Everything, in the language in force."""
        self.query_one("#bundle").disabled = self._busy
        self.query_one("#launch-words", Lines).show([t("wizard.launch-words"), t("wizard.launch-name")])
        lines: list[Content | str] = [*self._done, *([self._now] if self._now else [])]
        if self._wrong is not None:
            lines += [
                Content.styled(one_line(line, PATH_LIMIT), "$error")
                for line in render(self._wrong.problems).splitlines()
            ]
        elif not self._busy:
            lines.append(Content.styled(t("wizard.press-enter"), "bold $accent"))
        self.query_one("#stages", Lines).show(lines)
