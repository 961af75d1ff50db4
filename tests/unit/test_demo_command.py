"""`finetui demo` on the screen: the table in 80 columns, harmless whatever the models say, and a step that fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetui.chat.engine import TextStream
from finetui.cli.common import Output
from finetui.cli.demo import show_table
from finetui.cli.main import run
from finetui.core.errors import MACHINE, FinetuiError, Problem
from finetui.core.text import safe_text
from finetui.demo.flow import Demo, played
from finetui.demo.scoring import Question, Reply

pytestmark = pytest.mark.unit


def columns(line: str) -> int:
    """How wide a terminal draws a line."""
    from rich.cells import cell_len

    return cell_len(line)


def shown(demo: Demo, capsys: pytest.CaptureFixture[str]) -> str:
    show_table(Output(plain=True), demo)
    return capsys.readouterr().out


def asked(question: Question, base: str, tuned: str) -> Demo:
    return Demo(questions=[question], general=[], base=[Reply(base, False)], tuned=[Reply(tuned, True)])


def test_the_table_fits_80_columns_with_wide_characters(capsys: pytest.CaptureFixture[str]) -> None:
    question = Question("你们的营业时间是几点？" * 5, "zh", every=("10",))

    table = shown(asked(question, "我不知道。" * 40, "10 点到 19 点营业。"), capsys)

    assert max(map(columns, table.splitlines())) <= 80
    assert "✗ 我不知道" in table
    assert "✓ 10 点" in table


def test_what_models_say_is_shown_harmlessly_and_without_markup(capsys: pytest.CaptureFixture[str]) -> None:
    question = Question("?", "en", every=("x",))

    table = shown(asked(question, "\x1b]52;c;aGk=\x07[/x][red]\x9b2J", "a\r\n:smile: \u202eevil"), capsys)

    assert "[/x][red]" in table
    assert ":smile:" in table
    assert table == safe_text(table)


@pytest.fixture
def broken_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in place of the model's wheel that is none."""
    path = tmp_path / "broken.whl"
    path.write_bytes(b"no wheel")
    monkeypatch.setenv("FINETUI_DEMO_WHEEL", str(path))
    return path


def test_a_step_that_fails_is_named_before_its_own_problems(
    broken_wheel: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["demo", "--json"])

    out, err = capsys.readouterr()
    errors = json.loads(out)["errors"]
    assert code != 0
    assert errors[0]["code"] == "demo.failed"
    assert "step 1 of 8, model" in errors[0]["message"]
    assert len(errors) > 1
    assert "[1/8]" in err


def test_what_is_done_is_named_and_kept(tmp_path: Path) -> None:
    demo = Demo(model=tmp_path)

    with pytest.raises(FinetuiError) as caught, played("merge", demo):
        raise FinetuiError(Problem("merge.no-adapter", {"folder": "x"}), MACHINE)

    first, *rest = caught.value.problems
    assert caught.value.exit_code == MACHINE
    assert "step 6 of 8, merge" in first.message("en")
    assert str(tmp_path) in first.message("en")
    assert [problem.code for problem in rest] == ["merge.no-adapter"]


@pytest.mark.parametrize("text", ["plain", "好的，我是 Milo。", "🙂👍🏽 né", "a\ufffdb", "\ufffd"])
def test_streamed_text_is_whole_characters_and_nothing_is_lost(text: str, tiny_model: Path) -> None:
    from finetui.core.encode import load_tokenizer

    tokenizer = load_tokenizer(tiny_model)
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    stream = TextStream(tokenizer)

    pieces = [stream.push([token]) for token in ids]

    assert all(piece in text for piece in pieces)
    assert "".join(pieces) + stream.finish() == text
    assert len(ids) == len(text.encode())


def test_bytes_that_are_no_text_still_come_out(tiny_model: Path) -> None:
    from finetui.core.encode import load_tokenizer

    tokenizer = load_tokenizer(tiny_model)
    ids = [token for token in range(256) if tokenizer.decode([token]) == "\ufffd"][:6] + tokenizer.encode("ok").ids
    stream = TextStream(tokenizer)

    assert "".join(stream.push([token]) for token in ids) + stream.finish() == tokenizer.decode(ids)
