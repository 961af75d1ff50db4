"""What ails a GPU that still works: memory errors, heat, too little power."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from finetui.hardware.gpu import GpuNote


def ailments(nvml: Any, handle: Any, index: int) -> Iterator[GpuNote]:
    """What the driver says of a card's health, a note each, whose detail is the card's number."""
    try:
        slowed = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    except nvml.NVMLError:  # a slice, an old card, a driver that does not say: the same for the others
        slowed = 0
    if slowed & (nvml.nvmlClocksThrottleReasonHwThermalSlowdown | nvml.nvmlClocksThrottleReasonSwThermalSlowdown):
        yield GpuNote("hot", str(index))
    if slowed & nvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown:
        yield GpuNote("braked", str(index))
    if _has_memory_errors(nvml, handle):
        yield GpuNote("memory-errors", str(index))
    elif _needs_reset(nvml, handle):
        yield GpuNote("rows-pending", str(index))


def _has_memory_errors(nvml: Any, handle: Any) -> bool:
    """Whether bits were lost beyond repair since the driver was loaded."""
    try:
        lost = nvml.nvmlDeviceGetTotalEccErrors(handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC)
    except nvml.NVMLError:
        return False
    return int(lost) > 0


def _needs_reset(nvml: Any, handle: Any) -> bool:
    """Whether spare memory waits for a reset to take the place of what broke."""
    try:
        _, _, pending, _ = nvml.nvmlDeviceGetRemappedRows(handle)
    except nvml.NVMLError:
        return False
    return bool(pending)
