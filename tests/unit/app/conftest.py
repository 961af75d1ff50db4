"""The app in a home of its own, on a machine that is the same everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetui.app.home_facts import GpuRow, MachineFacts


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One GPU, 24 GiB, half of it free."""
    gib = 1 << 30
    gpu = GpuRow(0, "NVIDIA GeForce RTX 3090", 12 * gib, 24 * gib)
    facts = MachineFacts("AMD EPYC 7543", 16, 64 * gib, (gpu,), 100 * gib, Path("/home/me/.finetui"))
    monkeypatch.setattr("finetui.app.screens.home.machine_facts", lambda: facts)


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """256 colours."""
    monkeypatch.setenv("TERM", "xterm-256color")
    for variable in ("NO_COLOR", "COLORTERM", "SSH_TTY"):
        monkeypatch.delenv(variable, raising=False)
