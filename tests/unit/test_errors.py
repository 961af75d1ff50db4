"""Problems as they are shown: harmless, on their own lines, and with a command that can be pasted."""

import json
import shlex

import pytest

from finetui.cli.main import run
from finetui.core.errors import Problem, ShellWords, render
from finetui.core.messages import t

pytestmark = pytest.mark.unit

HOSTILE = "a b;touch pwned $(id) `id` 'q'\x1b]52;c;aGk=\x07\x9b31m\u202e.jsonl"


def test_the_next_command_can_be_pasted_whatever_the_file_is_called() -> None:
    shown = Problem("data.empty-file", file=HOSTILE).next("en")
    assert shown is not None
    words = shlex.split(shown)
    assert words[:2] == ["ls", "-l"]
    assert len(words) == 3


def test_words_that_are_quoted_already_stay_as_they_are() -> None:
    problem = Problem("cli.missing-parameter", {"parameter": "PATH", "command": ShellWords("finetui run")})
    assert problem.next("en") == "finetui run --help"


def test_a_file_name_cannot_add_lines_of_its_own() -> None:
    shown = render([Problem("data.empty-file", file="x\nerror: all is lost")], "en")
    assert [line for line in shown.splitlines() if line.startswith("error")] == [shown.splitlines()[0]]
    assert Problem("data.no-such-path", {"parent": "."}, "a\x1b[31mb").to_json()["file"] == "ab"


def test_a_harmless_name_is_said_once() -> None:
    shown = render([Problem("data.no-such-path", {"parent": "."}, "a\x1b[31mb")], "en")
    assert shown.splitlines()[0] == "error: there is no file or folder ab"


def test_the_place_is_said_unless_the_message_says_it() -> None:
    assert render([Problem("bundles.not-a-bundle", file="d")], "en").startswith("error: d: ")
    assert render([Problem("data.empty-file", file="a.json")], "en").startswith("error: a.json: the file")
    assert render([Problem("data.no-such-path", {"parent": "."}, "x/y.jsonl")], "zh").count("x/y.jsonl") == 1


def test_facts_of_any_type_are_made_harmless() -> None:
    class Foreign:
        def __str__(self) -> str:
            return "x\x1b[2Jy"

    assert t("errors.error", "en", text=Foreign()) == "error: xy"


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_what_the_system_refuses_says_what_was_expected_and_what_to_do(
    lang: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["inspect", "x" * 5000, "--json", "--lang", lang]) == 3
    (problem,) = json.loads(capsys.readouterr().out)["errors"]
    assert problem["next"]
    assert problem["expected"]
    assert len(problem["message"]) < 1000
