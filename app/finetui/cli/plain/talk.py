"""Asking and being answered by lines: numbered answers, a default in brackets, and words that work everywhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from finetui.cli.common import Output
from finetui.cli.recipes import explained
from finetui.core.errors import INTERRUPTED, FinetuiError, render
from finetui.core.knobs import named
from finetui.core.messages import t
from finetui.core.text import PATH_LIMIT, one_line, safe_text

_EXPLAIN = ("?", "？")
_BACK = ("back", "返回")
_QUIT = ("quit", "退出")


class Back(Exception):
    """One question back."""


class Left(Exception):
    """The conversation is over."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code
        """What the program exits with."""


@dataclass(frozen=True)
class Option:
    """An answer that is offered."""

    word: str
    """What may be typed in place of its number."""
    text: str
    """What is said of it; harmless."""


@dataclass(frozen=True)
class Told(Output):
    """Where commands speak: everything is part of one conversation."""

    plain: bool = True

    def note(self, text: str) -> None:
        """A line like any other."""
        say(text)

    def data(self, text: str) -> None:
        """A line like any other; an empty one ends what was said bit by bit."""
        say(text) if text else print(flush=True)


def say(text: str) -> None:
    """Lines that stand for themselves, each without blanks that only lay out."""
    for line in safe_text(text).splitlines():
        if words := line.split():
            print(" ".join(words), flush=True)


def say_error(error: FinetuiError) -> None:
    """What is wrong, and what to do about it."""
    say(render(error.problems))


def ask(question: str, default: str = "", *, about: str = "") -> str:
    """The words that are typed, or the default for none; `about` explains the question.

    Raises Back and Left where that is asked for, and Left where nobody answers any more.
    """
    while True:
        shown = f" [{one_line(default, PATH_LIMIT)}]" if default else ""
        print(f"{one_line(question, PATH_LIMIT)}{shown}: ", end="", flush=True)
        typed = _line()
        word = typed.lower()
        if word in _BACK:
            raise Back
        if word in _QUIT:
            raise Left(0)
        if typed[:1] in _EXPLAIN:
            _explain(typed[1:].strip(), about)
        else:
            return typed or default


def choose(
    question: str, options: Sequence[Option], default: str = "", *, about: str = "", is_free: bool = False
) -> tuple[str, str]:
    """The word of the option that was chosen by number, word or Enter, and what was typed.

    With `is_free` anything else is an answer too: its word is empty. Raises Back and Left as `ask` does.
    """
    words = [option.word for option in options]
    for number, option in enumerate(options, 1):
        say(t("plain.option", number=number, text=option.text))
    usual = str(words.index(default) + 1) if default in words else ""
    while True:
        typed = ask(question, usual, about=about)
        if typed.isascii() and typed.isdigit() and 0 < int(typed) <= len(words):
            return words[int(typed) - 1], typed
        if typed in words:
            return typed, typed
        if is_free and typed:
            return "", typed
        say(t("plain.no-such-answer", count=len(words)))


def _line() -> str:
    """What is typed, without blanks around it; from a pipe it is said too, as an echo would."""
    try:
        line = sys.stdin.readline()
    except OSError:  # the terminal is gone
        line = ""
    if not line:
        print(flush=True)
        raise Left(INTERRUPTED)
    typed = line.strip()
    if not sys.stdin.isatty():
        print(one_line(typed, PATH_LIMIT), flush=True)
    return typed


def _explain(word: str, about: str) -> None:
    """What is asked; or for `? WORD` what that setting, or that word of another tool, is."""
    if not word:
        for text in filter(None, (about, t("plain.words"))):
            say(text)
        return
    found = named(word)
    for entry in found[:3]:
        say(explained(entry))
    if not found:
        say(t("knobs.unknown-term", word=one_line(word), near=""))
