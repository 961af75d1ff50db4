"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from finetui.core.messages import set_language
from tests.tiny import make_tiny_model

# Two threads on two busy cores collapse; one thread is quick enough for tiny models, and always the same.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty FINETUI_HOME, English, no site settings."""
    set_language(None)
    path = tmp_path / "home"
    monkeypatch.setenv("FINETUI_HOME", str(path))
    monkeypatch.setenv("LANG", "C.UTF-8")
    for variable in ("LC_ALL", "LC_MESSAGES", "FINETUI_PYTHON", "FINETUI_MODELS"):
        monkeypatch.delenv(variable, raising=False)
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random two-layer Llama; never write into it."""
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
