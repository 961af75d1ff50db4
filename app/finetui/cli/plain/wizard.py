"""The wizard by lines: its five steps, and the draft that all of them change and that outlives a closed line."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from finetui.cli.plain import data, launch, model, recipe, review
from finetui.cli.plain.talk import Back, Left, Option, choose, say
from finetui.core.errors import Problem, render_warnings
from finetui.core.messages import t
from finetui.core.text import one_line
from finetui.draft import Draft
from finetui.drafts import Kept, begun, forget, keep, newest
from finetui.runs.folder import RunFolder
from finetui.steps import NAMES


class Wizard:
    """From data to a started run."""

    def __init__(self) -> None:
        self._kept = begun()
        self._at = 0
        self._told = False

    @property
    def draft(self) -> Draft:
        """The choices so far."""
        return self._kept.draft

    def change(self, draft: Draft) -> None:
        """Take other choices, and write them down."""
        self._kept = replace(self._kept, draft=draft)
        self._write()

    def live(self) -> RunFolder | None:
        """The run that was started; None where one went back to where it began.

        Raises Left, the draft kept.
        """
        try:
            if (last := newest()) is not None:
                self._offer(last)
            return self._walk()
        except (Left, KeyboardInterrupt, SystemExit) as left:
            if self.draft.data and not isinstance(left, SystemExit):  # after a hang-up nobody hears it
                say("")
                say(t("plain.draft-kept"))
            raise

    def _walk(self) -> RunFolder | None:
        steps: list[Callable[[Wizard], None]] = [data.step, model.step, recipe.step, review.step]
        while True:
            name = NAMES[self._at]
            say(t("plain.step", number=self._at + 1, count=len(NAMES), title=t(f"wizard.step-{name}")))
            if self.draft.data:
                self._write()
            try:
                if self._at == len(steps):
                    run = launch.step(self)
                    forget(self._kept)
                    return run
                steps[self._at](self)
            except Back:
                if self._at == 0:
                    return None
                self._at -= 1
            else:
                self._at += 1

    def _offer(self, last: Kept) -> None:
        draft = last.draft
        facts = {
            "time": time.strftime("%Y-%m-%d %H:%M", time.localtime(last.changed)),
            "data": one_line(", ".join(draft.data)) or "–",
            "model": one_line(draft.model) or "–",
            "recipe": one_line(draft.recipe) or "–",
        }
        say(t("wizard.draft-title"))
        say(t("wizard.draft-text", **facts))
        options = [Option(name, t(f"wizard.draft-{name}")) for name in ("continue", "anew", "drop")]
        answer, _ = choose(t("plain.which-way"), options, "continue", about=t("plain.help-draft"))
        if answer == "continue":
            self._kept = last
            self._at = NAMES.index(last.step) if last.step in NAMES else 0
        elif answer == "drop":
            forget(last)

    def _write(self) -> None:
        try:
            self._kept = keep(replace(self._kept, step=NAMES[self._at]))
        except OSError as error:
            if not self._told:  # said once: the choices are still here
                self._told = True
                say(render_warnings([Problem("wizard.not-kept", {"error": error.strerror or str(error)})]))
