"""What the machine does for a run, sampled by its supervisor: memory, disk, processors, GPUs."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from typing import Any

from finetui.core import jobs
from finetui.hardware.meters import GpuMeters
from finetui.hardware.nvml import load_nvml, read_gpus
from finetui.runs import processes
from finetui.runs.folder import RunFolder
from finetui.runs.state import RunState


class Sampler:
    """Takes the samples of one run."""

    def __init__(self, run: RunFolder, state: RunState) -> None:
        self._run = run
        nvml = load_nvml()
        visible = read_gpus(nvml, {**os.environ, **jobs.visible_gpus(state.gpus)}).gpus
        self._meters = GpuMeters(nvml, [gpu.index for gpu in visible[: state.world_size]])
        self._cpu_s = 0.0
        self._since = time.monotonic()

    def take(self, members: Sequence[int]) -> dict[str, Any]:
        """The facts of a `sample` event; `members` are the pids of the run's processes.

        `cpu_percent` is theirs since the last sample, of one core: two busy cores are 200.
        """
        now, used = time.monotonic(), processes.cpu_seconds(members)
        busy = max(0.0, used - self._cpu_s) / max(now - self._since, 1e-3)
        self._cpu_s, self._since = used, now
        return {
            "resident_bytes": processes.resident_bytes(members),
            "ram_free_bytes": _available_ram(),
            "cpu_percent": round(100 * busy),
            "disk_free_bytes": shutil.disk_usage(self._run.path).free,
            "gpus": self._meters.read(),
        }


def _available_ram() -> int:
    import psutil

    return int(psutil.virtual_memory().available)
