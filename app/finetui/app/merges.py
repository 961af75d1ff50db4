"""Merges in the background: each goes on while one looks elsewhere, and ends with the app, nothing half-made left."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetui.core import jobs
from finetui.core.messages import t
from finetui.runs.folder import RunFolder
from finetui.runs.state import FINISHED

if TYPE_CHECKING:
    from finetui.models.merged import Merged

_PATIENCE_S, _POLL_S = 20.0, 0.05


class Merge:
    """One merge, as `finetui merge RUN` does it."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._facts: Mapping[str, Any] = {"stage": "prepare"}
        self._unwanted = False
        self._ended = threading.Event()

    def work(self) -> Merged:
        """Merge; what it raises is what the command would say."""
        from finetui.merging import merge_reference

        try:
            return merge_reference(str(self._run.path), on_progress=self._hear)
        finally:
            self._ended.set()

    def stage(self) -> str:
        """How far it is, in words."""
        facts = self._facts
        text, total = t(f"models.stage-{facts['stage']}"), facts.get("total")
        return t("models.stage-line", text=text, percent=int(100 * facts["done"] / total)) if total else text

    def end(self) -> None:
        """End it now, and wait until what it had made is removed."""
        self._unwanted = True
        deadline = time.monotonic() + _PATIENCE_S
        while not self._ended.wait(_POLL_S) and time.monotonic() < deadline:
            jobs.kill_all()

    def _hear(self, facts: Mapping[str, Any]) -> None:
        if self._unwanted:
            raise InterruptedError
        self._facts = facts


def merged_folder(run: RunFolder) -> Path:
    """Where a run's merged model is, or would go."""
    return run.path / "merged"


def is_merged(run: RunFolder) -> bool:
    """Whether there is a merged model in it."""
    return (merged_folder(run) / "config.json").is_file()


def can_merge(run: RunFolder, status: str) -> bool:
    """Whether it has finished with an adapter that has not been merged."""
    from finetui.models.weights import ADAPTER

    return status == FINISHED and (run.output / ADAPTER).is_file() and not is_merged(run)


def size_mb(run: RunFolder) -> int:
    """About the MB that the merged model will take: those of its base's weights; 0 where the base is elsewhere."""
    return round(sum(path.stat().st_size for path in Path(run.read().model).glob("*.safetensors")) / 1e6)
