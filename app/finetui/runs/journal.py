"""What a supervisor writes down: the run's state, and its own events; both also where the disk is full."""

from __future__ import annotations

import errno
import json
import time
from dataclasses import replace
from typing import Any

from finetui.runs.folder import RunFolder
from finetui.runs.state import RunState

FULL = (errno.ENOSPC, errno.EDQUOT)
"""How a full disk is called."""


class Journal:
    """The one writer of a run's `state.json` and `supervisor.jsonl`."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.state: RunState = run.read()
        """As last written."""
        self._line_start = b""

    def note(self, event: str, **facts: Any) -> None:
        """Append an event. On a full disk it is lost: that is no reason to end what is supervised."""
        line = {"v": 1, "event": event, "time": time.time(), "step": None, **facts}
        text = self._line_start + json.dumps(line, ensure_ascii=True).encode() + b"\n"
        try:
            with self.run.supervisor_events.open("ab", buffering=0) as stream:
                self._line_start = b"" if stream.write(text) == len(text) else b"\n"
        except OSError as error:
            if error.errno not in FULL:
                raise
            self.run.beat()

    def set(self, **changes: Any) -> None:
        """Replace the state, on a full disk in the room that is kept for it.

        Raises OSError where it cannot be written.
        """
        self.state = replace(self.state, **changes)
        try:
            self.run.write(self.state)
        except OSError as error:
            if error.errno not in FULL:
                raise
            self.run.write_in_spare(self.state)

    def set_if_room(self, **changes: Any) -> None:
        """The same for what a run need not end for where it cannot be written."""
        try:
            self.set(**changes)
        except OSError as error:
            if error.errno not in FULL:
                raise
