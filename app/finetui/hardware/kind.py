"""The kind of hardware a run is on: what has to be equal for a replay to be exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finetui.hardware.kinds import gpu_kind
from finetui.hardware.probe import Machine


def torch_build(torch: Mapping[str, Any]) -> str:
    """Version and local tag in one, such as `2.13.0+cpu`, from the `torch` part of a lock or environment report."""
    return f"{torch['version']}+{torch['local']}" if torch.get("local") else str(torch["version"])


def hardware_kind(machine: Machine, threads: int, torch: str, gpus: Sequence[int] = ()) -> dict[str, Any]:
    """The hardware kind of a run with `threads` a process and this build of torch: on these GPUs, or on the CPU.

    Raises KeyError for a GPU that the machine does not have.
    """
    if not gpus:
        return {
            "device": "cpu",
            "vendor": machine.cpu_vendor,
            "instruction_set": machine.instruction_set,
            "threads": threads,
            "torch": torch,
        }
    by_index = {gpu.index: gpu.kind for gpu in machine.gpus}
    kinds = sorted({by_index[index] for index in gpus})
    return {"device": "cuda", "kind": "+".join(kinds), "count": len(gpus), "torch": torch}


def kind_used(record: Mapping[str, Any], machine: Machine) -> dict[str, Any]:
    """The hardware kind that a trainer used on this machine, from the `hardware` of its record.

    Raises KeyError where the record lacks something.
    """
    if record["device"] == "cpu":
        return hardware_kind(machine, record["threads"], record["torch"])
    kind = gpu_kind(record["name"], record["total_bytes"])
    return {"device": "cuda", "kind": kind, "count": record["count"], "torch": record["torch"]}
