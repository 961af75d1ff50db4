"""NVIDIA's management library, played: cards as data, and any call can be made to fail."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

GIB = 1 << 30


class Refused(Exception):
    """What the library raises."""


class NVMLError_DriverNotLoaded(Refused):
    """No driver."""


class NVMLError_LibraryNotFound(Refused):
    """No library."""


class NVMLError_LibRmVersionMismatch(Refused):
    """Library and kernel module of two versions."""


@dataclass(frozen=True)
class Card:
    """One card, or one slice of it."""

    name: str
    total: int
    capability: tuple[int, int]
    uuid: str
    free: int | None = None
    compute: tuple[tuple[int, int | None], ...] = ()
    graphics: tuple[tuple[int, int | None], ...] = ()
    links: tuple[int, ...] = ()
    slices: tuple[Card, ...] | None = None
    """None where MIG is off."""
    slowed: int = 0
    """Why its clocks are held down, as bits."""
    lost_bits: int | None = None
    """Memory errors beyond repair; None where it does not count them."""
    rows_pending: bool = False


RTX3090 = Card("NVIDIA GeForce RTX 3090", 24 * GIB, (8, 6), "GPU-3090a", 23 * GIB)
A100 = Card("NVIDIA A100-SXM4-80GB", 80 * GIB, (8, 0), "GPU-a100a", 79 * GIB, links=(0, 1, 1))


class FakeNvml:
    """The functions that finetui calls, over `cards`; those named in `refused` raise what is given for them."""

    NVMLError = Refused
    NVML_NVLINK_MAX_LINKS = 4
    NVML_FEATURE_ENABLED = 1
    NVML_DEVICE_MIG_ENABLE = 1
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1
    NVML_VOLATILE_ECC = 0
    NVML_TEMPERATURE_GPU = 0
    nvmlClocksThrottleReasonSwThermalSlowdown = 0x20
    nvmlClocksThrottleReasonHwThermalSlowdown = 0x40
    nvmlClocksThrottleReasonHwPowerBrakeSlowdown = 0x80

    def __init__(self, cards: list[Card], refused: dict[str, Exception] | None = None, cuda: int = 12040) -> None:
        self.cards = cards
        self.refused = refused or {}
        self.cuda = cuda
        self.open = 0

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in object.__getattribute__(self, "refused"):

            def refuse(*_: object) -> None:
                raise self.refused[name]

            return refuse
        return object.__getattribute__(self, name)

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return "550.54.15"

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return self.cuda

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:
        return self.cards[index]

    def nvmlDeviceGetName(self, card: Card) -> str:
        return card.name

    def nvmlDeviceGetUUID(self, card: Card) -> str:
        return card.uuid

    def nvmlDeviceGetMemoryInfo(self, card: Card) -> SimpleNamespace:
        return SimpleNamespace(total=card.total, free=card.total if card.free is None else card.free)

    def nvmlDeviceGetUtilizationRates(self, card: Card) -> SimpleNamespace:
        return SimpleNamespace(gpu=87, memory=40)

    def nvmlDeviceGetTemperature(self, card: Card, sensor: int) -> int:
        return 71

    def nvmlDeviceGetPowerUsage(self, card: Card) -> int:
        return 320_000

    def nvmlDeviceGetCudaComputeCapability(self, card: Card) -> list[int]:
        return list(card.capability)

    def nvmlDeviceGetNvLinkState(self, card: Card, link: int) -> int:
        if link >= len(card.links):
            raise Refused("Not Supported")
        return card.links[link]

    def nvmlDeviceGetComputeRunningProcesses(self, card: Card) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=held) for pid, held in card.compute]

    def nvmlDeviceGetGraphicsRunningProcesses(self, card: Card) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=held) for pid, held in card.graphics]

    def nvmlDeviceGetMigMode(self, card: Card) -> list[int]:
        if card.slices is None:
            raise Refused("Not Supported")
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, card: Card) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: Card, number: int) -> Card:
        if card.slices is None or number >= len(card.slices):
            raise Refused("Not Found")
        return card.slices[number]

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, card: Card) -> int:
        return card.slowed

    def nvmlDeviceGetTotalEccErrors(self, card: Card, kind: int, counter: int) -> int:
        if card.lost_bits is None:
            raise Refused("Not Supported")
        return card.lost_bits if (kind, counter) == (1, 0) else 0

    def nvmlDeviceGetRemappedRows(self, card: Card) -> tuple[int, int, int, int]:
        return (0, 0, int(card.rows_pending), 0)
