"""The command line: light, in both languages, and with every error in words and in its exit code."""

import json
import subprocess
import sys

import pytest

from finetui.cli.main import COMMANDS, run

pytestmark = pytest.mark.unit

HEAVY = ("torch", "transformers", "datasets", "peft", "trl", "accelerate", "textual", "pyarrow", "tokenizers", "numpy")


def imported_by(*arguments: str) -> set[str]:
    code = (
        "import sys; from finetui.cli.main import run; run(sys.argv[1:]);"
        "print('\\n'.join(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"], ["inspect", "--help"], ["run", "--help"]])
def test_help_never_imports_what_is_heavy(arguments: list[str]) -> None:
    assert imported_by(*arguments).isdisjoint(HEAVY)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_in_both_languages(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help", "--lang", "en"]) == 0
    english = capsys.readouterr().out
    assert run([name, "--help", "--lang", "zh"]) == 0
    chinese = capsys.readouterr().out
    assert english.startswith("Usage: finetui ")
    assert chinese.startswith("用法：finetui ")
    assert "--json" in english
    for line in chinese.splitlines()[1:]:
        if line.startswith("  -") and len(line) > 40:
            assert any(ord(character) > 0x2E80 for character in line), line


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["conver"]) == 2
    assert "finetui convert" in capsys.readouterr().err


def test_usage_errors_are_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", "--bundel", "x", "--json"]) == 2
    shown = json.loads(capsys.readouterr().out)
    assert shown["errors"][0]["code"] == "cli.no-such-option"
    assert set(shown["errors"][0]) == {"code", "message", "file", "line", "expected", "next"}


def test_an_unforeseen_error_shows_one_line_and_keeps_the_traceback_in_a_file(
    home: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetui.cli.recipes.catalogue", lambda: 1 / 0)
    assert run(["recipes"]) == 1
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    assert "ZeroDivisionError" in shown.err
    assert ".log" in shown.err


@pytest.mark.parametrize(
    "words", [("watch", "x", "--price"), ("run", "x", "--price"), ("stop", "x", "--grace"), ("clean", "--days")]
)
@pytest.mark.parametrize("value", ["nan", "inf", "-1", "cheap"])
def test_what_is_no_finite_number_from_0_on_is_refused(
    words: tuple[str, ...], value: str, home: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, value, "--lang", "zh"]) == 2
    shown = capsys.readouterr().err
    assert f"{words[-1]} 不正确：{value}" in shown
    assert "range" not in shown


def test_glossary_covers_one_knob_and_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipes", "explain", "lora_dropout", "--lang", "zh"]) == 0
    assert "死记硬背" in capsys.readouterr().out
    assert run(["recipes", "explain", "lora_dropuot"]) == 2
    assert "lora_dropout" in capsys.readouterr().err


@pytest.mark.parametrize("gpus", ["", "x", "0,", "0;1", "-1", "0\x1b[31m"])
def test_what_is_no_list_of_gpus_is_refused_before_anything_starts(
    gpus: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("run", "replay", "chat"):
        assert run([command, "somewhere", "--gpus", gpus, "--json"]) == 2
        assert json.loads(capsys.readouterr().out)["errors"][0]["code"] == "cli.bad-parameter"
