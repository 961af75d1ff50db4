"""The machine as `--json` gives it: no name of host or user, no token."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from finetui.core.text import one_line
from finetui.doctor.interpreter import Interpreter
from finetui.doctor.situation import Situation
from finetui.hardware.disk import Disk
from finetui.hardware.gpu import Gpu


def machine_facts(situation: Situation) -> dict[str, Any]:
    """Everything that was found, by part."""
    machine, host, logins = situation.machine, situation.host, situation.logins
    return {
        "cpu": {
            "vendor": machine.cpu_vendor,
            "model": one_line(machine.cpu_model),
            "instruction_set": machine.instruction_set,
            "cores": machine.cores,
            "physical_cores": machine.physical_cores,
            "limit": host.core_limit,
        },
        "memory": {
            "total_bytes": machine.ram_bytes,
            "free_bytes": host.ram_free_bytes,
            "swap_bytes": host.swap_bytes,
            "shm_bytes": host.shm_bytes,
            "limit_bytes": host.ram_limit_bytes,
        },
        "gpus": [_gpu(gpu) for gpu in machine.gpus],
        "driver": machine.gpus[0].driver if machine.gpus else None,
        "cuda": ".".join(map(str, machine.cuda)) if machine.cuda else None,
        "disks": {variable: _disk(disk) for variable, disk in situation.disks.items()},
        "larger_disks": {variable: _disk(disk) for variable, disk in situation.larger.items()},
        "open_files": host.open_files,
        "container": host.is_container,
        "wsl": host.is_wsl,
        "python": _python(situation.interpreter) if situation.interpreter else None,
        "logins": {
            "hub": logins.hub is not None and logins.hub.token is not None,
            "modelscope": logins.modelscope is not None and logins.modelscope.token is not None,
            "wandb": logins.wandb and not logins.wandb_malformed,
        },
        "hub": logins.hub.endpoint if logins.hub else None,
    }


def _gpu(gpu: Gpu) -> dict[str, Any]:
    capability = ".".join(map(str, gpu.compute_capability)) if gpu.compute_capability > (0, 0) else None
    return {**asdict(gpu), "compute_capability": capability, "holders": [asdict(holder) for holder in gpu.holders]}


def _disk(disk: Disk) -> dict[str, Any]:
    return {**asdict(disk), "path": one_line(disk.path, 4096), "mount": one_line(disk.mount, 4096)}


def _python(there: Interpreter) -> dict[str, Any]:
    torch = there.stage("torch")
    return {
        "path": one_line(there.path, 4096),
        "version": there.stage("python").get("version"),
        "packages": {name: found["version"] for name, found in there.stage("packages").items()},
        "cuda": torch.get("cuda"),
        "sees_gpus": torch.get("works"),
    }
