"""Evidence: exactly what the first whole run gave, once."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from finetui.bundles import evidence
from finetui.bundles.folder import Bundle
from finetui.bundles.verify import verify
from finetui.core.errors import FinetuiError
from finetui.hardware.probe import probe
from tests.unit.bundles.conftest import Lock, tell_run

pytestmark = pytest.mark.unit


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def code(bundle: Path, run_dir: Path) -> str:
    with pytest.raises(FinetuiError) as error:
        evidence.write(bundle, run_dir)
    return error.value.problems[0].code


def test_numbers_come_back_bit_for_bit(bundle: Path, run_dir: Path) -> None:
    evidence.write(bundle, run_dir, replace(probe(), cpu_vendor="Test", instruction_set="avx2"))
    found = evidence.read(bundle)
    assert found is not None
    assert [step.loss for step in found.steps] == [1 / 3, 1 / 4, 1 / 5]
    assert [step.grad_norm for step in found.steps] == [0.1, 0.2, 0.1 * 3]
    assert [step.batch_digest for step in found.steps] == [f"{n:016x}" for n in (1, 2, 3)]
    assert found.final_loss == 0.1 + 0.2
    assert found.bundle_id == Bundle.load(bundle).id
    assert found.outputs == {"adapter_model.safetensors": "a" * 64}
    hardware = {"device": "cpu", "vendor": "Test", "instruction_set": "avx2", "threads": 1, "torch": "2.13.0+cpu"}
    assert found.hardware == hardware == Bundle.load(bundle).lock["hardware"]


def test_a_bundle_without_evidence_has_none(bundle: Path) -> None:
    assert evidence.read(bundle) is None


def test_evidence_leaves_the_bundle_as_it_was(bundle: Path, run_dir: Path) -> None:
    before, identity = contents(bundle), Bundle.load(bundle).id
    evidence.write(bundle, run_dir)
    after = contents(bundle)
    assert {path: data for path, data in after.items() if not path.startswith("evidence/")} == before
    assert verify(bundle)["ok"]
    assert verify(bundle)["id"] == identity


def test_sha256sum_checks_the_evidence_and_through_it_the_bundle_id(bundle: Path, run_dir: Path) -> None:
    folder = evidence.write(bundle, run_dir)
    assert folder is not None
    check = ["sha256sum", "--strict", "--quiet", "-c", "manifest-sha256.txt"]
    assert subprocess.run(check, cwd=folder, capture_output=True).returncode == 0
    assert f"{Bundle.load(bundle).id}  ../manifest-sha256.txt\n" in (folder / "manifest-sha256.txt").read_text()


def test_evidence_is_never_written_over(bundle: Path, run_dir: Path, tmp_path: Path) -> None:
    evidence.write(bundle, run_dir)
    first = contents(bundle)
    second = tell_run(tmp_path / "second", Bundle.load(bundle), final_loss=9.0)
    assert evidence.write(bundle, second) is None
    assert contents(bundle) == first


def test_of_several_runs_that_end_together_one_is_the_evidence(bundle: Path, tmp_path: Path) -> None:
    loaded = Bundle.load(bundle)
    runs = [tell_run(tmp_path / str(n), loaded, final_loss=float(n)) for n in range(8)]
    with ThreadPoolExecutor(8) as threads:
        written = list(threads.map(lambda run: evidence.write(bundle, run), runs))
    [winner] = [n for n, path in enumerate(written) if path is not None]
    found = evidence.read(bundle)
    assert found is not None
    assert found.final_loss == float(winner)
    assert verify(bundle)["ok"]


def test_what_a_killed_writer_left_is_replaced(bundle: Path, run_dir: Path) -> None:
    (bundle / "evidence.part").mkdir()
    (bundle / "evidence.part/evidence.json").write_text("{")
    evidence.write(bundle, run_dir)
    assert verify(bundle)["ok"]


def test_a_changed_bundle_gets_no_evidence(bundle: Path, run_dir: Path) -> None:
    (bundle / "recipe.toml").write_text("changed")
    assert code(bundle, run_dir) == "bundles.changed"
    assert not list(bundle.glob("evidence*"))


def test_a_run_that_is_not_whole_or_of_another_bundle_is_no_evidence(
    bundle: Path, run_dir: Path, tmp_path: Path, lock: Lock
) -> None:
    stopped = tell_run(tmp_path / "stopped", Bundle.load(bundle), stopped_early=True)
    assert code(bundle, stopped) == "bundles.partial-run"
    other = tell_run(tmp_path / "other", Bundle.load(lock(tmp_path / "o", threads=2).path))
    assert code(bundle, other) == "bundles.partial-run"
    lines = (run_dir / "events.jsonl").read_text().splitlines(True)
    (run_dir / "events.jsonl").write_text("".join(lines[:-1]))
    assert code(bundle, run_dir) == "bundles.partial-run"
    (run_dir / "done.json").unlink()
    assert code(bundle, run_dir) == "bundles.partial-run"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("evidence.json", "[]"),
        ("evidence.json", "{"),
        ("evidence.json", '{"v": 2}'),
        ("evidence.json", "[" * 100_000),
        ("steps.jsonl", '{"step": 1}\n'),
        ("steps.jsonl", '{"step": "1", "loss": 1.0, "grad_norm": 1.0, "batch_digest": "x"}\n'),
        ("steps.jsonl", '{"step": 1, "loss": [], "grad_norm": 1.0, "batch_digest": "x"}\n'),
        ("steps.jsonl", "\x00\n"),
    ],
)
def test_broken_evidence_is_an_error_in_words(bundle: Path, run_dir: Path, file: str, text: str) -> None:
    evidence.write(bundle, run_dir)
    (bundle / "evidence" / file).write_text(text)
    with pytest.raises(FinetuiError) as error:
        evidence.read(bundle)
    assert error.value.problems[0].code == "bundles.bad-evidence"


def test_the_device_of_the_trainer_decides_the_hardware(bundle: Path, tmp_path: Path) -> None:
    used = {
        "device": "cuda",
        "name": "NVIDIA H200",
        "total_bytes": 150_754_820_096,
        "count": 2,
        "torch": "2.13.0+cu130",
    }
    evidence.write(bundle, tell_run(tmp_path / "gpu", Bundle.load(bundle), hardware=used))
    told = json.loads((bundle / "evidence/evidence.json").read_text())["hardware"]
    assert told == {"device": "cuda", "kind": "h200", "count": 2, "torch": "2.13.0+cu130"}
