"""Knobs and recipes: what is asked is checked whole, and every error says where it stands."""

import os
from pathlib import Path

import pytest

from finetui.core.errors import FinetuiError
from finetui.core.knobs import knobs, parse_assignments
from finetui.recipes.recipe import load_recipe

pytestmark = pytest.mark.unit


def codes(error: pytest.ExceptionInfo[FinetuiError]) -> list[tuple[str, int | None]]:
    return [(problem.code, problem.line) for problem in error.value.problems]


def test_every_knob_is_explained_in_both_languages_and_its_default_is_valid() -> None:
    for knob in knobs().values():
        assert set(knob.help) == set(knob.trade) == {"en", "zh"}
        assert knob.changes in ("result", "memory")
        if knob.default is not None:
            assert parse_assignments([f"{knob.name}={knob.default}"])[knob.name] == knob.default


def test_assignments_are_read_by_the_type_of_their_knob() -> None:
    read = parse_assignments(
        ["learning_rate=1e-4", "r=8", "target_modules=q_proj,v_proj", "gradient_checkpointing=true", "lora_alpha=16"]
    )
    assert read == {
        "learning_rate": 1e-4,
        "r": 8,
        "target_modules": ["q_proj", "v_proj"],
        "gradient_checkpointing": True,
        "lora_alpha": 16.0,
    }


def test_all_wrong_assignments_are_told_at_once() -> None:
    with pytest.raises(FinetuiError) as error:
        parse_assignments(
            ["lerning_rate=1", "r=0", "r=1.5", "dtype=int4", "learning_rate=nan", "oops", "max_steps=ten"]
        )
    assert [code for code, _ in codes(error)] == ["knobs.unknown-near"] + ["knobs.bad-value"] * 4 + [
        "knobs.no-equals",
        "knobs.bad-value",
    ]
    assert error.value.problems[0].next("en") == "finetui recipes explain learning_rate"
    assert error.value.exit_code == 2


def test_circles_bad_toml_and_missing_files_are_errors(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[recipe]\nextends = "b.toml"\n')
    (tmp_path / "b.toml").write_text('[recipe]\nextends = "a.toml"\n')
    with pytest.raises(FinetuiError) as error:
        load_recipe(str(tmp_path / "a.toml"))
    assert codes(error) == [("recipes.circle", 2)]
    broken = tmp_path / "c.toml"
    broken.write_text("[recipe]\nname = \n")
    with pytest.raises(FinetuiError) as error:
        load_recipe(str(broken))
    assert codes(error) == [("recipes.not-toml", 2)]
    broken.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FinetuiError) as error:
        load_recipe(str(broken))
    assert codes(error) == [("recipes.not-toml", None)]
    with pytest.raises(FinetuiError) as error:
        load_recipe("lora-3091")
    assert codes(error) == [("recipes.not-found-near", None)]


def test_what_only_looks_like_a_recipe_is_an_error(tmp_path: Path) -> None:
    recipe = tmp_path / "x.toml"
    for text in ("a = " + "[" * 50_000, "a = " + "[" * 900 + "]" * 900, "a = " + "9" * 5000):
        recipe.write_text(text)
        with pytest.raises(FinetuiError) as error:
            load_recipe(str(recipe))
        assert [code for code, _ in codes(error)] in (["recipes.not-toml"], ["recipes.unknown-table"])
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(FinetuiError) as error:
            load_recipe(str(path))
        assert codes(error) == [("recipes.not-found", None)]
