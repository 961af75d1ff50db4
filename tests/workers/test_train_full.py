"""Full fine-tuning: the result is a model like its base, whatever form that comes in."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, MixtralConfig, MixtralForCausalLM

from tests.tiny import make_tiny_model
from tests.workers.trainee import make_rows, make_trainee, read_events

pytestmark = pytest.mark.worker

ROWS = make_rows(20)
STOP = 258
"""The stop id that make_tiny_model's generation_config.json names."""


def make_base(
    folder: Path, *, tied: bool = False, shards: int = 1, dtype: torch.dtype = torch.float32, **config: Any
) -> Path:
    """A tiny model in another form, with files beside it that only a copy would keep."""
    make_tiny_model(folder)
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}
    if tied:
        del tensors["lm_head.weight"]
    settings = json.loads((folder / "config.json").read_text())
    settings |= {"tie_word_embeddings": tied, "dtype": str(dtype).removeprefix("torch."), **config}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "model.safetensors").unlink()
    names, index = sorted(tensors), {}
    for number in range(shards):
        part = "model.safetensors" if shards == 1 else f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        mine = names[number::shards]
        save_file({name: tensors[name] for name in mine}, folder / part, metadata={"format": "pt"})
        index |= dict.fromkeys(mine, part)
    if shards > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (folder / "README.md").write_text("# Tiny\n")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "lock").write_text("")
    (folder / "pytorch_model.bin").write_bytes(b"the same weights in another form")
    return folder


def train(folder: Path, base: Path, name: str = "out", **settings: Any) -> Path:
    """Full fine-tuning of three steps."""
    trainee = make_trainee(folder / f"{name}.bundle", base, ROWS, method="full")
    trainee.set(**{"max_steps": 3, "learning_rate": 1e-3, **settings})
    done = trainee.train(folder / name)
    assert done.returncode == 0, done.stderr
    return folder / name


def loss_of(model: Path, dtype: torch.dtype = torch.float32) -> float:
    """A model's loss over the trained tokens of all rows."""
    network = AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
    total, count = 0.0, 0
    with torch.no_grad():
        for ids, labels in ROWS:
            logits = network(input_ids=torch.tensor([ids])).logits[0, :-1].double()
            targets = torch.tensor(labels[1:])
            total += torch.nn.functional.cross_entropy(logits, targets, ignore_index=-100, reduction="sum").item()
            count += int((targets != -100).sum())
    return total / count


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 by name of the files that are there."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "form",
    [{}, {"tied": True}, {"shards": 3, "dtype": torch.bfloat16}, {"tied": True, "shards": 2, "dtype": torch.float16}],
    ids=["one file", "tied", "shards in bfloat16", "tied shards in float16"],
)
def test_the_result_is_a_model_like_its_base(tmp_path: Path, form: dict[str, Any]) -> None:
    base = make_base(tmp_path / "base", **form)
    out = train(tmp_path, base, dtype="float32")
    output = out / "output"
    weights = sorted(path.name for path in base.glob("*.safetensors*"))
    beside = ["README.md", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
    assert sorted(path.name for path in output.iterdir()) == sorted([*weights, *beside])
    for name in beside:
        assert (output / name).read_bytes() == (base / name).read_bytes()
    for name in weights:
        if name.endswith(".safetensors"):
            before, after = load_file(base / name), load_file(output / name)
            assert {key: (value.shape, value.dtype) for key, value in after.items()} == {
                key: (value.shape, value.dtype) for key, value in before.items()
            }
            assert all(not torch.equal(value, before[key]) for key, value in after.items() if value.dim() > 1)
            assert all(torch.isfinite(value).all() for value in after.values())
    done = json.loads((out / "done.json").read_text())
    assert done["outputs"].items() <= digests(output).items()
    assert {name for name in weights if name.endswith(".safetensors")} <= done["outputs"].keys()

    model = AutoModelForCausalLM.from_pretrained(output)
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == form.get("tied", False)
    assert loss_of(output) < loss_of(base) - 0.01
    assert AutoTokenizer.from_pretrained(output).chat_template == AutoTokenizer.from_pretrained(base).chat_template


@pytest.mark.parametrize("form", [{}, {"tied": True}, {"shards": 2}], ids=["plain", "tied", "shards"])
def test_the_result_scores_what_the_trainer_evaluated(tmp_path: Path, form: dict[str, Any]) -> None:
    base = make_base(tmp_path / "base", **form)
    trainee = make_trainee(tmp_path / "bundle", base, ROWS, evaluation=ROWS, method="full")
    trainee.set(max_steps=3)
    assert trainee.train(tmp_path / "out").returncode == 0
    (evaluation,) = [event for event in read_events(tmp_path / "out") if event["event"] == "evaluation"]
    assert evaluation["loss"] == pytest.approx(loss_of(tmp_path / "out" / "output"), rel=1e-6)


def test_every_weight_is_counted_and_trained(tmp_path: Path, tiny_model: Path) -> None:
    out = train(tmp_path, tiny_model)
    (loaded,) = [event for event in read_events(out) if event["event"] == "model_loaded"]
    count = sum(tensor.numel() for tensor in load_file(tiny_model / "model.safetensors").values())
    assert (loaded["parameters"], loaded["trainable_parameters"]) == (count, count)


def test_experts_are_written_back_one_by_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 512}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    base = make_tiny_model(tmp_path / "base")
    config = MixtralConfig(**sizes, **heads, num_local_experts=3, num_experts_per_tok=2, eos_token_id=STOP)
    MixtralForCausalLM(config).save_pretrained(base)
    trainee = make_trainee(tmp_path / "bundle", base, ROWS, evaluation=ROWS, method="full")
    trainee.write_lock(model=trainee.lock["model"] | {"architecture": "MixtralForCausalLM"})
    trainee.set(max_steps=3)
    done = trainee.train(tmp_path / "out")
    assert done.returncode == 0, done.stderr
    output = tmp_path / "out" / "output"
    before, after = (load_file(folder / "model.safetensors") for folder in (base, output))
    assert before.keys() == after.keys()
    assert "model.layers.1.block_sparse_moe.experts.2.w3.weight" in before
    assert [name for name in before if torch.equal(before[name], after[name])] == []
    (evaluation,) = [event for event in read_events(tmp_path / "out") if event["event"] == "evaluation"]
    assert evaluation["loss"] == pytest.approx(loss_of(output), rel=1e-5)


def test_the_template_and_stops_of_the_lock_go_with_the_result(tmp_path: Path, tiny_model: Path) -> None:
    trainee = make_trainee(tmp_path / "bundle", tiny_model, ROWS, method="full")
    trainee.write_lock(template={"source": "plain", "text": "{{ messages[0]['content'] }}", "stop_ids": [STOP, 257]})
    trainee.set(max_steps=1)
    assert trainee.train(tmp_path / "out").returncode == 0
    output = tmp_path / "out" / "output"
    assert AutoTokenizer.from_pretrained(output).chat_template == "{{ messages[0]['content'] }}"
    assert GenerationConfig.from_pretrained(output).eos_token_id == [STOP, 257]
    done = json.loads((tmp_path / "out" / "done.json").read_text())
    assert {"chat_template.jinja", "generation_config.json", "model.safetensors"} == done["outputs"].keys()


def test_a_model_that_never_moved_is_a_failure(tmp_path: Path, tiny_model: Path) -> None:
    trainee = make_trainee(tmp_path / "bundle", tiny_model, ROWS, method="full")
    trainee.set(max_steps=1, learning_rate=1e-30)
    assert trainee.train(tmp_path / "out").returncode == 1
    failed = read_events(tmp_path / "out")[-1]
    assert (failed["cause"], failed["detail"]) == ("adapter-never-moved", "every weight of the result is as it began")
    assert not list((tmp_path / "out").glob("output*"))


def test_settings_of_lora_are_unknown_to_full_fine_tuning(tmp_path: Path, tiny_model: Path) -> None:
    trainee = make_trainee(tmp_path / "bundle", tiny_model, ROWS, method="full")
    trainee.set(r=8)
    assert trainee.train(tmp_path / "out").returncode == 1
    assert "r is not known to method full" in read_events(tmp_path / "out")[-1]["detail"]
