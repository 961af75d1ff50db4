"""Machines as data: a good one of each kind, to be spoilt in one point by each test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

from finetui.core.messages import language
from finetui.doctor.examine import examine
from finetui.doctor.finding import Finding
from finetui.doctor.interpreter import Interpreter
from finetui.doctor.logins import Logins
from finetui.doctor.purpose import purpose_of
from finetui.doctor.situation import Situation
from finetui.hardware.disk import Disk
from finetui.hardware.host import Host
from finetui.hardware.probe import probe
from finetui.models.fetch.sites import HUB, HUB_ENDPOINT, MODELSCOPE, MODELSCOPE_ENDPOINT, Site
from tests.unit.hardware.nvml import GIB, Card, FakeNvml

T4 = Card("Tesla T4", 15 * GIB, (7, 5), "GPU-t4", 15 * GIB)
V100 = Card("Tesla V100-SXM2-32GB", 32 * GIB, (7, 0), "GPU-v100", 32 * GIB)
PYTHON = "/opt/train/bin/python"
VERSIONS = {
    "torch": "2.13.0+cu126", "transformers": "5.17.0", "peft": "0.21.2", "accelerate": "1.15.0", "safetensors": "0.8.0",
    "tokenizers": "0.23.1", "pyarrow": "24.0.0", "numpy": "2.4.0", "trl": "1.16.0", "bitsandbytes": "0.50.2",
    "huggingface-hub": "1.33.0",
}  # fmt: skip
BOUNDS = {
    name: SpecifierSet(bound)
    for name, bound in {
        "torch": ">=2.11", "transformers": ">=5.10", "peft": ">=0.19", "accelerate": ">=1.10", "numpy": ">=2",
        "bitsandbytes": ">=0.48", "flash-attn": ">=2.7",
    }.items()
}  # fmt: skip
DISK = Disk("/home/me/.finetui", "/", "ext4", 2000 * GIB, 900 * GIB, 1_000_000, 1)
HOST = Host(
    ram_free_bytes=60 * GIB,
    swap_bytes=0,
    shm_bytes=32 * GIB,
    open_files=65536,
    most_open_files=1 << 20,
    ram_limit_bytes=None,
    core_limit=None,
    is_container=False,
    is_wsl=False,
    nvidia_cards=0,
)


def interpreter(
    cuda: str | None = "12.6",
    *,
    versions: Mapping[str, str | None] | None = None,
    requires: Mapping[str, list[str]] | None = None,
    torch: Mapping[str, Any] | None = None,
    python: Mapping[str, Any] | None = None,
    **stages: Mapping[str, Any],
) -> Interpreter:
    """A training interpreter where everything works, but for what is given."""
    there = {name: version for name, version in {**VERSIONS, **(versions or {})}.items() if version is not None}
    found = {
        "python": {"version": "3.12.4", "has_pip": True, **(python or {})},
        "packages": {
            name: {"version": version, "requires": (requires or {}).get(name, [])} for name, version in there.items()
        },
        "torch": {
            "error": None, "version": there.get("torch"), "cuda": cuda, "rocm": None, "works": cuda is not None,
            "words": "", "capabilities": ["50", "70", "75", "80", "86", "90"] if cuda else [], "devices": 1,
            **(torch or {}),
        },
        "imports": {"transformers": None, "accelerate": None, "peft": None, "trl": None},
        "bitsandbytes": {"device": "cuda" if cuda else "cpu", "error": None} if "bitsandbytes" in there else {},
        "flash_attention": {},
        **stages,
    }  # fmt: skip
    return Interpreter(PYTHON, (3, 12), found, has_uv=False)


def situation(
    *names: str,
    cards: list[Card] | None = None,
    nvml: FakeNvml | None = None,
    cuda: int = 12040,
    host: Mapping[str, Any] | None = None,
    disks: Mapping[str, Disk] | None = None,
    logins: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    programs: tuple[str, ...] = ("tmux", "apt-get", "nvcc", "hf"),
    **parts: Any,
) -> Situation:
    """A machine that lacks nothing for these purposes, but for what is given; without a GPU where none is."""
    library = nvml or FakeNvml(cards or [], cuda=cuda)
    own = {"hub": Site(HUB, HUB_ENDPOINT, "hf_x"), "modelscope": Site(MODELSCOPE, MODELSCOPE_ENDPOINT, "ms_x")}
    said = {"problems": (), "wandb": True, "wandb_malformed": False, "is_offline": False, **own, **(logins or {})}
    everything: dict[str, Any] = {
        "purpose": purpose_of(names),
        "machine": probe(Path("/nowhere"), lambda: library, {}),
        "host": replace(HOST, **(host or {})),
        "disks": dict.fromkeys(("FINETUI_HOME", "HF_HOME", "TMPDIR"), DISK) if disks is None else disks,
        "larger": {},
        "is_writable": True,
        "environment": {"LANG": "C.UTF-8", **(environment or {})},
        "encoding": "utf-8",
        "interpreter": interpreter(cuda="12.6" if cards or nvml else None),
        "bounds": BOUNDS,
        "programs": frozenset(programs),
        "distribution": "ubuntu",
        "is_root": False,
        "clock_behind_s": 0.0,
        "resolves": True,
        "runs": (),
        "logins": Logins(**said),
        "network": None,
        "model": None,
    }
    return Situation(**{**everything, **parts})


def findings(where: Situation) -> dict[str, Finding]:
    """What the doctor says, by the code's own part; every one of them can be said in both languages."""
    report = examine(where)
    for finding in report.findings:
        for lang in ("en", "zh"):
            assert finding.problem.message(lang)
            finding.problem.next(lang)
    assert language() == "en"
    return {finding.problem.code.partition(".")[2]: finding for finding in report.findings}


def only(where: Situation, code: str) -> Finding:
    """The one finding of a code."""
    return findings(where)[code]


def troubles(where: Situation) -> dict[str, str]:
    """The level of everything that is neither well nor a mere note."""
    return {code: finding.level for code, finding in findings(where).items() if finding.level in ("missing", "warning")}
