"""The glossary: every knob and every word of the walkthroughs is explained in both languages, by any of its names."""

import json
import re

import pytest

from finetui.cli.main import run
from finetui.core.errors import Problem
from finetui.core.glossary import find_term, plain_name, terms
from finetui.core.knobs import GROUPS, Knob, check, knobs, named
from finetui.core.messages import LANGUAGES, t

pytestmark = pytest.mark.unit

CJK = re.compile("[一-鿿]")
JOURNEYS = [
    "stage",
    "sft",
    "pt",
    "rm",
    "do_train",
    "finetuning_type",
    "lora",
    "full",
    "qlora",
    "dora",
    "max_samples",
    "fp16",
    "bf16",
    "gradient_accumulation_steps",
    "max_grad_norm",
    "evaluation_strategy",
    "eval_strategy",
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "lr_scheduler_type",
    "save_steps",
    "plot_loss",
    "lora_target",
    "overwrite_cache",
    "predict_with_generate",
    "val_size",
    "test_size",
    "export_format",
    "export_size",
    "export_legacy_format",
    "export_dir",
    "dataset",
    "template",
    "cutoff_len",
    "logging_steps",
    "load_best_model_at_end",
    "wandb_mode",
    "report_to",
    "n_shot",
    "task",
    "deepspeed",
    "flash_attn",
    "warmup_steps",
    "weight_decay",
    "ddp_timeout",
    "nproc_per_node",
    "nnodes",
    "node_rank",
    "master_addr",
    "master_port",
    "config_file",
    "device_map",
    "pad_token",
    "trust_remote_code",
    "max_seq_length",
    "max_shard_size",
    "safe_serialization",
    "lora_rank",
    "lora_alpha",
    "lora_dropout",
    "load_in_4bit",
    "bnb_4bit_compute_dtype",
    "double_quantization",
    "quantization_bit",
    "learning_rate",
    "num_train_epochs",
    "model_name_or_path",
    "output_dir",
    "overwrite_output_dir",
    "max_steps",
    "ref_model",
    "dpo",
    "kto",
    "columns",
    "tags",
    "history",
    "tools",
    "apply_lora",
    "merge_and_unload",
    "calibration",
    "gptq",
    "epoch",
    "scheduler",
    "dropout",
    "cutoff",
    "early_stopping",
    "system",
    "bin",
    "safetensors",
]


@pytest.mark.parametrize("name", [*knobs(), *terms()])
@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_entry_is_explained_in_every_language(name: str, lang: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipes", "explain", name, "--lang", lang]) == 0
    heading, *said = capsys.readouterr().out.splitlines()
    assert heading.split()[0] == name
    for text in said[:2]:
        assert len(text.strip()) >= (4 if lang == "zh" else 10)
        assert bool(CJK.search(text)) == (lang == "zh")


def test_texts_are_whole_and_differ() -> None:
    for entry in (*knobs().values(), *terms().values()):
        for pair in (entry.help, entry.trade if isinstance(entry, Knob) else entry.here):
            assert set(pair) == set(LANGUAGES), entry.name
            assert pair["en"].endswith((".", "…", "%")), entry.name
            assert pair["zh"].endswith(("。", "等")), entry.name
        assert entry.group in GROUPS, entry.name
    for group in GROUPS:
        assert CJK.search(t(f"knobs.group-{group}", "zh"))
        assert any(entry.group == group for entry in (*knobs().values(), *terms().values()))


def test_units_and_bounds_are_told_in_both_languages() -> None:
    for knob in knobs().values():
        assert knob.type in ("int", "float", "bool", "text", "choice", "names")
        assert (knob.choices != ()) == (knob.type == "choice")
        assert not CJK.search(knob.expected("en"))
        if knob.type in ("int", "float"):
            assert knob.min is not None or knob.above is not None, knob.name
            assert CJK.search(knob.expected("zh"))
        if knob.unit:
            assert set(knob.unit) == set(LANGUAGES)
            assert CJK.search(knob.unit["zh"])
        assert set((knob.other_values or {}).values()) <= set(knob.choices)


@pytest.mark.parametrize("word", JOURNEYS)
def test_every_word_of_the_walkthroughs_is_found(word: str) -> None:
    (entry,) = named(word)
    assert plain_name(word) in (entry.name, *entry.also)


def test_a_name_belongs_to_one_entry() -> None:
    names = [name for entry in (*knobs().values(), *terms().values()) for name in (entry.name, *entry.also)]
    assert sorted(names) == sorted(set(names))
    assert all(name == plain_name(name) for name in names)
    for term in terms().values():
        assert all(name in knobs() for name in term.knobs), term.name


def test_what_a_term_has_written_is_right() -> None:
    """Every line that an error offers in place of another tool's is one that a recipe can hold."""
    for term in terms().values():
        for value in term.write or {}:
            line = term.written("x,y" if value == "*" else value)
            for part in re.findall(r"(\w+) = (\"[^\"]*\"|\[[^\]]*\]|\w+)", line):
                name, text = part
                if name in knobs():
                    held = check(name, json.loads(text))
                    assert value == "*" or not isinstance(held, Problem), (term.name, line)
                else:
                    assert name in ("stage", "method"), (term.name, line)


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("--cutoff_len", "max_length"),
        ("Cutoff-Len", "max_length"),
        ("lora rank", "r"),
        ("micro_batch_size", "per_device_train_batch_size"),
        ("warmup_ratio", "warmup_steps"),
        ("--fp16", "fp16"),
        ("QLoRA", "qlora"),
    ],
)
def test_other_spellings_and_other_names_are_understood(word: str, name: str) -> None:
    assert [entry.name for entry in named(word)] == [name]


def test_a_word_of_the_texts_finds_the_entries_that_have_it() -> None:
    assert "learning_rate" in [entry.name for entry in named("学习率")]
    assert "dtype" not in [entry.name for entry in named("padding")]
    assert named("zzzz") == []
    assert named("") == []


def test_an_unknown_word_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipes", "explain", "lora_rnk", "--lang", "en"]) == 2
    assert "expected: perhaps r\n" in capsys.readouterr().err
    assert run(["recipes", "explain", "qqqqqqqq", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["errors"][0]["code"] == "knobs.unknown-term"


@pytest.mark.parametrize("lang", LANGUAGES)
def test_all_of_it_is_printed_group_by_group(lang: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipes", "explain", "--lang", lang]) == 0
    blocks = capsys.readouterr().out.rstrip("\n").split("\n\n")
    titles = [t(f"knobs.group-{group}", lang) for group in GROUPS]
    assert [block.splitlines()[0] for block in blocks if set(block.splitlines()[1]) == {"─"}] == titles
    assert len(blocks) == len(GROUPS) + len(knobs()) + len(terms())


def test_the_glossary_is_json_with_all_that_a_form_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipes", "explain", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert set(shown["knobs"]) == set(knobs())
    assert set(shown["terms"]) == set(terms())
    rows = shown["knobs"]["max_length"]
    assert (rows["table"], rows["group"], rows["type"], rows["min"]) == ("data", "length", "int", 8)
    assert rows["unit"] == {"en": "tokens", "zh": "词元"}
    assert "cutoff_len" in rows["also"]
    assert shown["knobs"]["use_dora"]["methods"] == ["lora"]


def test_a_term_without_a_line_of_its_own_tells_what_finetui_does() -> None:
    term = find_term("overwrite_cache")
    assert term is not None
    assert term.written(True) == ""
    assert "content" in term.here["en"]


def test_show_without_a_name_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipes", "show"]) == 2
    assert "qlora-3090" in capsys.readouterr().err
