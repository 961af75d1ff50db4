"""A desk with a file of chats, a model at home, and a machine that is the same everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetui.app.home_facts import GpuRow, MachineFacts
from finetui.hardware.disk import Disk
from finetui.hardware.planned import planned_machine
from tests.tiny import make_tiny_model
from tests.unit.app.test_wizard import put_chats
from tests.unit.recipes.planning import GIB, HERE


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that is worked in; paths are short, the same everywhere."""
    folder = tmp_path / "desk"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FINETUI_HOME", "home")
    for variable in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "MODELSCOPE_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path / "no-cache"))
    make_tiny_model(Path("home/models/tiny"))
    put_chats("chats.jsonl", 40)
    card = planned_machine("rtx3090", 1, HERE)
    monkeypatch.setattr("finetui.wizard.probe", lambda: card)
    monkeypatch.setattr("finetui.hardware.probe.probe", lambda: card)
    disk = Disk("/", "/", "ext4", 200 * GIB, 100 * GIB, None, 1)
    monkeypatch.setattr("finetui.wizard.read_disk", lambda path, mounts: disk)
    gpu = GpuRow(0, "NVIDIA GeForce RTX 3090", 12 * GIB, 24 * GIB)
    facts = MachineFacts("AMD EPYC 7543", 16, 64 * GIB, (gpu,), 100 * GIB, Path("/home/me/.finetui"))
    monkeypatch.setattr("finetui.cli.plain.home.machine_facts", lambda: facts)
    return folder
