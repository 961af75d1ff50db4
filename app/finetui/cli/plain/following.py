"""A run by lines: as it goes, or how it ended. It only reads files: leaving changes nothing for the run."""

from __future__ import annotations

from finetui.cli.dashboard import time_line
from finetui.cli.plain.talk import Told, say
from finetui.cli.run_display import show_end, show_run
from finetui.core.errors import INTERRUPTED
from finetui.core.events import Reader
from finetui.core.messages import t
from finetui.runs.folder import RunFolder
from finetui.runs.launch import adopt
from finetui.runs.review.findings import findings
from finetui.runs.review.history import History


def follow(run: RunFolder) -> int:
    """Follow it to its end, or until Ctrl+C; the exit code of `watch`."""
    say(t("plain.following", run=run.name))
    try:
        adopt(run)
        show_run(Told(), run)
    except KeyboardInterrupt:
        say("")
        say(t("runs.goes-on", run=run.name))
        return INTERRUPTED
    return show_end(Told(), run)


def tell_end(run: RunFolder) -> int:
    """How it ended, where its time went, what looks odd; the exit code of `watch`."""
    history = History()
    history.take(Reader(run.path).glance())
    code = show_end(Told(), run)
    if len(history):
        say(time_line(history))
        for finding in findings(history):
            say(t("errors.warning", text=finding.text()))
    return code
