"""What a trial found is kept for what it holds for, and trials that cannot be are refused with their reason."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finetui import trying, wizard
from finetui.cli.main import run
from finetui.draft import Draft
from finetui.hardware.memory.job import Job
from finetui.hardware.memory.traced import Trace, widened
from finetui.hardware.memory.tried import Key, Tried, keep, kept
from finetui.recipes.resolve import Plan

pytestmark = pytest.mark.unit

GIB = 1 << 30
TRIED = Tried(
    fits=True,
    peak_bytes=2 * GIB,
    predicted_bytes=3 * GIB,
    resident=True,
    seconds_per_step=1.25,
    rows=8,
    tokens=64,
    from_data=True,
    free_bytes=8 * GIB,
    device="a CPU",
    when=1.7e9,
)
LONG, SHORT = "why? " * 60, "why?"


def chats(folder: Path, questions: list[str]) -> Path:
    """A file of chats that ask these."""
    path = folder / "chats.jsonl"
    records = (
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": "Because."}]}
        for question in questions
    )
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return path


def plan(model: Path, *assignments: str, **choices: Any) -> Plan:
    return wizard.plan(Draft((), str(model), "cpu-demo", assignments=assignments, **choices))


def measure(found: Plan) -> None:
    """Keep a trial of this plan, as if it had been made."""
    keep(trying._key(found), TRIED)


def seen(found: Plan) -> bool:
    return trying.checked(found, Draft((), "m", "cpu-demo")).tried == TRIED


def test_what_was_measured_is_shown_by_the_next_plan_of_the_same(
    tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(plan(tiny_model))
    words = ["plan", "--model", str(tiny_model), "--recipe", "cpu-demo"]
    assert run([*words, "--json"]) == 0
    tried = json.loads(capsys.readouterr().out)["tried"]
    assert (tried["peak_bytes"], tried["error"], tried["measured_by"]) == (2 * GIB, 0.5, "resident memory")
    assert run(words) == 0
    shown = capsys.readouterr().out
    assert "peak 2.0 GiB" in shown
    assert "the formula says 3.0 GiB" in shown
    assert "2023-11-1" in shown


@pytest.mark.parametrize(
    "assignment", ["learning_rate=1e-5", "num_train_epochs=9", "seed=7", "warmup_steps=3", "save_total_limit=5"]
)
def test_settings_that_change_no_memory_find_it(tiny_model: Path, assignment: str) -> None:
    measure(plan(tiny_model))
    assert seen(plan(tiny_model, assignment))


@pytest.mark.parametrize(
    "assignment",
    [
        "r=32",
        "max_length=512",
        "per_device_train_batch_size=4",
        "gradient_checkpointing=true",
        "attn_implementation=eager",
        "optim=sgd",
        "dtype=bfloat16",
        "use_dora=true",
        "lora_dropout=0.1",
        "target_modules=q_proj",
        "rows_per_step=16",
    ],
)
def test_settings_that_change_memory_or_time_do_not_find_it(tiny_model: Path, assignment: str) -> None:
    measure(plan(tiny_model))
    assert not seen(plan(tiny_model, assignment))


def test_longer_rows_another_model_another_gpu_and_another_torch_do_not_find_it(
    tiny_model: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "wider")
    config = json.loads((model / "config.json").read_text())
    copied = plan(model)
    measure(copied)
    assert seen(plan(tiny_model))  # a copy elsewhere is the same model
    assert not seen(plan(tiny_model, gpu="rtx3090"))
    with_data = wizard.plan(Draft((str(chats(tmp_path, [SHORT, LONG])),), str(model), "cpu-demo"))
    assert not seen(with_data)
    request = replace(copied.settled.request, packages={"torch": "1.0"})
    assert not seen(replace(copied, settled=replace(copied.settled, request=request)))
    (model / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-6}))
    assert not seen(plan(model))


def test_a_record_that_is_broken_is_as_good_as_none(tiny_model: Path, home: Path) -> None:
    found = plan(tiny_model)
    measure(found)
    (record,) = (home / "cache" / "tried").iterdir()
    for text in ("", "[]", '{"fits": true}'):
        record.write_text(text)
        assert kept(trying._key(found)) is None


def test_rows_are_as_long_as_the_longest_of_the_data(tiny_model: Path, tmp_path: Path) -> None:
    data = chats(tmp_path, [SHORT] * 20 + [LONG] * 3)
    found = wizard.plan(Draft((str(data),), str(tiny_model), "cpu-demo", assignments=("rows_per_step=4",)))
    rows = trying._rows(found)
    lengths = [tokens for tokens, _ in rows]
    assert lengths[:3] == [found.tokens.longest] * 3  # type: ignore[union-attr]
    assert lengths[3] < 100
    assert all(1 <= trained < tokens for tokens, trained in rows)
    assert max(lengths) == found.job.tokens


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str]]:
    code = run(["plan", *words, "--try", "--json"])
    return code, [error["code"] for error in json.loads(capsys.readouterr().out)["errors"]]


def test_trials_that_cannot_be_are_refused(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, demo = str(tiny_model), ("--recipe", "cpu-demo")
    assert refusal(capsys, "--model", model, *demo, "--gpu", "rtx3090") == (5, ["tried.elsewhere"])
    assert refusal(capsys, "--model", model, "--recipe", "dpo-lora") == (3, ["tried.no-trainer"])
    shutil.copy(tiny_model / "config.json", tmp_path / "config.json")
    assert refusal(capsys, "--model", str(tmp_path), *demo) == (3, ["tried.no-weights"])


def test_a_trace_widens_the_band_and_changes_nothing_else(tiny_model: Path) -> None:
    found = plan(tiny_model)
    low, high = found.prediction.band

    def with_trace(total: int) -> Plan:
        return replace(found, trace=Trace(total, found.prediction.parts, (2, 2), 0.1))

    assert with_trace(high + 5).prediction.band == (low, high + 5)
    assert with_trace(low - 5).prediction.band == (low - 5, high)
    assert with_trace((low + high) // 2).prediction.band == (low, high)
    above = with_trace(found.free_bytes + 1)
    assert above.fits == found.fits
    assert above.settings == found.settings
    assert replace(widened(found.prediction, above.trace), band=(low, high)) == found.prediction  # type: ignore[arg-type]


def test_a_key_tells_models_by_what_they_are_made_of() -> None:
    key = Key({"hidden_size": 8, "transformers_version": "4"}, Job(), {}, None, "2.13")
    assert key.digest() == replace(key, config={"hidden_size": 8, "transformers_version": "5"}).digest()
    assert key.digest() != replace(key, config={"hidden_size": 16}).digest()
    assert key.digest() != replace(key, gpu_kind="rtx3090").digest()
