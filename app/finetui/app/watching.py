"""Watching a run without a screen: its files are read when asked, and what they say is one unchanging picture."""

from __future__ import annotations

import contextlib
import json
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
from finetui.runs.outcome import locked, problem, result, standing
from finetui.runs.review.history import History, Saved
from finetui.runs.state import FAILED, FINISHED, INTERRUPTED, LIVE, STOPPED, RunState

_LONG_BYTES = 32 << 20
"""Events of a run whose past takes so long to be gone through that a first picture comes before."""
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
    next_save: int | None = None
    """The step at which the next checkpoint is saved, where that is known."""
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
        self.is_whole = False
        """Whether its past has been gone through: the first picture of a long run shows steps alone."""
        self._reader = Reader(folder)
        self._history = History()
        self._lock: dict[str, Any] | None = None
        self._before: tuple[RunState, str] | None = None

    def poll(self, *, again: bool = False) -> Snapshot | None:
        """The run as it is now; None where nothing has changed since the last time, unless it is asked for `again`.

        The first time only as much of its past is read as a picture needs. Raises FinetuiError where it is no run.
        """
        state = self.run.read()
        status = standing(self.run, state).status  # asked before reading, so that nothing written last is missed
        if self._lock is None:
            self._lock = locked(self.run)
            if self._is_long():
                return self._at_first(state, status)
        events = self._reader.read() if self.is_whole else self._reader.glance()
        self._history.take(events)
        if self.is_whole and not (events or again or self._before != (state, status)):
            return None
        self.is_whole, self._before = True, (state, status)
        return self._snapshot(self._history, state, status, self._end(status))

    def _is_long(self) -> bool:
        return self.run.events.exists() and self.run.events.stat().st_size > _LONG_BYTES

    def _at_first(self, state: RunState, status: str) -> Snapshot:
        history = History()
        history.take(self._reader.glance(rare=False))
        return self._snapshot(history, state, status, end="")

    def _snapshot(self, history: History, state: RunState, status: str, end: str) -> Snapshot:
        live = status in LIVE
        sample = history.sample if live else None
        return Snapshot(
            name=one_line(self.run.name),
            status=status,
            phase=history.spending.phase,
            facts=tuple(
                facts(history, state.steps_asked, self._lock or {}, Paid(state.world_size, state.price), live=live)
            ),
            gpus=tuple((sample or {}).get("gpus", [])),
            curve=Curve.of(history, one_line(self.run.name, 60)),
            checkpoints=tuple(history.checkpoints),
            best_step=None if history.best is None else history.best.step,
            evaluated={each.step: each.loss for each in history.evaluations},
            next_save=self._next_save(history, state),
            end=end,
        )

    def _next_save(self, history: History, state: RunState) -> int | None:
        """The next multiple of the interval, or the last step; as locked, or as it was changed since."""
        try:
            every = int(json.loads(state.changes or "{}").get("save_steps", self._locked("save_steps")))
        except (ValueError, TypeError, AttributeError):
            return None
        steps = Curve.of(history, "").steps
        done = int(steps[-1]) if len(steps) else 0
        return min((done // every + 1) * every, state.steps_asked) if every else state.steps_asked

    def _locked(self, name: str) -> Any:
        settled = ((self._lock or {}).get("training") or {}).get(name)
        return settled.get("value") if isinstance(settled, dict) else None

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
