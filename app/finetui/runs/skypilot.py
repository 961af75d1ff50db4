"""A bundle as a task of SkyPilot: machines with its GPUs, its packages installed, launch.sh on each."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from finetui.bundles.folder import Bundle
from finetui.core.errors import USAGE, FinetuiError, Problem

_SETUP = """\
python3 -m venv ~/finetui-venv
~/finetui-venv/bin/python -m pip install -q {torch}
~/finetui-venv/bin/python -m pip install -q --require-hashes --no-deps -r ~/finetui-bundle/env/requirements.txt
"""
_INDEX = "https://download.pytorch.org/whl"
_RUN = """\
# OUT is on the disk of machine 0; `rsync` it home, or let OUT be a mounted bucket, which a spot machine goes on from.
export NNODES=$SKYPILOT_NUM_NODES NODE_RANK=$SKYPILOT_NODE_RANK
export MASTER="$(echo "$SKYPILOT_NODE_IPS" | head -n 1):29511"
export MODEL=~/finetui-model PYTHON=~/finetui-venv/bin/python OUT="${OUT/#\\~/$HOME}"
if [ -s "$OUT/events.jsonl" ]; then export FINETUI_RESUME=newest; fi
bash ~/finetui-bundle/launch.sh
"""


def render(bundle: Bundle, model: str, *, nodes: int = 1) -> str:
    """The YAML of the task; `model` is the base model's folder here, which is sent along.

    Raises FinetuiError (exit 2) where the machines cannot share the processes evenly.
    """
    world = bundle.lock["world_size"]
    if world % nodes:
        raise FinetuiError(Problem("nodes.uneven", {"count": nodes, "world_size": world}), USAGE)
    task = {
        "name": _plain(bundle.name),
        "num_nodes": nodes,
        "resources": _resources(bundle.lock, world // nodes),
        "file_mounts": {"~/finetui-bundle": str(bundle.path), "~/finetui-model": model},
        "envs": {"OUT": "~/finetui-out"},
        "setup": _SETUP.format(torch=_torch(bundle.lock["torch"])),
        "run": _RUN,
    }
    words = f"# finetui {bundle.name}, bundle {bundle.id}: sky launch FILE\n"
    return words + str(yaml.dump(task, Dumper=_dumper(), sort_keys=False, allow_unicode=True, width=1000))


def _resources(lock: Mapping[str, Any], processes: int) -> dict[str, Any]:
    """What each machine has to have."""
    hardware = lock["hardware"]
    if hardware["device"] != "cuda":
        threads = int(lock["training"]["omp_num_threads"]["value"])
        return {"cpus": f"{processes * max(1, threads)}+"}
    kind = str(hardware["kind"])
    return {"accelerators": {_names().get(kind, kind): processes}}


def _torch(torch: Mapping[str, Any]) -> str:
    """The very build of torch, from the index of its kind."""
    version, local = torch["version"], torch.get("local")
    return f"torch=={version}" + (f" --index-url {_INDEX}/{local}" if local else "")


def _plain(name: str) -> str:
    """A name as SkyPilot takes it: letters, digits and hyphens, a letter first."""
    word = "".join(sign if sign.isascii() and sign.isalnum() else "-" for sign in name).strip("-").lower()
    return word if word[:1].isalpha() else f"run-{word}".strip("-")


def _names() -> dict[str, str]:
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def _text(dumper: Any, value: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


def _dumper() -> Any:
    """A dumper by which texts of several lines stand as they are."""
    made: Any = type("Blocks", (yaml.SafeDumper,), {})
    made.add_representer(str, _text)
    return made
