"""The meters of GPUs at work: use, memory, temperature, power, throttling. What a card does not tell is null."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from finetui.hardware.health import ailments

_METERS = ("use_percent", "memory_bytes", "total_bytes", "temperature_c", "power_w")


class GpuMeters:
    """Reads cards again and again, with the driver's library open between."""

    def __init__(self, nvml: Any, indices: Sequence[int]) -> None:
        """`nvml` is the module `pynvml` or one like it, or None; the cards are numbered in PCI order."""
        self._nvml: Any = nvml
        self._indices = tuple(indices) if nvml is not None else ()
        self._open = False

    def read(self) -> list[dict[str, Any]]:
        """For each card `index`, `use_percent`, `memory_bytes`, `total_bytes`, `temperature_c`, `power_w`, `throttled`.

        Of a card that has fallen off the bus all but the number is null. Empty without cards or a driver that answers;
        a driver that is reloaded meanwhile is found again.
        """
        if not self._indices:
            return []
        try:
            if not self._open:
                self._nvml.nvmlInit()
                self._open = True
        except self._nvml.NVMLError:
            return []
        cards = {index: self._ask(self._nvml.nvmlDeviceGetHandleByIndex, index) for index in self._indices}
        if not any(handle is not None for handle in cards.values()):
            self.close()
            return []
        return [self._card(index, handle) for index, handle in cards.items()]

    def close(self) -> None:
        """Let go of the driver."""
        if self._open:
            self._open = False
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()

    def _card(self, index: int, handle: Any) -> dict[str, Any]:
        nvml = self._nvml
        if handle is None:
            return {"index": index, **dict.fromkeys(_METERS), "throttled": False}
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle)
        use = self._ask(nvml.nvmlDeviceGetUtilizationRates, handle)
        power = self._ask(nvml.nvmlDeviceGetPowerUsage, handle)
        return {
            "index": index,
            "use_percent": None if use is None else int(use.gpu),
            "memory_bytes": None if memory is None else int(memory.total) - int(memory.free),
            "total_bytes": None if memory is None else int(memory.total),
            "temperature_c": self._ask(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
            "power_w": None if power is None else round(power / 1000),
            "throttled": any(note.code in ("hot", "braked") for note in ailments(nvml, handle, index)),
        }

    def _ask(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """What one call answers, or None where the card does not support it."""
        try:
            return call(*arguments)
        except self._nvml.NVMLError:
            return None
