"""The whole way as a user walks it: commands in a shell, a real model, real training, a real merge, a real chat."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.shell import Shell, interpreter_without

pytestmark = pytest.mark.e2e

STEPS = 3


@pytest.fixture(scope="module")
def bundle(shell: Shell) -> Path:
    """A bundle of three steps on the real model, locked from converted data."""
    inspection = shell("inspect", "raw.json")
    assert (inspection["format"], inspection["stage"]) == ("sharegpt", "sft")
    assert inspection["rows"] == {"total": 6, "usable": 6, "rejected": 0, "repaired": 0}
    conversion = shell("convert", "raw.json", "--out", "data")
    assert conversion["rows"]["usable"] == 6
    settings = (
        f"max_steps={STEPS}",
        "gradient_accumulation_steps=1",
        "per_device_train_batch_size=2",
        "lora_dropout=0.1",
    )
    sets = [word for setting in settings for word in ("--set", setting)]
    arguments = ["--model", "demo", "--data", "data/data.jsonl", "--recipe", "cpu-demo", *sets]
    locked = shell("lock", *arguments, "--out", "kites.bundle")
    again = shell("lock", *arguments, "--out", "elsewhere/kites.bundle")
    assert locked["id"] == again["id"]
    assert shell("verify", "kites.bundle") == {"ok": True, "id": locked["id"], "absent": [], "mismatches": []}
    return shell.root / "kites.bundle"


@pytest.fixture(scope="module")
def finished(shell: Shell, bundle: Path) -> dict[str, Any]:
    """The result of its first run."""
    result = shell("run", str(bundle))
    assert result["status"] == "finished"
    assert result["steps"] == STEPS
    assert result["world_size"] == 1
    return result


def test_the_run_leaves_a_folder_that_tells_all(shell: Shell, finished: dict[str, Any]) -> None:
    folder = next((shell.root / "home" / "runs").glob("*-kites"))
    state = json.loads((folder / "state.json").read_text())
    done = json.loads((folder / "done.json").read_text())
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert state["status"] == "finished"
    assert done["outputs"]["adapter_model.safetensors"] == finished["adapter_sha256"]
    assert [event["step"] for event in events if event["event"] == "step"] == [1, 2, 3]
    assert {event["v"] for event in events} == {1}
    assert shell("watch", "last", "--plain")["status"] == "finished"


def test_a_replay_reproduces_the_run_bit_for_bit(shell: Shell, bundle: Path, finished: dict[str, Any]) -> None:
    replay = shell("replay", str(bundle))
    assert (replay["reproduced"], replay["kind"], replay["first_divergence"]) == (True, "exact", None)


def test_the_bundle_trains_the_same_without_finetui(
    shell: Shell, bundle: Path, finished: dict[str, Any], tmp_path: Path
) -> None:
    """`bash launch.sh` under an interpreter that sees the training libraries and no finetui."""
    python = interpreter_without(tmp_path / "plain", {"finetui"})
    assert (
        subprocess.run([python, "-c", "import finetui"], capture_output=True, cwd=tmp_path, check=False).returncode == 1
    )
    copy = shutil.copytree(bundle, tmp_path / "a copy.bundle")
    out = tmp_path / "out"
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHON": str(python),
        "MODEL": str(shell.root / "home" / "models" / "demo"),
        "OUT": str(out),
        "ATEN_CPU_CAPABILITY": "default",  # a user's setting must not change the bits
        "MKL_CBWR": "COMPATIBLE",
        "OMP_NUM_THREADS": "1",
    }
    subprocess.run(["bash", str(copy / "launch.sh")], env=environment, check=True, capture_output=True, cwd=tmp_path)
    done = json.loads((out / "done.json").read_text())
    assert done["outputs"]["adapter_model.safetensors"] == finished["adapter_sha256"]
    assert not list(copy.rglob("__pycache__"))


def test_merge_and_chat(shell: Shell, finished: dict[str, Any]) -> None:
    merged = shell("merge", "last", "--out", "merged")
    assert merged["loads_offline"] is True
    assert merged["kl"] < 0.1 * merged["adapter_kl"]
    assert merged["top1_agreement"] > 0.9
    carried = {path.name for path in (shell.root / "merged").iterdir()}
    assert {"tokenizer.json", "chat_template.jinja", "generation_config.json", "config.json"} <= carried
    compared = shell(
        "chat", "last", "--prompt", "What is the capital of France?", "--compare", "--max-new-tokens", "16"
    )
    assert [answer["model"] for answer in compared["answers"]] == ["base", "tuned"]
    assert "Paris" in compared["answers"][0]["text"]
    alone = shell("chat", "merged", "--prompt", "What is the capital of France?", "--max-new-tokens", "16")
    assert alone["answers"][0]["tokens"] > 0
    assert alone["answers"][0]["stop_reason"] in ("stop", "length")


def test_a_changed_byte_stops_verify_and_run(shell: Shell, bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "kites.bundle")
    path = copy / "data" / "train.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    shown = shell("verify", str(copy), code=4)
    assert [mismatch["path"] for mismatch in shown["mismatches"]] == ["data/train.parquet"]
    shell("run", str(copy), code=4)


def test_bad_input_is_answered_in_words(shell: Shell) -> None:
    (shell.root / "empty.json").write_bytes(b"")
    (shell.root / "noise.bin").write_bytes(bytes(range(256)) * 64)
    for name in ("empty.json", "noise.bin", "nowhere.json"):
        error = shell("inspect", name, code=3)["errors"][0]
        assert name in error["file"]
        assert error["expected"]
        assert error["next"]
    wrong = ("--model", "nowhere", "--data", "nowhere.json", "--recipe", "lora-3091", "--set", "r=0")
    errors = shell("lock", *wrong, "--out", "x.bundle", code=3)["errors"]
    assert len(errors) == 4
    shell("run", "nowhere.bundle", code=3)
    shell("chat", "nowhere", "--prompt", "x", code=3)


def test_the_shipped_bundle_starts_as_its_evidence_says(shell: Shell) -> None:
    shipped = Path(__file__).parents[2] / "bundles" / "demo.bundle"
    assert shell("verify", str(shipped))["ok"] is True
    replay = shell("replay", str(shipped), "--steps", "2")
    assert replay["reproduced"] is True
    assert replay["kind"] in ("exact", "equivalent")
