"""A hand-made bundle for the trainer's tests: lock.json, parquet and a copy of the trainer, and a way to run it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import finetui
from tests.workers import probe
from tests.workers.nursery import Nursery, nursery

TRAINER = Path(finetui.__file__).parent / "workers" / "train"
ALONE = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
"""What torchrun tells a lone process."""
LORA: dict[str, Any] = {
    "r": 4,
    "lora_alpha": 8.0,
    "lora_dropout": 0.0,
    "target_modules": "all-linear",
    "use_dora": False,
    "use_rslora": False,
    "load_in_4bit": False,
    "load_in_8bit": False,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_quant_storage": "uint8",
}
FULL: dict[str, Any] = {"master_weights": True}
KNOBS: dict[str, Any] = {
    "packing": False,
    "attn_implementation": "sdpa",
    "load_best_model_at_end": False,
    "learning_rate": 1e-2,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "num_train_epochs": 2,
    "max_steps": -1,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "per_device_eval_batch_size": 2,
    "max_length": 64,
    "overlong": "drop",
    "seed": 7,
    "optim": "adamw_torch",
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-8,
    "dtype": "float32",
    "gradient_checkpointing": False,
    "save_steps": 0,
    "save_total_limit": 2,
    "eval_steps": 0,
    "nproc_per_node": 1,
    "omp_num_threads": 1,
}
"""Settings of a run of six steps over `make_rows(20)`: twice two steps of eight rows and one of four."""

Row = tuple[list[int], list[int]]


def make_rows(count: int, seed: int = 0) -> list[Row]:
    """Rows of 8 to 40 tokens of which the second half is trained."""
    dice = random.Random(seed)
    rows = []
    for _ in range(count):
        ids = [dice.randrange(256) for _ in range(dice.randrange(8, 40))]
        rows.append((ids, [-100] * (len(ids) // 2) + ids[len(ids) // 2 :]))
    return rows


def content_digest(rows: list[Row]) -> str:
    """The digest of the lock: each row's record, ids and labels, each after its size in bytes (8, little-endian)."""
    digest = hashlib.sha256()
    for number, (ids, labels) in enumerate(rows):
        numbers = [b"".join(value.to_bytes(4, "little", signed=True) for value in part) for part in (ids, labels)]
        for block in (json.dumps({"row": number}).encode(), *numbers):
            digest.update(len(block).to_bytes(8, "little") + block)
    return digest.hexdigest()


def write_rows(path: Path, rows: list[Row]) -> dict[str, Any]:
    """Write a parquet file; gives what the lock says of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = pa.list_(pa.int32())
    columns = {
        "record": pa.array([json.dumps({"row": number}) for number in range(len(rows))]),
        "input_ids": pa.array([ids for ids, _ in rows], numbers),
        "labels": pa.array([labels for _, labels in rows], numbers),
    }
    pq.write_table(pa.table(columns), path, compression="zstd")
    return {"rows": len(rows), "digest": content_digest(rows), "file": f"data/{path.name}"}


@dataclass
class Trainee:
    """A bundle folder and the model it is trained on."""

    folder: Path
    model: Path
    lock: dict[str, Any] = field(default_factory=dict)

    def write_lock(self, **changes: Any) -> None:
        """Replace parts of the lock."""
        self.lock.update(changes)
        (self.folder / "lock.json").write_text(json.dumps(self.lock))

    def set(self, **values: Any) -> None:
        """Change settings, and what follows from them."""
        training = self.lock["training"] | {name: {"value": value, "reason": ""} for name, value in values.items()}
        value = {name: knob["value"] for name, knob in training.items()}
        world = value["nproc_per_node"]
        room = value["per_device_train_batch_size"] * value["gradient_accumulation_steps"] * world
        rows_per_step = values.get("rows_per_step", room)
        training["rows_per_step"] = {"value": rows_per_step, "reason": ""}
        training["parallelism"] = {"value": values.get("parallelism", "ddp" if world > 1 else "single"), "reason": ""}
        epochs = -(-self.lock["data"]["train"]["rows"] // rows_per_step) * value["num_train_epochs"]
        steps = value["max_steps"] if value["max_steps"] > 0 else epochs
        self.write_lock(training=training, rows_per_step=rows_per_step, world_size=world, steps=steps)
        script = (TRAINER / "launch.sh").read_text()
        filled = script.replace("NAME=unlocked", "NAME=tiny").replace("NPROC=1", f"NPROC={world}")
        (self.folder / "launch.sh").write_text(filled)

    def launch(self, out: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run launch.sh to its end, in an environment that has no finetui to import."""
        return subprocess.run(
            ["bash", str(self.folder / "launch.sh")],
            env=self.environment(out, **environment),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def train(self, out: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the trainer without torchrun: quicker, for what does not depend on the launch.

        As many processes as the lock says; gives how the first one ended.
        """
        return self.train_in(nursery(), out, **environment)

    def watch(self, out: Path) -> dict[str, Any]:
        """Train to the end, and give what the probe has seen."""
        done = self.train_in(nursery(), out, watched=True)
        assert done.returncode == 0, done.stderr
        seen: dict[str, Any] = json.loads((out / probe.FILE).read_text())
        return seen

    def train_in(
        self, place: Nursery, out: Path, *, watched: bool = False, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """The same in a process other than that of all tests, or with the probe."""
        count = self.lock["world_size"]
        alone = ALONE | {"WORLD_SIZE": str(count), "MASTER_PORT": str(free_port()) if count > 1 else "0"}
        ranks = [alone | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
        return place.run(self.folder, [self.environment(out, **{**rank, **environment}) for rank in ranks], watched)[0]

    def environment(self, out: Path, **changes: str) -> dict[str, str]:
        """What launch.sh is started with."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
        fixed = {"MODEL": str(self.model), "OUT": str(out), "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
        return kept | fixed | changes


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def make_trainee(
    folder: Path, model: Path, rows: list[Row], evaluation: list[Row] | None = None, *, method: str = "lora"
) -> Trainee:
    """Write a bundle of these rows with the settings of KNOBS, as far as the method has them."""
    shutil.copytree(TRAINER, folder / "train", ignore=shutil.ignore_patterns("launch.sh", "__pycache__"))
    weights = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in model.glob("*.safetensors")}
    trainee = Trainee(folder, model)
    trainee.lock = {
        "version": 0,
        "revision": 0,
        "name": "tiny",
        "stage": "sft",
        "method": method,
        "model": {
            "name": "tiny-llama",
            "architecture": "LlamaForCausalLM",
            "vocab_size": 512,
            "files": weights,
        },
        "data": {
            "train": write_rows(folder / "data" / "train.parquet", rows),
            "eval": write_rows(folder / "data" / "eval.parquet", evaluation) if evaluation else None,
        },
        "training": {},
        "environment": {"OMP_NUM_THREADS": "1"},
    }
    trainee.set(**(LORA if method == "lora" else FULL), **KNOBS)
    return trainee


def read_events(out: Path) -> list[dict[str, Any]]:
    """All events of a run."""
    return [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]


def losses(out: Path) -> list[float]:
    """The loss of every step."""
    return [event["loss"] for event in read_events(out) if event["event"] == "step"]
