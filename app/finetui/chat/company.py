"""Those who answer in a chat, and the models that they have loaded."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from finetui.chat.who import BASE, ENDPOINT, MODEL, TUNED, Lane, Speaker, Who
from finetui.core.jobs import Progress

if TYPE_CHECKING:
    from finetui.chat.engine import Served
    from finetui.chat.speakers import EngineLane


class Gone(Exception):
    """Nobody waits any more for a model that is being loaded."""


class Company:
    """Those who answer: two who share a model load it once, whatever adapters they have on it."""

    def __init__(self, python: str | None = None, gpus: str | None = None) -> None:
        self._python = python
        self._gpus = gpus
        self._seating = threading.Lock()
        self._lock = threading.Lock()
        self._lanes: list[Lane] = []
        self._closed = False

    def seat(self, who: Who, on_progress: Progress | None = None) -> Speaker:
        """Bring somebody in, one at a time: load the model where it is not here yet.

        What `on_progress` raises ends the loading. Raises FinetuiError where the model cannot be found or loaded, or
        the company was closed meanwhile.
        """
        if who.kind == ENDPOINT:
            from finetui.chat.endpoint import Endpoint

            return Endpoint(who)
        from finetui.chat.engine import resolve
        from finetui.chat.speakers import EngineLane, EngineSpeaker

        with self._seating:
            if on_progress is not None:
                on_progress({})
            served = resolve(who.reference, on_progress=on_progress)
            asks_base = who.kind in (BASE, MODEL) or served.adapter is None
            for lane in list(self._lanes):
                if isinstance(lane, EngineLane) and (variant := lane.admit(served, asks_base)):
                    return EngineSpeaker(who, lane, variant)
            return EngineSpeaker(who, self._load(served, on_progress), BASE if asks_base else TUNED)

    def dismiss(self, lane: Lane) -> None:
        """End what nobody answers through any more; takes as long as its end does."""
        with self._lock:
            self._lanes = [each for each in self._lanes if each is not lane]
        lane.close()

    def kill(self) -> None:
        """End everything at once, from any thread; nobody comes in afterwards."""
        with self._lock:
            self._closed = True
            for lane in self._lanes:
                lane.kill()

    def close(self) -> None:
        """End everything and wait for it."""
        self.kill()
        for lane in list(self._lanes):
            self.dismiss(lane)

    def _load(self, served: Served, on_progress: Progress | None) -> EngineLane:
        from finetui.chat.engine import ChatEngine
        from finetui.chat.speakers import EngineLane

        lane = EngineLane(ChatEngine(served, python=self._python, gpus=self._gpus, on_progress=on_progress))
        with self._lock:
            self._lanes.append(lane)
            if self._closed:
                lane.kill()
        try:
            with lane.busy:
                lane.engine.__enter__()
        except BaseException:
            with self._lock:
                self._lanes = [each for each in self._lanes if each is not lane]
            raise
        return lane
