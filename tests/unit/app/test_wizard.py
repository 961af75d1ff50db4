"""The wizard: from home to what is locked and started, with keys alone; drafts that survive; what it asks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from finetui.app.screens.help import help_of
from finetui.app.screens.wizard.frame import Wizard
from finetui.app.shell import FinetuiApp
from finetui.core.messages import set_language
from finetui.draft import Draft
from finetui.drafts import Kept, begun, keep, newest
from finetui.hardware.disk import Disk
from finetui.hardware.planned import planned_machine
from tests.tiny import make_tiny_model
from tests.unit.app.support import NARROW, SIZES, assert_golden, play, until
from tests.unit.recipes.planning import GIB, HERE

pytestmark = pytest.mark.unit

TO_MODEL = ("n", "enter", "enter")
TO_RECIPE = (*TO_MODEL, "enter")
TO_REVIEW = (*TO_RECIPE, "enter")
TO_LAUNCH = (*TO_REVIEW, "enter")
STEPS = {"data": TO_MODEL[:2], "model": TO_MODEL, "recipe": TO_RECIPE, "review": TO_REVIEW, "launch": TO_LAUNCH}


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file of chats, a model at home, one RTX 3090; paths are short, the same everywhere."""
    folder = tmp_path / "desk"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FINETUI_HOME", "home")
    for variable in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "MODELSCOPE_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path / "no-cache"))
    make_tiny_model(Path("home/models/tiny"))
    put_chats("chats.jsonl", 40)
    card = planned_machine("rtx3090", 1, HERE)
    monkeypatch.setattr("finetui.wizard.probe", lambda: card)
    monkeypatch.setattr("finetui.hardware.probe.probe", lambda: card)
    disk = Disk("/", "/", "ext4", 200 * GIB, 100 * GIB, None, 1)
    monkeypatch.setattr("finetui.wizard.read_disk", lambda path, mounts: disk)
    return folder


def put_chats(name: str, count: int, spoilt: int = 0) -> None:
    """A file of so many chats, of which some have no answer."""
    rows: list[dict[str, Any]] = []
    for number in range(count):
        answer = "" if number < spoilt else f"{number} and one is {number + 1}."
        asked = {"role": "user", "content": f"What is {number} and one?"}
        rows.append({"messages": [asked, {"role": "assistant", "content": answer}]})
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def draft_of(app: FinetuiApp) -> Draft:
    """The draft of the wizard that is open."""
    return next(screen for screen in app.screen_stack if isinstance(screen, Wizard)).draft


def after(*keys: Any, size: tuple[int, int] = NARROW) -> tuple[str, Draft]:
    """The screen after these keys, and the draft."""
    app, drafts = FinetuiApp(), list[Draft]()

    async def look(pilot: Pilot[Any]) -> None:
        drafts.append(draft_of(app))

    return play(app, *keys, look, size=size), drafts[0]


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("step", STEPS)
def test_each_step_on_defaults(step: str, size: str, lang: str) -> None:
    set_language(lang)
    assert_golden(play(FinetuiApp(), *STEPS[step], size=SIZES[size]), f"wizard-{step}-{size}-{lang}")


def test_on_defaults_everything_is_chosen_with_enter() -> None:
    shown, draft = after(*TO_LAUNCH)
    assert draft == Draft(("chats.jsonl",), "tiny", "lora-3090", Path("home/bundles/chats-lora-3090.bundle"))
    assert "Enter or F5: lock and start" in shown


def test_escape_goes_back_through_the_steps_and_loses_nothing() -> None:
    app, kept = FinetuiApp(), list[Draft]()

    async def look(pilot: Pilot[Any]) -> None:
        kept.append(draft_of(app))

    shown = play(app, *TO_LAUNCH, look, "escape", "escape", "escape", "escape", look, "escape")
    assert kept[0] == kept[1]
    assert "home" in shown.splitlines()[0]
    found = newest()
    assert found is not None
    assert replace(found.draft, data=("chats.jsonl",)) == kept[0]


def test_a_draft_of_a_closed_line_is_offered_and_gone_on_with_where_it_stood() -> None:
    play(FinetuiApp(), *TO_RECIPE)  # the app ends without a word to the wizard
    shown = play(FinetuiApp(), "n")
    assert "A draft is waiting" in shown
    shown, draft = after("n", "enter")
    assert "✓ Data  ›  ✓ Model  ›  3 Recipe" in shown
    assert (draft.model, draft.recipe) == ("tiny", "lora-3090")


def test_a_draft_is_found_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUI_HOME", str(tmp_path / "desk" / "home"))
    play(FinetuiApp(), "n", "enter")
    monkeypatch.chdir(tmp_path)
    _, draft = after("n", "enter")
    assert draft.data == (str(tmp_path / "desk" / "chats.jsonl"),)


def test_a_draft_can_be_removed() -> None:
    play(FinetuiApp(), "n", "enter")
    play(FinetuiApp(), "n", "down", "down", "enter")
    assert newest() is None


def test_what_was_written_of_a_draft_is_read_again() -> None:
    draft = Draft(("a@2",), "m", "lora-3090", Path("x.bundle"), ("r=8",), gpu="h200:2", price=2.5, accept_memory=True)
    kept = keep(Kept(begun().path, draft.reading_as(("--map", "user=q,assistant=a")), "review"))
    assert newest() == kept


def test_a_broken_draft_is_passed_over() -> None:
    Path("home/drafts").mkdir()
    Path("home/drafts/20260101-000000-1.json").write_text('{"version": 1, "choices": []}')
    assert newest() is None


def test_a_path_is_completed_and_its_format_stands_beside_it() -> None:
    Path("chess.csv").write_text("question,answer\nwhat is a rook,a piece\n")
    shown = play(FinetuiApp(), "n", *"che")
    assert "chess.csv" in shown
    assert "query-response" in shown
    assert "chats.jsonl" not in shown
    assert "chess.csv" in play(FinetuiApp(), "n", *"che", "tab").splitlines()[3]
    assert focused(("n", "down", "enter", *"che", "tab")) == "path"
    shown, draft = after("n", "down", "enter", *"che", "tab", "enter")
    assert draft.data == ("chess.csv",)


def test_every_file_near_by_has_its_format_beside_it_however_long_its_name() -> None:
    for number in range(30):
        Path(f"{'a' * 70}-{number:02}.jsonl").write_text('{"prompt": "p", "completion": "c"}\n' * 3)
    shown = play(FinetuiApp(), "n", *["end"] * 2, "down", "end")
    assert shown.count("prompt-completion") == len([line for line in shown.splitlines() if "aaa" in line]) > 10


def test_where_nothing_begins_like_what_was_typed_it_is_said() -> None:
    assert "Nothing here begins like this" in play(FinetuiApp(), "n", *"zzz")


def test_delete_in_the_empty_path_takes_back_what_was_chosen_last() -> None:
    put_chats("more.jsonl", 3)
    shown, draft = after("n", "enter", *"more.jsonl", "enter", "delete")
    assert draft.data == ("chats.jsonl",)
    assert "Del remove" in shown
    _, draft = after("n", "down", "enter", "enter", *"chats", "left", "delete", "enter")  # erases in what is typed
    assert draft.data == ("chats.jsonl",)


def test_f6_leads_from_the_catalogue_to_the_settings_and_back() -> None:
    shown = play(FinetuiApp(), *TO_RECIPE, "f6")
    assert "Enter change" in shown
    shown = play(FinetuiApp(), "n", "down", "enter", *TO_RECIPE[1:], "f6", "f6")
    assert "Enter choose" in shown
    assert "F6 settings" in shown


def test_the_setting_that_is_typed_has_its_name_beside_it_and_f1_explains_it() -> None:
    shown = play(FinetuiApp(), *TO_RECIPE, "f6", "enter")
    assert "learning_rate =" in shown
    assert "Enter take" in shown
    assert "Peak step size" in play(FinetuiApp(), "n", "down", "enter", *TO_RECIPE[1:], "f6", "enter", "f1")


def test_what_has_the_focus_is_explained_in_every_step() -> None:
    for keys in STEPS.values():
        app = FinetuiApp()
        fresh = ("n", "down", "enter", *keys[1:]) if newest() else keys
        seen: set[str] = set()

        async def walk(pilot: Pilot[Any], app: FinetuiApp = app, seen: set[str] = seen) -> None:
            while (node := app.focused) is not None and node.id not in seen:
                assert help_of(node), node.id
                seen.add(str(node.id))
                app.screen.focus_next()

        play(app, *fresh, walk)
        assert seen


def test_data_is_taken_back() -> None:
    shown, draft = after("n", "enter", "tab", "delete")
    assert draft.data == ()
    assert "chats.jsonl" in shown


def test_a_question_about_the_data_is_asked_and_its_answer_taken() -> None:
    Path("quiz.csv").write_text("question,answer\n" + "".join(f"what is {n}?,{n}\n" for n in range(20)))
    shown = play(FinetuiApp(), "n", *"quiz.csv", "enter")
    assert "reference" in shown
    _, draft = after("n", *"quiz.csv", "enter", "down", "enter")
    assert draft.reading.format == "prompts"


def test_columns_of_no_known_layout_are_said_one_by_one() -> None:
    rows = "hoe gaat het,heel goed dank u\nwat eet u graag,brood met kaas\n"
    Path("taal.csv").write_text("vraag,antwoord\n" + rows)
    shown = play(FinetuiApp(), "n", *"taal.csv", "enter")
    assert "Which column is what?" in shown
    assert "heel goed dank u" in next(line for line in shown.splitlines() if line.startswith(" antwoord"))
    say = ("down", "enter", "enter", "down", "enter", "down", "enter")
    shown, draft = after("n", *"taal.csv", "enter", *say)
    assert dict(draft.reading.mapping) == {"user": "vraag", "assistant": "antwoord"}
    assert "2 usable" in shown


def test_one_cannot_go_on_without_data_or_with_data_of_nothing() -> None:
    Path("chats.jsonl").unlink()
    assert "Choose some data first" in play(FinetuiApp(), "n", "f5")
    Path("photo.jsonl").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    shown = play(FinetuiApp(), "n", *"photo.jsonl", "enter", "f5")
    assert "error:" in shown
    assert "1 Data" in shown


def test_one_cannot_go_on_with_data_of_which_no_row_can_be_used() -> None:
    put_chats("chats.jsonl", 5, spoilt=5)
    for key in ("f5", "enter"):
        shown = play(FinetuiApp(), "n", *([] if newest() is None else ["down", "enter"]), "enter", key)
        assert "None of the 5 rows can be used" in shown
        assert "1 Data" in shown


@pytest.mark.parametrize("word", ["nosuch.jsonl", "no/such"])
def test_a_path_that_is_nowhere_is_not_taken_and_stays_to_be_mended(word: str) -> None:
    shown, draft = after("n", *word, "enter")
    assert draft.data == ()
    assert "error:" in shown
    assert word in shown.splitlines()[3]


def test_which_rows_are_taken_is_a_form_in_the_first_step() -> None:
    shown, draft = after("n", "enter", "f6", "down", "enter", "backspace", "backspace", "backspace", *"0.2", "enter")
    assert draft.assignments == ("val_size=0.2",)
    shown = play(FinetuiApp(), "n", "down", "enter", "enter", "f6", "down", "enter", *"9")
    assert "val_size" in shown


def test_a_model_that_is_not_here_is_refused_with_the_way_to_it() -> None:
    keys = (*TO_MODEL, "shift+tab", *"Qwen/Qwen3-0.6B", "enter")
    assert "Fetch it" in play(FinetuiApp(), *keys)
    shown = play(FinetuiApp(), "n", "down", "enter", *keys[1:], "escape")
    assert "finetui fetch Qwen/Qwen3-0.6B" in shown


def test_what_is_typed_in_a_list_goes_to_the_line_above_it() -> None:
    make_tiny_model(Path("home/models/qwer"))
    assert focused((*TO_MODEL, *"qw")) == "name"
    shown, draft = after("n", "down", "enter", *TO_MODEL[1:], *"qwe")
    assert shown.splitlines()[3].strip() == "qwe"
    shown, draft = after("n", "down", "down", "enter", *TO_MODEL[1:], *"qwer", "enter")
    assert draft.model == "qwer"
    assert "✓ Model" in shown
    shown, draft = after("n", "down", "enter", "down", *"q")
    assert "Nothing here begins like this" in shown


def test_no_letter_ends_the_wizard_or_answers_a_question() -> None:
    for keys in STEPS.values():
        fresh = ("n", "down", "enter", *keys[1:]) if newest() else keys
        app = FinetuiApp()

        async def press(pilot: Pilot[Any], app: FinetuiApp = app) -> None:
            for _ in range(4):
                await pilot.press("q")
                assert app._exit is False
                app.screen.focus_next()

        play(app, *fresh, press)
    shown, _ = after("n", "down", "enter", *TO_MODEL[1:], "f6", "q")
    assert "alpaca" in shown


def test_code_of_a_models_own_needs_consent() -> None:
    config = json.loads(Path("home/models/tiny/config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_own.Own"}
    Path("home/models/tiny/config.json").write_text(json.dumps(config))
    shown = play(FinetuiApp(), *TO_MODEL, "enter")
    assert "code of its own" in shown
    _, draft = after(*TO_MODEL, "enter", "escape")
    assert draft.model == ""
    _, draft = after("n", "down", "enter", *TO_MODEL[1:], "enter", "down", "enter")
    assert draft.model == "tiny"


def test_another_template_shows_in_the_row() -> None:
    shown, draft = after(*TO_MODEL, "f6", "down", "down", "down", "down", "enter")
    assert draft.template == "alpaca"
    assert "### Response:" in shown


def test_a_setting_moves_the_prediction_as_it_is_typed_and_is_refused_in_place() -> None:
    app = FinetuiApp()
    edit = (*TO_RECIPE, "tab", *["down"] * 3, "enter", *["backspace"] * 3)

    async def steps(pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: "15 steps" in str(pilot.app.screen.query_one("#prediction").render()), "15 steps")

    shown = play(app, *edit, "5", steps)
    assert "num_train_epochs" in shown
    shown = play(FinetuiApp(), "n", "down", "enter", *TO_RECIPE[1:], "tab", "enter", *["backspace"] * 6, *"7")
    assert "learning_rate cannot be 7" in shown


def test_a_setting_is_kept_marked_in_review_and_left_to_the_recipe_again() -> None:
    keys = (*TO_RECIPE, "tab", "enter", *["backspace"] * 6, *"1e-4", "enter")
    _, draft = after(*keys)
    assert draft.assignments == ("learning_rate=1e-4",)
    shown, _ = after("n", "enter", "f5")
    assert "learning_rate  0.0002 → 1e-4" in shown
    _, draft = after("n", "enter", "escape", "tab", "delete")
    assert draft.assignments == ()


def test_commands_that_do_the_same_are_copied_and_written() -> None:
    app = FinetuiApp()
    play(app, *TO_REVIEW, "c", "w")
    lock = "finetui lock --model tiny --data chats.jsonl --recipe lora-3090 --out home/bundles/chats-lora-3090.bundle"
    run = "finetui run home/bundles/chats-lora-3090.bundle --detach"
    assert app.clipboard == f"{lock}\n{run}\n"
    assert Path("home/bundles/chats-lora-3090.sh").read_text() == f"#!/bin/sh\nset -e\n{lock}\n{run}\n"


def test_what_does_not_fit_asks_for_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    small = planned_machine("rtx3090", 1, HERE)
    gpus = tuple(replace(gpu, free_bytes=GIB // 2) for gpu in small.gpus)
    monkeypatch.setattr("finetui.wizard.probe", lambda: replace(small, gpus=gpus))
    shown = play(FinetuiApp(), *TO_REVIEW, "f5")
    assert "It does not fit" in shown
    assert "Lock it all the same" in shown


def test_hostile_names_and_rows_are_shown_as_they_are() -> None:
    name = "[INST]\x1b]52;c;aGk=\x07.jsonl"
    Path("chats.jsonl").unlink()
    row = {"messages": [{"role": "user", "content": "[/x] \x1b[2Jhi"}, {"role": "assistant", "content": "<b>no</b>"}]}
    Path(name).write_text((json.dumps(row) + "\n") * 3)
    shown = play(FinetuiApp(), "n", "enter", size=SIZES["120x40"])
    assert "\x1b" not in shown
    assert "[/x]" in shown
    assert "[INST]" in shown


def test_the_language_is_switched_within_a_step() -> None:
    shown = play(FinetuiApp(), *TO_RECIPE, "f3")
    assert "配方" in shown
    assert "放得下" in shown


def test_the_language_is_switched_while_a_value_is_typed_that_does_not_hold() -> None:
    assert "不能是 7" in play(FinetuiApp(), *TO_RECIPE, "f6", "enter", *["backspace"] * 6, "7", "f3")


def focused(keys: Sequence[str]) -> str | None:
    """The id of what has the focus after these keys."""
    app, ids = FinetuiApp(), list[str | None]()

    async def look(pilot: Pilot[Any]) -> None:
        ids.append(app.focused.id if isinstance(app.focused, Input) else None)

    play(app, *keys, look)
    return ids[0]


def test_the_path_has_the_focus_at_first() -> None:
    assert focused(["n"]) == "path"


def test_a_small_terminal_and_one_without_utf8_show_every_step() -> None:
    for keys in STEPS.values():
        app = FinetuiApp(ascii_only=True)
        fresh = ("n", "down", "enter", *keys[1:]) if newest() else keys
        assert play(app, *fresh, size=(40, 12)).isascii()
