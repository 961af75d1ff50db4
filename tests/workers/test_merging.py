"""From a run or an adapter to its base: named, locked, or known by content."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from finetui.cli.main import run as command
from finetui.core.errors import FinetuiError
from finetui.merging import find_base, find_subject
from finetui.runs.folder import RunFolder, RunState, create
from finetui.wizard import Draft, lock
from tests.tiny import make_tiny_model

pytestmark = pytest.mark.worker


@pytest.fixture(scope="session")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter for the tiny model."""
    torch.manual_seed(1)
    settings = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), settings)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    model.peft_config["default"].base_model_name_or_path = "tiny"
    folder = tmp_path_factory.mktemp("adapters") / "adapter"
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def models(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`models/`, and hub caches that are empty."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope"))
    (home / "models").mkdir(parents=True)
    return home / "models"


@pytest.fixture
def run(models: Path, tiny_model: Path, trained: Path, tmp_path: Path) -> RunFolder:
    """A finished run of a real bundle; its base lies in `models/`."""
    return finished_run(models, tiny_model, trained, tmp_path)


def finished_run(models: Path, tiny_model: Path, trained: Path, tmp_path: Path, *assignments: str) -> RunFolder:
    base = Path(shutil.copytree(tiny_model, models / "tiny"))
    rows = [
        {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": "yes"}]} for n in range(9)
    ]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    draft = Draft((str(tmp_path / "data.jsonl"),), "tiny", "cpu-demo", tmp_path / "t.bundle", assignments=assignments)
    locked = lock(draft)
    made = create("t")
    state = RunState(made.name, str(locked.path), locked.id, "t", str(base), "python3", 1, 3, 0.0, status="finished")
    made.write(state)
    shutil.copytree(trained, made.output)
    return made


def problem_of(attempt: Callable[[], Any]) -> tuple[str, int]:
    with pytest.raises(FinetuiError) as caught:
        attempt()
    (problem,) = caught.value.problems
    assert problem.message("zh")
    assert problem.expected("zh")
    return problem.code, caught.value.exit_code


def test_a_run_is_merged_into_the_base_that_its_bundle_locks(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["merge", "last", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["out"] == str(run.path / "merged")
    assert shown["loads_offline"] is True
    assert shown["positions"] > 9
    names = ("bytes", "peak_rss_bytes", "seconds", "kl", "top1_agreement", "max_logit_difference")
    assert all(shown[name] is not None for name in names)
    assert (run.path / "merged" / "tokenizer.json").is_file()
    assert command(["merge", str(run.output), "--plain"]) == 3
    assert "not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("language", "said"),
    [("en", "against the nf4 base + adapter that was trained"), ("zh", "与训练时的 nf4 量化基座 + 适配器相比")],
)
def test_the_difference_from_a_packed_base_is_told(
    models: Path,
    tiny_model: Path,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    language: str,
    said: str,
) -> None:
    finished_run(models, tiny_model, trained, tmp_path, "load_in_4bit=true")
    assert command(["merge", "last", "--plain", "--lang", language]) == 0
    assert said in capsys.readouterr().out
    assert command(["chat", "last", "--prompt", "hi", "--max-new-tokens", "1", "--plain"]) == 0
    assert "nf4" in capsys.readouterr().err


def test_the_base_of_a_run_is_known_by_content(run: RunFolder, models: Path, tmp_path: Path) -> None:
    subject = find_subject("last")
    assert find_base(subject, None) == models / "tiny"
    renamed = (models / "tiny").rename(models / "renamed")
    assert find_base(subject, None) == renamed
    moved = renamed.rename(tmp_path / "moved")
    assert problem_of(lambda: find_base(subject, None)) == ("merge.base-absent", 3)
    assert find_base(subject, str(moved)) == moved


def test_another_base_than_the_locked_one_is_refused(run: RunFolder, tmp_path: Path) -> None:
    other = make_tiny_model(tmp_path / "other", seed=9)
    assert problem_of(lambda: find_base(find_subject(run.name), str(other))) == ("merge.other-base", 4)


def test_the_output_of_a_run_is_the_run(run: RunFolder) -> None:
    assert find_subject(str(run.output)) == find_subject(run.name)


def test_a_run_without_adapter_or_bundle_is_refused(run: RunFolder) -> None:
    shutil.rmtree(run.read().bundle)
    assert problem_of(lambda: find_subject(run.name)) == ("merge.no-bundle", 3)
    shutil.rmtree(run.output)
    assert problem_of(lambda: find_subject(run.name)) == ("merge.no-output", 3)


def test_an_adapter_goes_into_the_model_that_it_names(trained: Path, tiny_model: Path, models: Path) -> None:
    subject = find_subject(str(trained))
    assert subject.out == trained.with_name("adapter-merged")
    assert problem_of(lambda: find_base(subject, None)) == ("models.not-found", 3)
    base = Path(shutil.copytree(tiny_model, models / "tiny"))
    assert find_base(subject, None) == base
    assert find_base(subject, str(tiny_model)) == tiny_model


def test_an_adapter_that_names_no_base(trained: Path, models: Path, tmp_path: Path) -> None:
    adapter = Path(shutil.copytree(trained, tmp_path / "adapter"))
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": None}))
    assert problem_of(lambda: find_base(find_subject(str(adapter)), None)) == ("merge.no-base", 3)
