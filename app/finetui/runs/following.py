"""Following a run by reading its files alone: any number of readers, at any time, disturb nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator

from finetui.core.events import Event, Reader
from finetui.runs.folder import HEARTBEAT_S, RunFolder
from finetui.runs.slurm.job import LOOK_S, attend
from finetui.runs.state import LIVE

_POLL_S = 0.25


def follow(run: RunFolder, poll_s: float = _POLL_S) -> Iterator[Event]:
    """The events of a run from its first on, the trainer's and the supervisor's, as they come, until none follows."""
    for events in follow_batches(run, poll_s):
        yield from events


def follow_batches(run: RunFolder, poll_s: float = _POLL_S, *, glance: bool = False) -> Iterator[list[Event]]:
    """The same in batches, each what came since the one before: a screen is redrawn once for each.

    With `glance` the first one holds of a very long past no more than a picture needs.
    """
    reader, over = Reader(run.path), _Over(run)
    while True:
        ended = over()  # asked before reading, so that nothing written last is missed
        if events := reader.glance() if glance else reader.read():
            yield events
        glance = False
        if ended:
            return
        time.sleep(poll_s)


def follow_log(run: RunFolder, poll_s: float = _POLL_S) -> Iterator[str]:
    """The training log in pieces, from its beginning, as it grows, until the run has ended."""
    with run.log.open("r", encoding="utf-8", errors="replace") as stream:
        while True:
            ended = run.status() not in LIVE
            while piece := stream.read(1 << 16):
                yield piece
            if ended:
                return
            time.sleep(poll_s)


def wait_for_training(run: RunFolder) -> bool:
    """Wait until the trainer has said its first word; False where the run ended without one.

    Of several machines only the first hears the trainer: on the others it is the supervisor's word.
    """
    first = "supervisor" if run.read().node_rank else "started"
    return any(event.name == first for event in follow(run))


class _Over:
    """Whether a run is over beyond doubt: of one on another machine only a heartbeat tells, and a clock may jump."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._beat = 0.0
        self._beat_seen = 0.0
        self._asked = 0.0

    def __call__(self) -> bool:
        if time.monotonic() > self._asked + LOOK_S:
            attend(self._run)  # nobody else writes down how a job of Slurm is
            self._asked = time.monotonic()
        state = self._run.read()
        if state.slurm:
            return state.status not in LIVE
        if state.status not in LIVE or state.identity.is_here():
            return self._run.is_over(state)
        if (beat := self._run.heartbeat()) != self._beat:
            self._beat, self._beat_seen = beat, time.monotonic()
        return time.monotonic() - self._beat_seen > HEARTBEAT_S
