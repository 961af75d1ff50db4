"""The last step by lines: a name, then lock and start."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from finetui.cli.plain.progress import HowFar
from finetui.cli.plain.talk import Option, ask, choose, say, say_error
from finetui.core.errors import FinetuiError, render_warnings
from finetui.core.messages import t
from finetui.runs.tracking import announcement
from finetui.steps import attempt, called, lock_and_start

if TYPE_CHECKING:
    from finetui.cli.plain.wizard import Wizard
    from finetui.runs.folder import RunFolder


def step(wizard: Wizard) -> RunFolder:
    """The run that was started."""
    say(t("plain.launch"))
    typed = ask(t("wizard.launch-name").rstrip(":："), wizard.draft.out.stem, about=t("app.help-step-launch"))
    wizard.change(called(wizard.draft, typed))
    while True:
        say(t("wizard.locking"))
        found = attempt(partial(lock_and_start, wizard.draft, HowFar()))
        if not isinstance(found, FinetuiError):
            break
        say_error(found)
        _change(wizard, found)
    run, warnings = found
    if warnings:
        say(render_warnings(warnings))
    say(t("runs.started", run=run.name, pid=run.read().pid, folder=str(run.path)))
    for line in announcement(run):
        say(line)
    return run


def _change(wizard: Wizard, refused: FinetuiError) -> None:
    """What is to be different when it is tried again."""
    words = ["again"]
    if any(problem.code == "data.too-many-rejected" for problem in refused.problems):
        words.insert(0, "accept")
    options = [Option(word, t(f"plain.launch-{word}")) for word in words]
    word, typed = choose(t("plain.launch-refused"), options, words[0], about=t("app.help-step-launch"), is_free=True)
    if word == "accept":
        wizard.change(replace(wizard.draft, accept_rejected=True))
    elif not word:
        wizard.change(called(wizard.draft, typed))
