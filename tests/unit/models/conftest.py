"""A hub on loopback, and an environment in which there is no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.models.loopback import Loopback, files_of, serving


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No caches, tokens, proxies or mirrors of the machine that the tests run on; the network is allowed."""
    for variable in (
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "HF_TOKEN_PATH",
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "MODELSCOPE_API_TOKEN",
        "MODELSCOPE_DOMAIN",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
    ):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope"))


@pytest.fixture
def hub(alone: None, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    """A hub, and a ModelScope, that have `owner/tiny-chat`, with what training does not need beside it."""
    files = files_of(tiny_model)
    beside = {
        ".gitattributes": b"*.bin filter=lfs",
        "README.md": b"# tiny",
        "pytorch_model.bin": b"\x80pickle" * 400,
        "model.fp16.safetensors": b"again" * 400,
        "onnx/model.onnx": b"onnx" * 400,
        "tiny.Q4.gguf": b"GGUF" * 400,
        "modeling_tiny.py": b"raise SystemExit('run')",
    }
    with serving(Loopback(models={"owner/tiny-chat": {**files, **beside}})) as state:
        monkeypatch.setenv("HF_ENDPOINT", state.address)
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", state.address)
        yield state
