"""Watching a run without a screen: its files are read when asked, and what they say is one unchanging picture."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetui.app.widgets.curves import Curve
from finetui.cli.dashboard import Fact, Paid, facts
from finetui.core.errors import FinetuiError, render
from finetui.core.events import Reader
from finetui.core.messages import t
from finetui.core.text import one_line, safe_text
from finetui.runs.folder import RunFolder
from finetui.runs.outcome import locked, problem, result
from finetui.runs.review.history import History, Saved
from finetui.runs.state import FAILED, FINISHED, INTERRUPTED, LIVE, STOPPED, RunState

LOG_BYTES = 1 << 16
"""What of a log is shown of the time before one looked."""


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment."""

    name: str
    status: str
    """One of the statuses of a run."""
    phase: str
    """What a run that lives is doing."""
    facts: tuple[Fact, ...]
    """What the dashboard of `finetui watch` says."""
    gpus: tuple[dict[str, Any], ...]
    """The last sample of each GPU, as the supervisor wrote it."""
    curve: Curve
    checkpoints: tuple[Saved, ...]
    best_step: int | None
    evaluated: dict[int, float]
    """Loss of the evaluation at each step that had one."""
    end: str = ""
    """Why it did not finish, with the next command; or where its result is."""

    @property
    def is_live(self) -> bool:
        """Whether it goes on."""
        return self.status in LIVE


class Watch:
    """One run, watched: `poll` reads what has been added to its files."""

    def __init__(self, folder: Path) -> None:
        self.run = RunFolder(folder)
        self._reader = Reader(folder)
        self._history = History()
        self._lock: dict[str, Any] = {}
        self._begun = False
        self._before: tuple[RunState, str] | None = None

    def poll(self, *, again: bool = False) -> Snapshot | None:
        """The run as it is now; None where nothing has changed since the last time, unless it is asked for `again`.

        The first time only as much of its past is read as a picture needs. Raises FinetuiError where it is no run.
        """
        state = self.run.read()
        status = self.run.status(state)  # asked before reading, so that nothing written last is missed
        events = self._reader.read() if self._begun else self._reader.glance()
        if not self._begun:
            self._lock, self._begun = locked(self.run), True
        self._history.take(events)
        if not (events or again or self._before != (state, status)):
            return None
        self._before = state, status
        return self._snapshot(state, status)

    def _snapshot(self, state: RunState, status: str) -> Snapshot:
        history, live = self._history, status in LIVE
        sample = history.sample if live else None
        return Snapshot(
            name=one_line(self.run.name),
            status=status,
            phase=history.phase,
            facts=tuple(facts(history, state.steps_asked, self._lock, Paid(state.world_size, state.price), live=live)),
            gpus=tuple((sample or {}).get("gpus", [])),
            curve=Curve.of(history, one_line(self.run.name, 60)),
            checkpoints=tuple(history.checkpoints),
            best_step=None if history.best is None else history.best.step,
            evaluated={each.step: each.loss for each in history.evaluations},
            end=self._end(status),
        )

    def _end(self, status: str) -> str:
        if status == FINISHED:
            return t("app.monitor-output", output=str(self.run.output))
        if status in (FAILED, STOPPED, INTERRUPTED):
            with contextlib.suppress(FinetuiError, OSError):
                return render([problem(self.run, result(self.run))])
        return ""


class LogTail:
    """The end of a growing log, and what is added to it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset: int | None = None

    def read(self) -> str:
        """What was added since the last reading, whole lines, harmless; empty where nothing was."""
        try:
            stream = self._path.open("rb")
        except FileNotFoundError:
            return ""
        with stream:
            size = stream.seek(0, 2)
            start = max(0, size - LOG_BYTES) if self._offset is None or size < self._offset else self._offset
            stream.seek(start)
            added = stream.read(size - start)
        whole = added[: added.rfind(b"\n") + 1]
        if self._offset is None and start > 0:
            whole = whole[whole.find(b"\n") + 1 :]  # the line that the window cut
        self._offset = start + added.rfind(b"\n") + 1
        return safe_text(whole.decode("utf-8", "replace"))
