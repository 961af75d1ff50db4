"""The recipes that ship: what they ask, what they say of it, and what they leave to the machine."""

import json
import re
from pathlib import Path

import pytest

from finetui.cli.main import run
from finetui.core.errors import FinetuiError
from finetui.core.knobs import knobs, parse_assignments
from finetui.recipes.recipe import catalogue, inapplicable, load_recipe

pytestmark = pytest.mark.unit

KINDS = {
    "cpu-demo": ("lora", "sft"),
    "dora-3090": ("lora", "sft"),
    "dpo-lora": ("lora", "dpo"),
    "full-a100x4": ("full", "sft"),
    "journey-1-full": ("full", "sft"),
    "journey-1-lora": ("lora", "sft"),
    "journey-2": ("lora", "sft"),
    "journey-3": ("lora", "sft"),
    "journey-4": ("lora", "sft"),
    "journey-5": ("lora", "sft"),
    "kto-lora": ("lora", "kto"),
    "lora-3090": ("lora", "sft"),
    "lora-a100x4": ("lora", "sft"),
    "pretrain-lora": ("lora", "pt"),
    "qlora-3090": ("lora", "sft"),
    "qlora-3090x2": ("lora", "sft"),
    "qlora-a100x4": ("lora", "sft"),
    "reward-lora": ("lora", "reward"),
}
JOURNEYS = {
    "journey-1-full": {
        "max_length": 2048,
        "max_steps": 1000,
        "num_train_epochs": 6,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "per_device_eval_batch_size": 16,
        "learning_rate": 2e-5,
    },
    "journey-1-lora": {
        "max_length": 2048,
        "max_steps": 1000,
        "num_train_epochs": 6,
        "per_device_train_batch_size": 16,
        "gradient_accumulation_steps": 1,
        "per_device_eval_batch_size": 32,
        "learning_rate": 3e-4,
    },
    "journey-2": {
        "target_modules": ["q_proj", "v_proj"],
        "max_length": 1024,
        "max_samples": 3000,
        "val_size": 0.1,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 2,
        "lr_scheduler_type": "cosine",
        "learning_rate": 5e-5,
        "num_train_epochs": 3,
        "eval_steps": 100,
        "save_steps": 100,
        "load_best_model_at_end": True,
        "dtype": "float16",
    },
    "journey-3": {
        "max_length": 4096,
        "warmup_steps": 100,
        "weight_decay": 0.1,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 4,
        "learning_rate": 5e-6,
        "lr_scheduler_type": "cosine",
        "save_steps": 1000,
        "num_train_epochs": 3,
        "dtype": "bfloat16",
        "attn_implementation": "flash_attention_2",
    },
    "journey-5": {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "dtype": "float16",
        "r": 64,
        "lora_alpha": 16,
        "lora_dropout": 0.1,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 4,
        "learning_rate": 2e-4,
        "max_steps": 100,
        "max_length": 512,
        "max_samples": 1000,
    },
}
OF_THE_MACHINE = {
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "gradient_checkpointing",
    "attn_implementation",
    "dtype",
    "nproc_per_node",
    "omp_num_threads",
    "save_steps",
    "save_total_limit",
    "bnb_4bit_quant_storage",
    "packing",
}
OURS = [name for name in KINDS if not name.startswith("journey") and name != "cpu-demo"]
CJK = re.compile("[一-鿿]")


def test_the_catalogue_has_every_recipe_of_its_method_and_stage() -> None:
    recipes = {name: load_recipe(name) for name in catalogue()}
    assert {name: (recipe.method, recipe.stage) for name, recipe in recipes.items()} == KINDS
    assert all(recipe.name == name for name, recipe in recipes.items())


@pytest.mark.parametrize("name", KINDS)
def test_a_recipe_begins_with_what_it_is_for_and_how_it_is_launched(name: str) -> None:
    recipe = load_recipe(name)
    comments = recipe.text.split("\n\n")[0].splitlines()
    assert comments[0] == f"# {recipe.about('en')}"
    assert not CJK.search(recipe.about("en"))
    assert CJK.search(recipe.about("zh"))
    launches = [line.strip("# ") for line in comments if line.startswith("#   finetui ")]
    assert launches
    assert any(f"--recipe {name}" in line for line in launches)
    assert max(map(len, recipe.text.splitlines())) <= 120


@pytest.mark.parametrize("name", KINDS)
def test_every_value_has_its_remark_beside_it(name: str) -> None:
    for line in catalogue()[name].read_text().splitlines():
        if re.match(r"\w+ = ", line) and not line.startswith("name = "):
            assert len(line.partition("  # ")[2]) > 3, line


@pytest.mark.parametrize("name", JOURNEYS)
def test_a_journey_has_the_numbers_of_its_author_and_no_others(name: str) -> None:
    assert load_recipe(name).values == JOURNEYS[name]


def test_recipes_of_ours_carry_what_the_journeys_taught_and_leave_the_rest_to_the_machine() -> None:
    for name in OURS:
        assert OF_THE_MACHINE.isdisjoint(load_recipe(name).values), name
        assert load_recipe(name).values["rows_per_step"]
    qlora, journey = load_recipe("qlora-3090").values, load_recipe("journey-5").values
    for knob in ("r", "lora_alpha", "lora_dropout", "learning_rate", "load_in_4bit"):
        assert qlora[knob] == journey[knob]
    assert (qlora["rows_per_step"], qlora["num_train_epochs"]) == (16, 3)
    assert not {"max_length", "max_steps"} & set(qlora)
    for method, rows, rate, evaluated in (("full", 16, 2e-5, 16), ("lora", 64, 3e-4, 32)):
        values = load_recipe(f"{method}-a100x4").values
        assert (values["rows_per_step"], values["learning_rate"]) == (rows, rate)
        assert (values["max_length"], values["num_train_epochs"]) == (2048, 6)
        assert values["per_device_eval_batch_size"] == evaluated
        assert "max_steps" not in values
    assert load_recipe("qlora-3090x2").values["parallelism"] == "fsdp2"
    assert load_recipe("qlora-a100x4").values["parallelism"] == "ddp"


def test_the_demo_trains_what_it_trained() -> None:
    assert load_recipe("cpu-demo").values == {
        "r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0,
        "target_modules": "all-linear",
        "learning_rate": 8e-4,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0,
        "num_train_epochs": 4,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 1,
        "max_grad_norm": 1,
        "dtype": "float32",
        "gradient_checkpointing": False,
    }


def write(folder: Path, name: str, text: str) -> str:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return str(path)


def test_a_chain_takes_over_and_says_over(tmp_path: Path) -> None:
    write(tmp_path, "a", '[recipe]\nextends = "qlora-3090"\n[train]\nlearning_rate = 1e-4\nseed = 1\n')
    child = load_recipe(write(tmp_path, "b", '[recipe]\nextends = "a.toml"\n[train]\nseed = 2\n'))
    assert (child.name, child.extends, child.method) == ("b", "a.toml", "lora")
    assert child.values == {**load_recipe("qlora-3090").values, "learning_rate": 1e-4, "seed": 2}
    assert set(child.values) - child.inherited == {"seed"}


def test_a_child_of_another_method_loses_what_it_does_not_have(tmp_path: Path) -> None:
    full = load_recipe(write(tmp_path, "full", '[recipe]\nextends = "qlora-3090"\nmethod = "full"\n'))
    assert {"r", "load_in_4bit", "lora_alpha"}.isdisjoint(full.values)
    assert full.values["rows_per_step"] == 16
    back = load_recipe(write(tmp_path, "lora", '[recipe]\nextends = "full.toml"\nmethod = "lora"\n'))
    assert set(back.values) == set(full.values)
    pairs = load_recipe(write(tmp_path, "kto", '[recipe]\nextends = "kto-lora"\nstage = "sft"\n'))
    assert {"beta", "desirable_weight"}.isdisjoint(pairs.values)


def test_an_override_that_a_training_does_not_have_is_told() -> None:
    overrides = parse_assignments(["r=8", "beta=0.2", "seed=1", "packing=true"])
    found = inapplicable(load_recipe("full-a100x4"), overrides)
    assert [(problem.code, problem.facts["knob"], problem.file) for problem in found] == [
        ("recipes.not-of-method", "r", "--set"),
        ("recipes.not-of-stage", "beta", "--set"),
    ]
    assert [p.facts["knob"] for p in inapplicable(load_recipe("dpo-lora"), overrides)] == ["packing"]
    assert inapplicable(load_recipe("lora-3090"), parse_assignments(["r=8", "packing=true"])) == []


@pytest.mark.parametrize(
    ("text", "en", "zh"),
    [
        ("# 客服语气\n# second\n[recipe]\n", "客服语气", "客服语气"),
        ("\n\n#  mine \n#\n# 不算\n[recipe]\n", "mine", "mine"),
        ("# mine\n# 我的\n", "mine", "我的"),
        ("[recipe]\n# not this\n", "", ""),
    ],
)
def test_a_recipe_of_the_users_shows_its_own_comment(text: str, en: str, zh: str, tmp_path: Path) -> None:
    text += "" if "[recipe]" in text else "[recipe]\n"
    path = write(tmp_path, "mine", text.replace("[recipe]\n", '[recipe]\nstage = "sft"\nmethod = "lora"\n'))
    recipe = load_recipe(path)
    assert (recipe.about("en"), recipe.about("zh")) == (en, zh)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_list_is_a_table_in_the_language_in_force(
    lang: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.cells import cell_len

    monkeypatch.setenv("COLUMNS", "80")
    assert run(["recipes", "--lang", lang]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert [tuple(line.split()[:3]) for line in lines if line[0] != " "] == [(n, *kind) for n, kind in KINDS.items()]
    assert bool(CJK.search(heading)) == (lang == "zh")
    assert "…" not in "".join(lines)


def test_the_catalogue_and_a_recipe_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipes", "--json", "--lang", "zh"]) == 0
    listed = json.loads(capsys.readouterr().out)["recipes"]
    assert {row["name"]: (row["method"], row["stage"]) for row in listed} == KINDS
    assert all(not CJK.search(row["about"]) for row in listed)
    assert run(["recipes", "show", "dora-3090", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["extends"], shown["knobs"]["use_dora"], shown["knobs"]["rows_per_step"]) == ("lora-3090", True, 16)
    assert "rows_per_step" in shown["inherited"]
    assert "r" not in shown["inherited"]


def test_show_prints_the_file_and_what_it_inherits(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipes", "show", "kto-lora"]) == 0
    captured = capsys.readouterr()
    assert captured.out == catalogue()["kto-lora"].read_text()
    assert "dpo-lora" in captured.err
    assert "warmup_steps = 0.1" in captured.err
    assert "desirable_weight" not in captured.err


def test_every_knob_of_every_recipe_applies_to_it() -> None:
    for name in KINDS:
        recipe = load_recipe(name)
        assert all(knobs()[knob].applies(recipe.stage, recipe.method) for knob in recipe.values)


def test_a_missing_recipe_names_the_nearest() -> None:
    with pytest.raises(FinetuiError) as error:
        load_recipe("qlora-309")
    assert "qlora-3090" in (error.value.problems[0].expected("en") or "")
