"""`finetui --plain`: every question answered by lines, what is said, and the draft that is kept."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from finetui.draft import Draft
from finetui.drafts import newest
from finetui.hardware.planned import planned_machine
from tests.unit.app.support import live, make_run
from tests.unit.plain.support import play
from tests.unit.recipes.planning import GIB, HERE

pytestmark = pytest.mark.unit

NEW = ""
TO_MODEL = (NEW, "", "")
TO_RECIPE = (*TO_MODEL, "", "")
TO_REVIEW = (*TO_RECIPE, "", "")
TO_LAUNCH = (*TO_REVIEW, "")
PAYLOADS = (
    "\x1b]52;c;cGF5bG9hZA==\x07",
    "\x1b]0;payload\x1b\\",
    "\x1b[2J\x1b[31m",
    "\x9b31m",
    "\x1bPpayload\x1b\\",
    "\u202eturned\u2066",
    "\U000e0041",
    "\x08\x08\x7f",
    "[INST] [/x] [bold red]",
)


def kept() -> Draft:
    """The draft that was kept last."""
    found = newest()
    assert found is not None
    return found.draft


def test_home_says_what_is_here_and_the_menu(monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(Path("home"), "20260101-000001-tiny", 40)
    shown, code = play(monkeypatch, "leave")
    assert code == 0
    assert "GPU 0 NVIDIA GeForce RTX 3090 · 12.0 GiB of 24.0 GiB free\n" in shown
    assert "20260101-000001-tiny: finished, step 40 of 100, loss 0.8" in shown
    assert "Bundles: 0.\n1. New training" in shown


def test_the_end_of_input_ends_it_and_within_the_wizard_that_is_an_interruption(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert play(monkeypatch)[1] == 0
    shown, code = play(monkeypatch, *TO_MODEL)
    assert code == 130
    assert shown.endswith("The draft is kept; finetui --plain offers it again.\n")
    shown, code = play(monkeypatch, NEW, "drop", "", "quit")
    assert (code, "The draft is kept" in shown) == (0, True)


def test_enter_alone_leads_to_the_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, _ = play(monkeypatch, *TO_LAUNCH)
    assert "Step 5 of 5: Launch.\n" in shown
    draft = kept()
    assert (draft.model, draft.recipe) == ("tiny", "lora-3090")
    assert draft.out == Path("home/bundles/chats-lora-3090.bundle")
    lock = f"finetui lock --model tiny --data {draft.data[0]} --recipe lora-3090 --out {draft.out}"
    assert lock.replace(draft.data[0], "chats.jsonl") in shown
    assert "user: What is 0 and one?\nassistant: 0 and one is 1.\n" in shown


def test_everything_that_is_resolved_is_said_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, _ = play(monkeypatch, *TO_REVIEW)
    assert "\nmemory, weights: " in shown
    assert "\nlearning_rate=0.0002: recipe\n" in shown
    assert "\nper_device_train_batch_size=" in shown


def test_back_goes_one_question_back_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, _ = play(monkeypatch, *TO_LAUNCH, "back", "back", "back", "back", "back", "back", "leave")
    titles = [line.split(": ")[1] for line in shown.splitlines() if line.startswith("Step ")]
    assert titles == ["Data.", "Model.", "Recipe.", "Review.", "Launch.", "Review.", "Recipe.", "Model.", "Data."]
    assert (kept().model, kept().recipe) == ("tiny", "lora-3090")


def test_a_draft_is_offered_again_where_it_stood(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, *TO_RECIPE)
    shown, _ = play(monkeypatch, NEW, "1")
    assert "A draft is waiting\n" in shown
    assert "Step 3 of 5: Recipe." in shown
    play(monkeypatch, NEW, "drop")
    assert newest() is None


def test_what_the_app_kept_is_offered_here(monkeypatch: pytest.MonkeyPatch) -> None:
    from finetui.app.shell import FinetuiApp
    from tests.unit.app.support import play as press

    monkeypatch.setenv("TERM", "xterm-256color")
    press(FinetuiApp(), "n", "enter", "enter")
    shown, _ = play(monkeypatch, NEW, "continue")
    assert "Step 2 of 5: Model." in shown


def test_every_question_is_explained_and_settings_too(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, _ = play(monkeypatch, "?", NEW, "?", "? lora_alpha", "？gradient_checkpoint_ratio")
    assert "Data: files and folders of chats" in shown
    assert "lora_alpha [adapter]\nScale of the adapter" in shown
    assert "the glossary has no gradient_checkpoint_ratio" in shown


def test_what_is_no_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, code = play(monkeypatch, "99", "²", "hello", "7")
    assert shown.count("That is no answer here") == 3
    assert code == 0


def test_a_path_is_typed_taken_back_and_one_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("more.csv").write_text("question,answer\n" + "".join(f"what is {n}?,it is {n}\n" for n in range(20)))
    shown, _ = play(monkeypatch, NEW, "nowhere.jsonl", "chats.jsonl", "back")
    assert "error: " in shown
    assert "nowhere.jsonl" in shown.partition("error: ")[2]
    assert [Path(word).name for word in kept().data] == ["chats.jsonl"]
    play(monkeypatch, NEW, "drop", "chats.jsonl", "remove", "", "more.csv")
    assert [Path(word).name for word in kept().data] == ["more.csv"]


def test_a_question_about_the_data_is_asked_and_its_answer_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("quiz.csv").write_text("question,answer\n" + "".join(f"what is {n}?,{n}\n" for n in range(20)))
    shown, _ = play(monkeypatch, NEW, "quiz.csv", "2")
    assert "reference" in shown
    assert kept().reading.format == "prompts"


def test_columns_of_no_known_layout_are_said_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("taal.csv").write_text("vraag,antwoord\nhoe gaat het,heel goed dank u\nwat eet u graag,brood met kaas\n")
    shown, _ = play(monkeypatch, NEW, "taal.csv", "no", "user", "assistant")
    assert dict(kept().reading.mapping) == {"user": "vraag", "assistant": "antwoord"}
    assert "2 usable" in shown
    assert "user: hoe gaat het\nassistant: heel goed dank u\n" in shown


def test_one_cannot_go_on_with_data_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("photo.jsonl").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    shown, _ = play(monkeypatch, NEW, "photo.jsonl", "go")
    assert "error:" in shown
    assert "Step 2" not in shown


def test_which_rows_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, _ = play(monkeypatch, NEW, "", "rows", "val_size=0.2", "val_size=-1", "val_size", "learning_rate=1", "", "")
    assert kept().assignments == ("val_size=0.2",)
    assert "val_size cannot be -1" in shown
    assert "val_size [data]" in shown
    assert "There is no setting learning_rate here" in shown
    assert "Step 2 of 5" in shown


def test_a_model_that_is_not_here_can_be_fetched_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, _ = play(monkeypatch, *TO_MODEL, "Qwen/Qwen3-0.6B", "no", "tiny")
    assert "finetui fetch Qwen/Qwen3-0.6B" in shown
    assert "1. Fetch it" in shown


def test_code_of_a_models_own_needs_a_typed_word(monkeypatch: pytest.MonkeyPatch) -> None:
    config = json.loads(Path("home/models/tiny/config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_own.Own"}
    Path("home/models/tiny/config.json").write_text(json.dumps(config))
    shown, _ = play(monkeypatch, *TO_MODEL, "", "", "")
    assert "with your rights" in shown
    assert kept().model == ""
    play(monkeypatch, NEW, "drop", *TO_MODEL[1:], "", "", "accept")
    assert kept().model == "tiny"


def test_the_first_row_is_shown_as_the_model_sees_it_by_another_template(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, _ = play(monkeypatch, *TO_MODEL, "", "row", "template", "alpaca", "row", "go")
    assert "<|im_start|>user\nWhat is 0 and one?<|im_end|>\n" in shown
    assert "### Response:" in shown
    assert kept().template == "alpaca"


def test_a_setting_is_held_against_the_table_kept_and_left_again(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = ("learning_rate=7", "learning_rate=1e-4", "fly=1", "settings")
    shown, _ = play(monkeypatch, *TO_RECIPE, "", *steps)
    assert "learning_rate cannot be 7" in shown
    assert "\nlearning_rate=0.0001: as --set says\n" in shown
    assert "There is no setting fly here" in shown
    assert kept().assignments == ("learning_rate=1e-4",)
    shown, _ = play(monkeypatch, NEW, "continue", "", "go")
    assert "changed: learning_rate from 0.0002 to 1e-4\n" in shown
    play(monkeypatch, NEW, "continue", "back", "", "learning_rate=")
    assert kept().assignments == ()


def test_another_recipe_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, _ = play(monkeypatch, *TO_RECIPE, "no-such", "dora-3090")
    assert "error:" in shown
    assert kept().recipe == "dora-3090"


def test_commands_that_do_the_same_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, *TO_REVIEW, "write")
    assert "finetui lock --model tiny" in Path("home/bundles/chats-lora-3090.sh").read_text()


def test_what_does_not_fit_offers_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    small = planned_machine("rtx3090", 1, HERE)
    gpus = tuple(replace(gpu, free_bytes=GIB // 2) for gpu in small.gpus)
    monkeypatch.setattr("finetui.wizard.probe", lambda: replace(small, gpus=gpus))
    shown, _ = play(monkeypatch, *TO_REVIEW, "accept")
    assert "does not fit" in shown
    assert "Step 5 of 5" in shown
    assert kept().accept_memory


def test_what_lock_refuses_is_told_and_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    good = {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Pim."}]}
    bad = {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": ""}]}
    Path("chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*[good] * 8, bad]))
    shown, code = play(monkeypatch, *TO_LAUNCH, "mine")
    assert "1. Train without the rows that cannot be used." in shown
    assert code == 130
    assert kept().out == Path("home/bundles/mine.bundle")


def test_a_run_that_has_ended_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(Path("home"), "20260101-000001-tiny", 40, status="failed", cause="nan")
    shown, code = play(monkeypatch, "watch", "", "")
    assert "error: " in shown
    assert code == 1
    shown, _ = play(monkeypatch, "watch", "20260101-000001-tiny", "steps")
    assert "step 40 of 100 · loss " in shown
    assert "no run" in play(monkeypatch, "watch", "20990101-0")[0]


def test_the_language_is_switched_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, _ = play(monkeypatch, "language", "leave")
    assert "您想做什么" in shown
    assert Path("home/app.toml").read_text() == 'language = "zh"\n'


def test_the_whole_wizard_in_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, _ = play(monkeypatch, *TO_LAUNCH, "返回", "退出", arguments=("--lang", "zh"))
    for word in ("第 1 步，共 5 步：数据。", "置信度", "放得下", "内存，", "等价的命令：", "草稿已保留"):
        assert word in shown
    assert "What next" not in shown


def test_hostile_names_and_rows_are_said_harmlessly(monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = "".join(PAYLOADS)
    Path("chats.jsonl").unlink()
    row = {"messages": [{"role": "user", "content": hostile + "\nback\rquit"}, {"role": "assistant", "content": "no"}]}
    Path("a" + hostile.replace("/", "") + ".jsonl").write_text((json.dumps(row) + "\n") * 3)
    make_run(Path("home"), "20260101-000001-" + hostile.replace("/", ""), 5, bundle=hostile, model=hostile, **live())
    shown, _ = play(monkeypatch, NEW, "", "rows", f"{hostile}=1", "", "", "", "row", "", "", "", hostile)
    assert "[INST]" in shown
    assert not set(shown) & {"\x1b", "\x9b", "\u202e", "\u2066", "\U000e0041", "\x08", "\x7f", "\x07", "\r"}


def test_neither_textual_nor_torch_is_imported() -> None:
    code = (
        "import io, sys; sys.stdin = io.StringIO('\\n\\n\\n\\n\\n\\n\\n\\n')\n"
        "from finetui.cli.main import run\n"
        "run(['--plain'])\n"
        "found = {'textual', 'torch', 'transformers', 'readline'} & set(sys.modules)\n"
        "sys.exit(str(found) if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Step 4 of 5" in done.stdout
