"""`finetui preview`: rows of every kind as the model will see them, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetui.cli.main import run
from tests.encoding import assistant, call, user, write_model

pytestmark = pytest.mark.unit

CHATS = [{"messages": [user(f"question {n}"), assistant(f"answer {n}")]} for n in range(1, 5)]
EMPTY = {"messages": [user("question"), assistant("")]}
PAIR = {"prompt": [user("Hi")], "chosen": [assistant("Hello.")], "rejected": [assistant("Go away.")]}


def put(path: Path, rows: list[Any]) -> str:
    """A JSONL file of these rows, and its name."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def preview(tmp_path: Path, tiny_model: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    """Previews rows under the tiny model; gives what was printed, after checking the exit code."""

    def call(rows: list[Any] | str, *options: str, exit_code: int = 0, model: Path | None = tiny_model) -> str:
        name = rows if isinstance(rows, str) else put(tmp_path / "rows.jsonl", rows)
        with_model = ["--model", str(model)] if model else []
        assert run(["preview", name, *with_model, "--plain", *options]) == exit_code
        shown = capfd.readouterr()
        return shown.out if exit_code in (0, 3) and shown.out else shown.err

    return call


def test_what_is_trained_stands_between_marks_and_the_stop_token_has_a_sign(preview: Any) -> None:
    shown = preview(CHATS, "--row", "2")
    assert "<|im_start|>user\nquestion 2<|im_end|>\n<|im_start|>assistant\n⟦answer 2■<|im_end|>⟧" in shown
    assert "⟦question" not in shown


def test_several_rows_and_what_lies_between_them(preview: Any) -> None:
    rows = [CHATS[0], CHATS[1], EMPTY, "{", CHATS[2]]
    shown = preview(rows, "--row", "2", "--count", "3")
    assert "⟦answer 2" in shown
    assert "empty-assistant" in shown
    assert '{"messages": [{"role": "user", "content": "question"}' in shown
    assert "not-an-object" in shown
    assert "answer 1" not in shown
    assert "answer 3" not in shown


def test_a_row_that_was_set_aside_is_shown_with_its_code_and_raw_text(preview: Any) -> None:
    rows = [*CHATS, EMPTY]
    (told,) = json.loads(preview(rows, "--row", "5", "--json", exit_code=3))["rows"]
    assert (told["row"], told["line"]) == (5, 5)
    assert told["byte"] == sum(len(json.dumps(row)) + 1 for row in CHATS)
    assert told["rejected"]["code"] == "empty-assistant"
    assert told["rejected"]["detail"] == "messages[1].content"
    assert told["rejected"]["raw"].strip() == json.dumps(EMPTY)
    assert "an empty answer" in preview(rows, "--row", "5", exit_code=3)


def test_a_cutoff_is_a_line_with_what_lies_beyond_it(preview: Any) -> None:
    shown = preview(CHATS[:1], "--max-length", "33")
    before, line, after = shown.partition("✂ cut after 33 tokens: ")
    assert line
    assert after.startswith("6 more follow, 5 of them trained\n")
    assert "⟦" in before
    assert "■<|im_end|>⟧" in after
    view = json.loads(preview(CHATS[:1], "--max-length", "33", "--json"))["rows"][0]["views"][0]
    assert view["cut"] == {"tokens": 6, "trained": 5}
    assert view["tokens"] == 39
    assert "✂" not in preview(CHATS[:1], "--max-length", "39")


def test_preference_shows_both_answers(preview: Any) -> None:
    shown = preview([PAIR])
    assert "the better answer" in shown
    assert "⟦Hello.■<|im_end|>⟧" in shown
    assert "⟦Go away.■<|im_end|>⟧" in shown
    assert "⟦Hi" not in shown
    views = json.loads(preview([PAIR], "--json"))["rows"][0]["views"]
    assert [(view["side"], view["stopped"]) for view in views] == [("chosen", True), ("rejected", True)]


def test_feedback_shows_its_label(preview: Any) -> None:
    row = {"prompt": [user("Hi")], "completion": [assistant("Hello.")], "label": False}
    assert "labelled bad" in preview([row])
    assert "labelled good" in preview([{**row, "label": True}])
    assert json.loads(preview([row], "--json"))["rows"][0]["label"] is False


def test_text_is_trained_but_for_its_first_token_and_ends_in_a_stop_token(preview: Any) -> None:
    shown = preview([{"text": "Once upon a time."}, {"text": "The end."}])
    assert "O⟦nce upon a time.■<|im_end|>⟧" in shown
    assert "18 tokens, 17 of them trained" in shown


def test_a_prompt_alone_is_what_serving_sends(preview: Any) -> None:
    shown = preview([{"prompt": [user("Hi")]}])
    assert "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n" in shown
    assert "no stop token" not in shown


def test_segments_tokens_and_steps(preview: Any) -> None:
    segments = [{"label": False, "text": "Ask: "}, {"label": True, "text": "you"}]
    shown = preview([{"segments": segments}])
    assert "Ask: ⟦you⟧" in shown
    assert "the last trained token, u, is no stop token" in shown
    ids = {"input_ids": [72, 105, 258, 72], "labels": [-100, 105, 258, -100]}
    assert "⟦" in preview([ids])
    shown = preview([{"prompt": "1+1?", "completions": ["2", "so 3"], "labels": [True, False]}])
    assert "1+1?2✓\nso 3✗" in shown


def test_ids_of_another_model_are_told(preview: Any) -> None:
    shown = preview([{"input_ids": [1, 511111], "labels": [1, 511111]}], exit_code=3)
    assert "no token 511111" in shown


def test_raw_shows_the_record_and_needs_no_model(preview: Any) -> None:
    alpaca = {"instruction": "Add.", "input": "1 2", "output": "3", "id": 7}
    shown = preview([alpaca], "--raw", model=None)
    assert '"content": "Add.\\n1 2"' in shown
    told = json.loads(preview([alpaca], "--raw", "--json", model=None))["rows"][0]
    assert told["record"] == {"messages": [user("Add.\n1 2"), assistant("3")], "meta": {"id": 7}}
    assert "--model" in preview([alpaca], model=None, exit_code=2)


def test_what_the_template_refuses_is_said_of_that_row_alone(
    preview: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    strict = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system, please.') }}{% endif %}" + (
        "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
    )
    folder = write_model(tmp_path / "strict", strict)
    rows = [{"messages": [{"role": "system", "content": "x"}, *CHATS[0]["messages"]]}, CHATS[1]]
    shown = preview(rows, "--count", "2", model=folder)
    assert "No system, please." in shown
    assert "⟦answer 2■</s>⟧" in shown
    assert preview(rows, model=folder, exit_code=3)


def test_what_the_template_leaves_out_is_told(preview: Any) -> None:
    rows = [{"messages": [user("Hi"), assistant("Hello.", thinking="Hm.")]}]
    assert "leaves out part of message 2: thinking" in preview(rows)
    rows = [{"messages": [user("Hi"), assistant("Hello.", train=False)]}]
    assert "nothing of it is trained" in preview(rows)


def test_foreign_text_cannot_command_the_terminal(preview: Any) -> None:
    hostile = "a\x1b]52;c;ZXZpbA==\x07b\x9b31m\u202ec"
    for row in (
        {"messages": [user(hostile), assistant(hostile)]},
        {"messages": [user(hostile), assistant("")]},
        {"messages": [user("Hi"), assistant(tool_calls=[call(hostile, {hostile: 1})])]},
    ):
        for raw in ([], ["--raw"]):
            shown = preview([row, CHATS[0]], "--count", "2", *raw)
            assert "\x1b" not in shown
            assert "\u202e" not in shown
            assert "\x9b" not in shown


def test_rows_are_counted_in_the_first_file_that_has_so_many(
    preview: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    put(tmp_path / "data" / "a.jsonl", CHATS[:1])
    put(tmp_path / "data" / "b.jsonl", CHATS[1:])
    shown = preview(str(tmp_path / "data"), "--row", "3", "--count", "5")
    assert "answer 4" in shown
    assert "answer 3" not in shown
    shown = preview(str(tmp_path / "data"), "--row", "9", exit_code=3)
    assert "there is no row 9" in shown


def test_a_file_that_breaks_off_shows_the_rows_before(preview: Any, tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text(json.dumps(CHATS)[:-20])
    shown = preview(str(tmp_path / "cut.json"), "--row", "2", "--count", "9")
    assert "answer 2" in shown
    assert "answer 3" in shown


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--sample", "5"], "--sample"),
        (["--full"], "--full"),
        (["--eval-data", "x"], "--eval-data"),
        (["--stats", "--row", "2"], "--row"),
        (["--stats", "--raw"], "--raw"),
    ],
)
def test_options_that_do_not_go_together_are_refused(preview: Any, options: list[str], word: str) -> None:
    assert word in preview(CHATS, *options, exit_code=2)
