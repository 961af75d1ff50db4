"""A GPU of this machine, and what is read of all of them at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Holder:
    """A process that holds memory of a GPU."""

    pid: int
    """Its number, in this process's namespace where the driver knows it."""
    name: str
    """Its program; empty where this process may not see it."""
    bytes: int | None
    """The memory that it holds; None where the driver does not say, as under WSL."""


@dataclass(frozen=True)
class Gpu:
    """One GPU, or the slice of one that a process is given under MIG."""

    index: int
    """Its number, as `--gpus` and CUDA_VISIBLE_DEVICES count under PCI order; for a slice that of its card."""
    kind: str
    """Its kind, such as `rtx3090`; for a name that the table lacks, the name in lower case with dashes."""
    name: str
    """Its name as the driver gives it."""
    total_bytes: int
    """Its memory; 0 where the driver does not say."""
    driver: str
    """The driver's version; empty for a GPU that is only planned with."""
    free_bytes: int = 0
    """What of its memory nobody holds now; 0 where the driver does not say."""
    compute_capability: tuple[int, int] = (0, 0)
    """Major and minor number; (0, 0) where the driver does not say."""
    bf16: bool = False
    """Whether bfloat16 is native."""
    nvlink: bool = False
    """Whether a link to another GPU is up."""
    holders: tuple[Holder, ...] = ()
    """The processes that hold its memory, as far as they can be seen from here."""
    uuid: str = ""
    """Its own name, such as `GPU-…` or `MIG-…`, which CUDA_VISIBLE_DEVICES takes too."""
    is_slice: bool = False
    """Whether it is a slice under MIG."""


@dataclass(frozen=True)
class GpuNote:
    """Why a GPU is not among those that can be used, less is known of it, or it is not well."""

    code: str
    """`no-library no-driver mismatch no-permission broken lost slices empty-slices hidden order`, of its health
    `hot braked memory-errors rows-pending`."""
    detail: str = ""
    """What the driver or the environment says."""


@dataclass(frozen=True)
class GpuReading:
    """What the driver says of all GPUs."""

    gpus: tuple[Gpu, ...] = ()
    """Those that this process may use, in PCI order."""
    cuda: tuple[int, int] | None = None
    """The highest CUDA version that the driver supports, or None where there is no driver."""
    notes: tuple[GpuNote, ...] = ()
    """What keeps GPUs out of `gpus`, and what ails those in it."""
