"""Which build of torch fits a driver and its GPUs."""

from __future__ import annotations

import platform
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

Version = tuple[int, int]


@dataclass(frozen=True)
class TorchBuild:
    """One of the builds of torch that PyTorch publishes."""

    cuda: Version
    """The CUDA version that it is built with."""
    capabilities: frozenset[Version]
    """The compute capabilities that it has kernels for."""

    @property
    def index(self) -> str:
        """The package index that has it."""
        return f"https://download.pytorch.org/whl/cu{self.cuda[0]}{self.cuda[1]}"

    def covers(self, gpus: Iterable[Version]) -> bool:
        """Whether its kernels run on GPUs of these compute capabilities."""
        return all(runs_on(self.capabilities, gpu) for gpu in gpus)


CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def runs_on(kernels: Iterable[Version], gpu: Version) -> bool:
    """Whether one of the kernels runs on a GPU: those of its generation do, up to its own number."""
    return any(major == gpu[0] and minor <= gpu[1] for major, minor in kernels)


def driver_runs(cuda: Version, driver: Version) -> bool:
    """Whether a driver that supports up to `driver` runs what is built with `cuda`.

    From CUDA 11 on a driver runs every minor version of its own major one, and all older ones (NVIDIA, CUDA
    Compatibility: minor version compatibility).
    """
    return cuda[0] <= driver[0]


def best_build(driver: Version, gpus: Iterable[Version], machine: str | None = None) -> TorchBuild | None:
    """The newest build that the driver knows and that has kernels for all the GPUs, else the next one that it still
    runs; None where only a newer driver helps.

    `machine` is the processor's architecture, by default this one's.
    """
    wanted = tuple(gpus)
    fit = [build for build in builds(machine) if driver_runs(build.cuda, driver) and build.covers(wanted)]
    known = [build for build in fit if build.cuda <= driver]
    return known[-1] if known else next(iter(fit), None)


def builds(machine: str | None = None) -> tuple[TorchBuild, ...]:
    """All builds for an architecture, oldest CUDA first."""
    return _builds("aarch64" if (machine or platform.machine()).lower() in ("aarch64", "arm64") else "x86_64")


@cache
def _builds(machine: str) -> tuple[TorchBuild, ...]:
    table = tomllib.loads(Path(__file__).with_name("torch_builds.toml").read_text(encoding="utf-8"))
    made = (
        TorchBuild(parse_version(cuda), frozenset(map(parse_version, capabilities[machine])))
        for cuda, capabilities in table.items()
    )
    return tuple(sorted(made, key=lambda build: build.cuda))


def parse_version(text: str) -> Version:
    """`12.6` as a pair of numbers.

    Raises ValueError for anything else.
    """
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)
