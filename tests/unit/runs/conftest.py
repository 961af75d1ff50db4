"""A bundle that is real to everything but its trainer, which is a small script that each test steers through files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from finetui.bundles import manifest, trust
from finetui.bundles.launch import variables
from finetui.core.files import sha256_file, write_json
from finetui.models.identify import identify
from finetui.runs import processes
from finetui.runs.folder import list_runs

LAUNCH = 'set -eu\ncd "$(dirname "$0")"\nexec "$PYTHON" train/main.py\n'

TRAINER = """
import hashlib, json, os, pathlib, signal, subprocess, sys, time

out = pathlib.Path(os.environ["OUT"])
steps = json.loads(pathlib.Path("lock.json").read_text())["steps"]
limit = int(os.environ.get("FINETUI_STOP_AFTER", steps))
hardware = {}
log = open(os.environ["FINETUI_EVENTS"], "a")

def event(name, step=None, **facts):
    log.write(json.dumps({"v": 1, "event": name, "time": time.time(), "step": step, **facts}) + "\\n")
    log.flush()

def started(world_size=1):
    event("started", world_size=world_size, python="3", packages={"torch": "0"}, device="test", steps=steps, rows=8)
    event("model_loaded", parameters=10, trainable_parameters=2, seconds=0.0)

def step(number, loss=None, digest=None, norm=1.0):
    loss = 2.0 / number if loss is None else loss
    event("step", number, loss=loss, learning_rate=1e-3, grad_norm=norm, trained_tokens=5, tokens=9,
          tokens_per_second=90.0, batch_digest=digest or f"{number:016x}", epoch=number / steps, memory_bytes=1)

def wait_for(path):
    while not pathlib.Path(path).exists():
        time.sleep(0.02)

def finish(content=b"weights", last=None, stopped_early=False):
    folder = out / "output"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(content)
    outputs = {"adapter_model.safetensors": hashlib.sha256(content).hexdigest()}
    figures = dict(steps=last or limit, final_loss=2.0 / (last or limit), seconds=1.0, tokens_per_second=90.0)
    record = dict(v=1, world_size=1, stopped_early=limit < steps or stopped_early, outputs=outputs, hardware=hardware)
    (out / "done.json").write_text(json.dumps({**record, **figures}))
    event("finished", last or limit, output_digests=outputs, **figures)

def stop_saves():
    def save(*_):
        (out / "saved").touch()
        sys.exit(143)
    signal.signal(signal.SIGTERM, save)
"""

WHOLE = "started()\nfor n in range(1, limit + 1): step(n)\nfinish()\n"
GATED = "stop_saves()\nstarted()\nstep(1)\nwait_for(out / 'go')\nfor n in range(2, limit + 1): step(n)\nfinish()\n"


@dataclass(frozen=True)
class Made:
    """A bundle made for a test."""

    path: Path
    id: str


@pytest.fixture
def make_bundle(home: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Made]:
    """`make_bundle(body)` writes a bundle whose trainer runs `body` after the helpers above."""
    monkeypatch.setenv("FINETUI_MODELS", str(tiny_model.parent))

    def make(body: str = WHOLE, *, steps: int = 3, world_size: int = 1, trusted: bool = True, **lock: Any) -> Made:
        path = tmp_path / "tiny.bundle"
        for folder in ("train", "data", "env"):
            (path / folder).mkdir(parents=True)
        write_json(path / "lock.json", {**_lock(tiny_model, steps, world_size), **lock})
        (path / "recipe.toml").write_text("[recipe]\nname = 'tiny'\n")
        (path / "launch.sh").write_text(LAUNCH)
        (path / "train/main.py").write_text(TRAINER + body)
        (path / "data/train.parquet").write_bytes(b"rows")
        digests = manifest.scan(path, frozenset()).digests
        (path / manifest.NAME).write_text(manifest.render(digests))
        identity = sha256_file(path / manifest.NAME)
        if trusted:
            trust.remember(identity)
        return Made(path, identity)

    return make


@pytest.fixture(autouse=True)
def _leave_nothing_running(home: Path) -> Any:
    yield
    for run in list_runs():
        processes.kill_run(run.path)


def _lock(model: Path, steps: int, world_size: int) -> dict[str, Any]:
    facts = identify(model)
    return {
        "version": 0,
        "revision": 0,
        "finetui": "0.1.0",
        "name": "tiny",
        "stage": "sft",
        "method": "lora",
        "model": {
            "name": facts.name,
            "source": None,
            "revision": None,
            "identity": facts.identity,
            "files": dict(facts.files),
            "architecture": facts.architecture,
            "vocab_size": facts.vocab_size,
        },
        "template": {},
        "data": {
            "sources": [],
            "train": {
                "file": "data/train.parquet",
                "rows": 8,
                "tokens": 72,
                "trained_tokens": 40,
                "digest": "0" * 64,
            },
            "eval": None,
            "order": {"rule": "shuffle-each-epoch", "seed": 42},
        },
        "training": {"omp_num_threads": {"value": 1, "reason": "test"}},
        "rows_per_step": 4,
        "world_size": world_size,
        "steps": steps,
        "environment": variables(1),
        "python": "3.11",
        "packages": {},
        "torch": {"version": "0", "local": None, "record_sha256": None},
        "hardware": {"device": "cpu"},
        "launch": {"nproc_per_node": world_size},
    }
