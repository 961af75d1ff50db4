"""The GPUs as NVIDIA's management library tells them. Whatever it refuses is a note, never an exception."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from finetui.core.text import one_line
from finetui.hardware.gpu import Gpu, GpuNote, GpuReading, Holder
from finetui.hardware.health import ailments
from finetui.hardware.kinds import gpu_kind, gpu_kinds

Cards = list[list[Gpu]]
"""By card, in PCI order: the card itself, or its slices where MIG is on."""

_BF16_SINCE = (8, 0)
_REFUSALS = {
    "NVMLError_LibraryNotFound": "no-library",
    "NVMLError_DriverNotLoaded": "no-driver",
    "NVMLError_LibRmVersionMismatch": "mismatch",
    "NVMLError_NoPermission": "no-permission",
}


def load_nvml() -> Any:
    """The library's module, or None where the package is not installed."""
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return None


def read_gpus(nvml: Any, environment: Mapping[str, str] = os.environ) -> GpuReading:
    """All that the driver says through `nvml` (the module `pynvml`, or one like it), as `environment` lets it be used.

    Without a library, a driver or a GPU the reading is empty, and its notes say why.
    """
    if nvml is None:
        return GpuReading(notes=(GpuNote("no-library"),))
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return GpuReading(notes=(_refusal(error),))
    try:
        return _read(nvml, environment)
    except nvml.NVMLError as error:
        return GpuReading(notes=(_refusal(error),))
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _refusal(error: Exception) -> GpuNote:
    """A driver that is absent, or does not answer as it should."""
    return GpuNote(_REFUSALS.get(type(error).__name__, "broken"), one_line(str(error)))


def _read(nvml: Any, environment: Mapping[str, str]) -> GpuReading:
    driver = str(_ask(nvml, "", nvml.nvmlSystemGetDriverVersion))
    version = _ask(nvml, 0, nvml.nvmlSystemGetCudaDriverVersion_v2)
    cards: Cards = []
    notes: list[GpuNote] = []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            cards.append(_card(nvml, index, driver))
        except nvml.NVMLError as error:
            notes.append(GpuNote("lost", f"{index}: {one_line(str(error))}"))
            continue
        if not cards[-1]:
            notes.append(GpuNote("empty-slices", str(index)))
        notes += ailments(nvml, nvml.nvmlDeviceGetHandleByIndex(index), index)
    gpus, hidden = usable(cards, environment)
    cuda = (version // 1000, version % 1000 // 10) if version else None
    return GpuReading(gpus, cuda, (*notes, *hidden))


def usable(cards: Cards, environment: Mapping[str, str]) -> tuple[tuple[Gpu, ...], list[GpuNote]]:
    """Those of the cards that CUDA gives a process under this environment, and notes on the others.

    By CUDA's rules: CUDA_VISIBLE_DEVICES counts up to its first wrong entry, and one named twice leaves none; a process
    that sees a slice has that one alone.
    """
    devices = environment.get("CUDA_VISIBLE_DEVICES")
    everything = [gpu for card in cards for gpu in card]
    seen = everything if devices is None else _named(cards, devices)
    notes = []
    if len(seen) < len(everything) and devices is not None:
        notes.append(GpuNote("hidden", one_line(devices)))
    slices = [gpu for gpu in seen if gpu.is_slice]
    if slices and len(seen) > 1:
        notes.append(GpuNote("slices", slices[0].name))
    mixed = len({gpu.kind for gpu in everything}) > 1
    if mixed and devices and environment.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID" and "GPU-" not in devices:
        notes.append(GpuNote("order", one_line(devices)))
    return tuple(slices[:1] or seen), notes


def _named(cards: Cards, devices: str) -> list[Gpu]:
    chosen: list[Gpu] = []
    for word in (part.strip() for part in devices.split(",")):
        if word.isdecimal() and len(word) < 10:
            found = [gpu for card in cards for gpu in card if gpu.index == int(word)][:1]
        else:  # the beginning of a UUID will do
            found = [gpu for card in cards for gpu in card if len(word) > len("GPU-") and gpu.uuid.startswith(word)][:1]
        if not found:
            break
        if found[0] in chosen:
            return []
        chosen += found
    return sorted(chosen, key=lambda gpu: gpu.index)


def _card(nvml: Any, index: int, driver: str) -> list[Gpu]:
    """One card, or its slices where MIG is on.

    Raises the library's error where the card does not say so much as its name.
    """
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    mode, _ = _ask(nvml, (0, 0), nvml.nvmlDeviceGetMigMode, handle)
    if mode != nvml.NVML_DEVICE_MIG_ENABLE:
        return [_gpu(nvml, handle, index, driver)]
    slices = []
    for number in range(_ask(nvml, 0, nvml.nvmlDeviceGetMaxMigDeviceCount, handle)):
        with contextlib.suppress(nvml.NVMLError):  # not every number has a slice
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
            slices.append(_gpu(nvml, part, index, driver, card=handle))
    return slices


def _gpu(nvml: Any, handle: Any, index: int, driver: str, card: Any = None) -> Gpu:
    """The card, or its slice where `card` is given: the slice itself does not tell what it can compute."""
    capability = _capability(nvml, handle if card is None else card)
    name = one_line(str(nvml.nvmlDeviceGetName(handle)))
    memory = _ask(nvml, None, nvml.nvmlDeviceGetMemoryInfo, handle)
    total, free = (int(memory.total), int(memory.free)) if memory else (0, 0)
    kind = gpu_kind(name, total)
    if capability == (0, 0) and kind in gpu_kinds():
        capability = gpu_kinds()[kind].compute_capability
    return Gpu(
        index=index,
        kind=kind,
        name=name,
        total_bytes=total,
        driver=one_line(driver),
        free_bytes=free,
        compute_capability=capability,
        bf16=capability >= _BF16_SINCE,
        nvlink=_linked(nvml, handle),
        holders=tuple(_holders(nvml, handle)),
        uuid=one_line(str(_ask(nvml, "", nvml.nvmlDeviceGetUUID, handle))),
        is_slice=card is not None,
    )


def _capability(nvml: Any, handle: Any) -> tuple[int, int]:
    major, minor = _ask(nvml, (0, 0), nvml.nvmlDeviceGetCudaComputeCapability, handle)
    return int(major), int(minor)


def _linked(nvml: Any, handle: Any) -> bool:
    """Whether any link is up; cards without links refuse to speak of the first."""
    for link in range(nvml.NVML_NVLINK_MAX_LINKS):
        state = _ask(nvml, None, nvml.nvmlDeviceGetNvLinkState, handle, link)
        if state is None or state == nvml.NVML_FEATURE_ENABLED:
            return state is not None
    return False


def _holders(nvml: Any, handle: Any) -> Iterable[Holder]:
    """The processes on a GPU, the largest first; a desktop's are there too."""
    found: dict[int, int | None] = {}
    for ask in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
        for process in _ask(nvml, (), ask, handle):
            found[process.pid] = process.usedGpuMemory
    for pid, held in sorted(found.items(), key=lambda one: (-(one[1] or 0), one[0])):
        yield Holder(pid, _program(pid), held)


def _program(pid: int) -> str:
    import psutil

    try:
        return one_line(psutil.Process(pid).name())
    except psutil.Error:
        return ""


def _ask(nvml: Any, otherwise: Any, call: Callable[..., Any], *arguments: Any) -> Any:
    """What one call answers, or `otherwise` where the card or the driver does not support it."""
    try:
        return call(*arguments)
    except nvml.NVMLError:
        return otherwise
