"""Merging by stream gives peft's bytes, carries what is not weights, and is held against base + adapter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from finetui.core.errors import FinetuiError
from finetui.models.merge import Chat, merge
from finetui.models.merged import Merged

pytestmark = pytest.mark.worker

PLENTY = 32 << 30
NOT_TO_LOAD_IT = 700_000_001
"""Memory with which a model is merged and not compared, where the comparison is not the matter."""


@pytest.mark.parametrize(
    ("compared_in", "loads", "kl", "adapter_kl", "good"),
    [
        ("float32", True, 2e-4, 2.0, True),
        ("float32", True, 0.011, 0.5, True),
        ("float32", True, 0.5, 0.5, False),
        ("float32", True, 0.001, 0.001, True),
        ("bfloat16", True, 4e-3, 0.01, True),
        ("bfloat16", True, 0.3, 2.0, False),
        ("float32", False, None, None, False),
        (None, None, None, None, True),
    ],
)
def test_a_merge_is_good_when_it_lost_less_than_a_tenth_of_what_the_adapter_changes(
    compared_in: str | None, loads: bool | None, kl: float | None, adapter_kl: float | None, good: bool
) -> None:
    merged = Merged(
        "out", 1, 1, 1.0, "base", kl=kl, adapter_kl=adapter_kl, loads_offline=loads, compared_in=compared_in
    )
    assert merged.is_good is good


@pytest.fixture(params=["float32", "bfloat16", pytest.param("float16", marks=pytest.mark.soak)])
def base(request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model in one dtype."""
    return copy_as(tiny_model, tmp_path / "base", getattr(torch, request.param))


def copy_as(model: Path, folder: Path, dtype: torch.dtype) -> Path:
    shutil.copytree(model, folder)
    weights = {name: tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": str(dtype).removeprefix("torch.")}))
    return folder


def train(base: Path, folder: Path, **settings: Any) -> Path:
    """An adapter with random weights, as if it had been trained."""
    torch.manual_seed(7)
    config = LoraConfig(
        **{"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **settings}
    )
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
        if "lora_magnitude" in name:
            weight.data *= 1 + 0.1 * torch.randn_like(weight)
    model.save_pretrained(folder)
    return folder


def by_peft(base: Path, adapter: Path, folder: Path) -> dict[str, torch.Tensor]:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype="auto"), adapter)
    model.merge_and_unload().save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def same_bits(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == theirs[name].dtype and torch.equal(ours[name], theirs[name]) for name in ours
    )


def run(adapter: Path, base: Path, out: Path, available_bytes: int = NOT_TO_LOAD_IT, **options: Any) -> Merged:
    return merge(adapter, base, out, available_bytes=available_bytes, **options)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True, "r": 3},
        {"rank_pattern": {"q_proj": 2, "model.layers.1.mlp.down_proj": 6}, "alpha_pattern": {"k_proj": 5, "mlp.*": 3}},
        {"use_dora": True},
        {"use_dora": True, "use_rslora": True, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"k_proj": 5}},
    ],
    ids=["plain", "rslora", "patterns", "dora", "dora-rslora-patterns"],
)
def test_equals_peft_bit_for_bit(base: Path, tmp_path: Path, home: Path, settings: dict[str, Any]) -> None:
    adapter = train(base, tmp_path / "adapter", **settings)
    merged = run(adapter, base, tmp_path / "out", PLENTY)
    assert same_bits(load_file(tmp_path / "out/model.safetensors"), by_peft(base, adapter, tmp_path / "peft"))
    assert not same_bits(load_file(tmp_path / "out/model.safetensors"), load_file(base / "model.safetensors"))
    assert merged.is_good
    assert merged.compared_in == "float32"
    assert merged.kl is not None
    assert merged.kl < 1e-4
    assert merged.peak_rss_bytes > 10_000_000


@pytest.mark.parametrize("shape", [(1, 64, 4), (333, 576, 16), (576, 1536, 64), (2049, 1000, 32), (4097, 576, 8)])
@pytest.mark.parametrize("blocks", [1, 2, 3, 7])
def test_row_blocks_give_the_bits_of_the_whole(shape: tuple[int, int, int], blocks: int) -> None:
    from finetui.workers.merge import row_blocks

    rows, columns, rank = shape
    generator = torch.Generator().manual_seed(3)
    a, b = torch.randn(rank, columns, generator=generator), torch.randn(rows, rank, generator=generator)
    bounds = row_blocks(rows, columns, max(columns * 4, -(-rows // blocks) * columns * 4))
    assert len(bounds) == min(rows, blocks)
    product = b @ a
    assert torch.equal(torch.cat([b[first:end] @ a for first, end in bounds]), product)
    norms = [torch.linalg.norm(product[first:end], dim=1) for first, end in bounds]
    assert torch.equal(torch.cat(norms), torch.linalg.norm(product, dim=1))


def test_header_and_untouched_tensors_are_the_bases_bytes(base: Path, tmp_path: Path, home: Path) -> None:
    adapter = train(base, tmp_path / "adapter", target_modules=["q_proj"], layers_to_transform=[1])
    run(adapter, base, tmp_path / "out")
    ours, theirs = (folder / "model.safetensors" for folder in (tmp_path / "out", base))
    length = int.from_bytes(theirs.read_bytes()[:8], "little") + 8
    assert ours.read_bytes()[:length] == theirs.read_bytes()[:length]
    before, after = load_file(theirs), load_file(ours)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"model.layers.1.self_attn.q_proj.weight"}


def test_shards_stay_shards(tiny_model: Path, tmp_path: Path, home: Path) -> None:
    base = tmp_path / "sharded"
    AutoModelForCausalLM.from_pretrained(tiny_model).save_pretrained(base, max_shard_size="200KB")
    adapter = train(base, tmp_path / "adapter")
    run(adapter, base, tmp_path / "out")
    index = "model.safetensors.index.json"
    assert (tmp_path / "out" / index).read_bytes() == (base / index).read_bytes()
    shards = sorted(path.name for path in base.glob("*.safetensors"))
    assert len(shards) > 2
    assert sorted(path.name for path in (tmp_path / "out").glob("*.safetensors")) == shards
    ours = {name: tensor for shard in shards for name, tensor in load_file(tmp_path / "out" / shard).items()}
    assert same_bits(ours, by_peft(base, adapter, tmp_path / "peft"))


def test_tied_embeddings_stay_tied(tiny_model: Path, tmp_path: Path, home: Path) -> None:
    base = tie(tiny_model, tmp_path / "tied")
    adapter = train(base, tmp_path / "adapter")
    run(adapter, base, tmp_path / "out")
    assert "lm_head.weight" not in load_file(tmp_path / "out/model.safetensors")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def tie(model: Path, folder: Path) -> Path:
    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    return folder


def test_every_file_that_is_not_weights_is_carried(tiny_model: Path, tmp_path: Path, home: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    extra = ("README.md", "LICENSE", "vocab.txt", "code/modeling.py")
    for name in (*extra, ".git/config", "__pycache__/x.pyc", "pytorch_model.bin", "model.gguf", ".DS_Store"):
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).write_text(name)
    run(train(base, tmp_path / "adapter"), base, tmp_path / "out")
    carried = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    own = {path.name for path in tiny_model.iterdir()}
    assert carried == own | set(extra)
    for name in carried - {"model.safetensors"}:
        assert (tmp_path / "out" / name).read_bytes() == (base / name).read_bytes()


def test_stop_ids_and_template_of_the_training_are_written(tiny_model: Path, tmp_path: Path, home: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    (base / "generation_config.json").unlink()
    run(train(base, tmp_path / "adapter"), base, tmp_path / "out", chat=Chat((257, 258), "{{ messages }}"))
    assert json.loads((tmp_path / "out/generation_config.json").read_text()) == {"eos_token_id": [258, 257]}
    assert (tmp_path / "out/chat_template.jinja").read_text() == "{{ messages }}"


def test_without_tokenizer_it_is_compared_on_seeded_ids(tiny_model: Path, tmp_path: Path, home: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_model, base, ignore=shutil.ignore_patterns("tokenizer*"))
    merged = run(train(base, tmp_path / "adapter"), base, tmp_path / "out", PLENTY)
    assert merged.positions == 512
    assert merged.top1_agreement == 1.0
    assert merged.sample is None


def test_where_the_model_does_not_fit_into_memory_it_is_merged_and_not_compared(
    tiny_model: Path, tmp_path: Path, home: Path
) -> None:
    merged = run(train(tiny_model, tmp_path / "adapter"), tiny_model, tmp_path / "out")
    assert (merged.kl, merged.top1_agreement, merged.loads_offline) == (None, None, None)
    assert (tmp_path / "out/model.safetensors").is_file()


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"modules_to_save": ["lm_head"]}, "merge.not-plain"),
        ({"bias": "all"}, "merge.not-plain"),
        ({"init_lora_weights": "pissa"}, "merge.not-plain"),
        ({"target_modules": ["embed_tokens", "q_proj"]}, "merge.foreign-key"),
    ],
    ids=["saved-modules", "bias", "pissa", "embedding"],
)
def test_what_is_not_plain_lora_is_refused(
    tiny_model: Path, tmp_path: Path, home: Path, settings: dict[str, Any], code: str
) -> None:
    adapter = train(tiny_model, tmp_path / "adapter", **settings)
    assert refusal(adapter, tiny_model, tmp_path / "out") == {code}


def test_an_adapter_on_the_head_of_a_tied_model_is_refused(tiny_model: Path, tmp_path: Path, home: Path) -> None:
    adapter = train(tiny_model, tmp_path / "adapter", target_modules=["lm_head", "q_proj"])
    assert "merge.tied-head" in refusal(adapter, tie(tiny_model, tmp_path / "tied"), tmp_path / "out")


def test_all_keys_and_shapes_that_do_not_fit_are_named_at_once(tiny_model: Path, tmp_path: Path, home: Path) -> None:
    adapter = train(tiny_model, tmp_path / "adapter")
    path = adapter / "adapter_model.safetensors"
    weights = load_file(path)
    first = "base_model.model.model.layers.0.self_attn.q_proj"
    weights[f"{first}.lora_B.weight"] = torch.zeros(60, 4)
    for side, shape in (("A", (4, 64)), ("B", (64, 4))):
        weights[f"base_model.model.model.layers.9.self_attn.q_proj.lora_{side}.weight"] = torch.zeros(shape)
    del weights["base_model.model.model.layers.1.mlp.up_proj.lora_A.weight"]
    save_file(weights, path)
    assert refusal(adapter, tiny_model, tmp_path / "out") == {"merge.shape", "merge.unused-key", "merge.half-pair"}


def test_dora_without_its_magnitudes_is_refused(tiny_model: Path, tmp_path: Path, home: Path) -> None:
    adapter = train(tiny_model, tmp_path / "adapter", use_dora=True)
    path = adapter / "adapter_model.safetensors"
    weights = load_file(path)
    save_file({name: weight for name, weight in weights.items() if "magnitude" not in name}, path)
    assert refusal(adapter, tiny_model, tmp_path / "out") == {"merge.half-pair"}
    first = next(name for name in weights if "magnitude" in name)
    save_file({**weights, first: torch.ones(3)}, path)
    assert refusal(adapter, tiny_model, tmp_path / "out") == {"merge.shape"}


def test_a_quantised_base_is_refused(tiny_model: Path, tmp_path: Path, home: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "bitsandbytes"}}))
    assert refusal(train(tiny_model, tmp_path / "adapter"), base, tmp_path / "out") == {"merge.quantised-base"}


def test_a_folder_that_holds_something_is_never_written_over(tiny_model: Path, tmp_path: Path, home: Path) -> None:
    adapter = train(tiny_model, tmp_path / "adapter")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(FinetuiError) as caught:
        run(adapter, tiny_model, tmp_path / "out")
    assert [problem.code for problem in caught.value.problems] == ["merge.out-taken"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_link_out_of_the_model_is_not_followed(tiny_model: Path, tmp_path: Path, home: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (base / "README.md").symlink_to(secret)
    assert refusal(train(tiny_model, tmp_path / "adapter"), base, tmp_path / "out") == {"merge.link-out"}


def refusal(adapter: Path, base: Path, out: Path) -> set[str]:
    """The codes of all problems; nothing may be left behind."""
    with pytest.raises(FinetuiError) as caught:
        run(adapter, base, out)
    assert caught.value.exit_code == 3
    for problem in caught.value.problems:
        assert problem.message("en")
        assert problem.message("zh")
    assert not [path for path in out.parent.iterdir() if "out" in path.name]
    return {problem.code for problem in caught.value.problems}


def test_a_merge_that_fails_midway_leaves_nothing(
    tiny_model: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = train(tiny_model, tmp_path / "adapter")

    def interrupt(facts: Any) -> None:
        if facts["stage"] == "load-merged":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(adapter, tiny_model, tmp_path / "out", PLENTY, on_progress=interrupt)
    assert {path.name for path in tmp_path.iterdir()} == {"adapter", "home"}


def test_what_a_killed_merge_left_is_cleared_away(tiny_model: Path, tmp_path: Path, home: Path) -> None:
    adapter = train(tiny_model, tmp_path / "adapter")
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part" / "model.safetensors.part").write_text("half")
    run(adapter, tiny_model, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"adapter", "home", "out"}
    assert not list((tmp_path / "out").glob("*.part"))


def test_a_difference_between_the_two_is_measured(tiny_model: Path, tmp_path: Path, home: Path) -> None:
    from finetui.core import jobs

    adapter = train(tiny_model, tmp_path / "adapter")
    request = {
        "base": str(tiny_model),
        "adapter": str(adapter),
        "merged": str(tiny_model),
        "rows": [[5, 9, 200, 7] * 8],
    }
    request |= {"dtype": "float32", "scratch": str(tmp_path), "has_tokenizer": True}
    figures = jobs.run("compare", request)
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    ids = torch.tensor([[5, 9, 200, 7] * 8])
    with torch.no_grad():
        merged = base(ids).logits[0]
        tuned = PeftModel.from_pretrained(base, adapter)(ids).logits[0]
    assert figures["max_logit_difference"] == pytest.approx(float((tuned - merged).abs().max()), rel=1e-3)
    assert figures["mean_logit_difference"] == pytest.approx(float((tuned - merged).abs().mean()), rel=1e-3)
    kl = (
        torch.nn.functional.kl_div(merged.log_softmax(-1), tuned.log_softmax(-1), log_target=True, reduction="sum") / 32
    )
    assert figures["kl"] == pytest.approx(float(kl), rel=1e-3)
    assert figures["adapter_kl"] == pytest.approx(float(kl), rel=1e-3)
    assert figures["top1_agreement"] == float((tuned.argmax(-1) == merged.argmax(-1)).float().mean())


def test_a_model_that_does_not_load_is_said_so(tiny_model: Path, tmp_path: Path, home: Path) -> None:
    from finetui.core import jobs

    adapter = train(tiny_model, tmp_path / "adapter")
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    (broken / "config.json").unlink()
    request = {"base": str(tiny_model), "adapter": str(adapter), "merged": str(broken), "rows": [[5, 9]]}
    request |= {"dtype": "float32", "scratch": str(tmp_path), "has_tokenizer": False}
    figures = jobs.run("compare", request)
    assert figures["loads_offline"] is False
    assert "config.json" in figures["why_not"]
