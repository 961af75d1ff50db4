"""The READMEs: both name the same commands, what they name exists, and each command line can be typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from finetui.cli.main import COMMANDS, finetui

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
READMES = ("README.md", "README.zh-CN.md")
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PLACE = re.compile(r"(?:\.ci|app|bench|bundles|docs|recipes|tests)/[\w./-]*")


def text_of(readme: str) -> str:
    return (ROOT / readme).read_text(encoding="utf-8")


def typed(readme: str) -> list[list[str]]:
    """The words of each line that is to be typed, without remarks."""
    blocks = [block for kind, block in FENCED.findall(text_of(readme)) if kind in ("sh", "toml")]
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]


def calls(readme: str) -> list[list[str]]:
    """The arguments of every call of finetui: in what is to be typed, shown, and mentioned in a sentence."""
    text = text_of(readme)
    shown = [block for kind, block in FENCED.findall(text) if kind == "text"]
    lines = [line.strip().removeprefix("$ ") for block in shown for line in block.splitlines() if "finetui" in line]
    lines = [line for line in lines if line.startswith("finetui ") and " --" in line]
    mentioned = [each for each in re.findall(r"`([^`]+)`", FENCED.sub("", text)) if each.split()[0] == "finetui"]
    found = []
    for words in [*typed(readme), *map(shlex.split, [*lines, *mentioned])]:
        for place, word in enumerate(words):
            if word.split("/")[-1] == "finetui":
                found.append(words[place + 1 :])
    return found


def rest(command: click.Command, words: list[str]) -> list[str]:
    """What is left of the words after those that the command knows.

    Raises click.UsageError for an option that it does not have, or one without its value.
    """
    context = click.Context(command)
    return command.make_parser(context).parse_args(list(words))[1]


def test_each_names_the_other_first() -> None:
    for readme, other in (READMES, READMES[::-1]):
        assert f"]({other})" in "".join(text_of(readme).splitlines()[:4])


def test_both_have_the_same_commands() -> None:
    english, chinese = map(typed, READMES)
    assert english == chinese
    assert len(english) > 20


@pytest.mark.parametrize("readme", READMES)
def test_every_command_line_can_be_typed(readme: str) -> None:
    named = set()
    for words in calls(readme):
        left = rest(finetui, ["run" if word == "COMMAND" else word for word in words])
        if left:
            named.add(left[0])
            assert left[0] in COMMANDS
            command = finetui.get_command(click.Context(finetui), left[0])
            assert command is not None
            left = rest(command, left[1:])
            assert not left or isinstance(command, click.Group)
    assert len(named) > 15


@pytest.mark.parametrize("readme", READMES)
def test_what_is_linked_or_named_exists(readme: str) -> None:
    text = text_of(readme)
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    places = [code for code in re.findall(r"`([^`\n]+)`", FENCED.sub("", text)) if PLACE.fullmatch(code)]
    assert len(places) > 5
    assert [each for each in [*links, *places] if not (ROOT / each).exists()] == []


def test_the_pictures_load_nothing() -> None:
    pictures = sorted((ROOT / "docs" / "screens").glob("*.svg"))
    assert pictures
    for picture in pictures:
        text = picture.read_text(encoding="utf-8")
        assert "url(http" not in text.replace('"', "").replace("'", "")
        assert "@font-face" not in text
