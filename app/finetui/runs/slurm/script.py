"""The script that sbatch takes: options, places, and the same way through as on any other machine."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetui.core.errors import USAGE, FinetuiError, Problem
from finetui.runs.slurm.site import Site

_BLOCK = "# >>> export\n"


@dataclass(frozen=True)
class Job:
    """A training as a job."""

    name: str
    """As squeue shows it."""
    lock: Mapping[str, Any]
    """The bundle's lock."""
    bundle: Path
    """The bundle's folder, as the nodes see it."""
    model: str
    """The base model's folder, as the nodes see it."""
    out: str
    """The folder for checkpoints and result, which all nodes share."""
    python: str
    """The interpreter of the nodes."""
    log: str
    """Where what is printed goes to."""
    nodes: int = 1
    """Machines that share the processes."""
    changes: str = ""
    """Settings of memory and speed for a training that goes on, as JSON."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """More variables of the training."""


def render(job: Job, site: Site) -> str:
    """The whole script.

    Raises FinetuiError (exit 2) where the nodes cannot share the processes evenly.
    """
    world = job.lock["world_size"]
    if world % job.nodes:
        raise FinetuiError(Problem("nodes.uneven", {"count": job.nodes, "world_size": world}), USAGE)
    options = {
        "job-name": job.name,
        "nodes": str(job.nodes),
        "ntasks-per-node": "1",
        **_devices(job, site, world // job.nodes),
        "output": job.log,
        "open-mode": "append",
        "requeue": "",
        "signal": f"USR1@{site.signal_seconds}",
        "account": site.account,
        "partition": site.partition,
        "qos": site.qos,
        "time": site.time,
    }
    lines = ["#!/usr/bin/env bash"]
    for name, value in options.items():
        if value or name == "requeue":
            lines.append(f"#SBATCH --{name}" + (f"={_word(value)}" if value else ""))
    lines.append(f"# finetui: trains {job.lock['name']} in {world} processes on {job.nodes} nodes.")
    places = {
        "BUNDLE": str(job.bundle),
        "MODEL": job.model,
        "OUT": job.out,
        "PYTHON": job.python,
    }
    inner = [f"{name}={shlex.quote(value)}" for name, value in places.items()]
    more = {**job.environment, **({"FINETUI_CHANGES": job.changes} if job.changes else {})}
    inner += [f"export {name}={shlex.quote(value)}" for name, value in more.items()]
    inner += site.preamble.strip().splitlines()
    body = Path(__file__).with_name("job.sh").read_text(encoding="utf-8")
    return "\n".join(lines) + "\n" + body.replace(_BLOCK, _BLOCK + "".join(f"{line}\n" for line in inner), 1)


def _devices(job: Job, site: Site, processes: int) -> dict[str, str]:
    """What a node has to have."""
    on_gpus = job.lock["hardware"]["device"] == "cuda"
    threads = int(job.lock["training"]["omp_num_threads"]["value"])
    wanted = {"cpus-per-task": str(processes * max(1, threads))}
    if site.gres:
        wanted["gres"] = site.gres
    elif on_gpus:
        wanted["gpus-per-node"] = str(processes)
    return wanted


def _word(value: str) -> str:
    """An option's value, quoted where sbatch would split it, or take its end for a remark."""
    return f'"{value}"' if any(sign in value for sign in " \t#'") else value
