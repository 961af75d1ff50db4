"""The line mode of `finetui chat`: a conversation from a keyboard or a pipe, with a few commands in between."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetui.cli.chat import answer_json, remark, speaker, variants
from finetui.cli.common import Output
from finetui.core.errors import BAD_INPUT, FinetuiError, render
from finetui.core.messages import t
from finetui.core.text import safe_text

if TYPE_CHECKING:
    from finetui.chat.engine import ChatEngine
    from finetui.chat.said import Answer, Message
    from finetui.chat.settings import Sampling


class Lines:
    """One sitting: what has been said, and who answers."""

    def __init__(
        self, output: Output, engine: ChatEngine, sampling: Sampling, system: str | None, compare: bool
    ) -> None:
        self._output = output
        self._engine = engine
        self._sampling = sampling
        self._system = system
        self._compare = compare
        self._said: list[Message] = []
        self._answers: list[dict[str, Any]] = []

    def live(self) -> list[dict[str, Any]]:
        """Answer lines until /quit or the end of input; all answers as the contract has them."""
        self._output.note(t("chat.ready", name=self._engine.served.name))
        for line in lines_typed(edited=not self._output.plain):
            word, _, rest = line.strip().partition(" ")
            if word == "/quit":
                break
            if word.startswith("/") and (word in self._commands() or not rest):
                self._command(word, rest.strip())
            elif word:
                self._answer(line.strip())
        return self._answers

    def _commands(self) -> dict[str, Callable[[str], None]]:
        return {
            "/help": lambda _: self._output.note(t("chat.help")),
            "/reset": self._reset,
            "/system": self._set_system,
            "/compare": self._toggle_compare,
            "/save": self._save,
        }

    def _command(self, word: str, rest: str) -> None:
        act = self._commands().get(word)
        if act is None:
            self._output.note(t("chat.no-such-command", word=word))
        else:
            act(rest)

    def _reset(self, _: str = "") -> None:
        self._said.clear()
        self._output.note(t("chat.was-reset"))

    def _set_system(self, text: str) -> None:
        self._system = text or None
        self._reset()

    def _toggle_compare(self, _: str) -> None:
        if self._engine.served.adapter is None:
            self._output.note(t("chat.nothing-to-compare", name=self._engine.served.name))
            return
        self._compare = not self._compare
        self._output.note(t("chat.compare-on" if self._compare else "chat.compare-off"))

    def _save(self, file: str) -> None:
        """Append the conversation as one row in the messages layout."""
        if not self._said or not file:
            self._output.note(t("chat.help") if self._said else t("chat.nothing-to-save"))
            return
        try:
            with Path(file).expanduser().open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"messages": self._messages()}, ensure_ascii=False) + "\n")
        except OSError as error:
            self._output.note(t("errors.error", text=f"{file}: {error.strerror}"))
        else:
            self._output.note(t("chat.saved", file=file))

    def _messages(self) -> list[Message]:
        return [*([{"role": "system", "content": self._system}] if self._system else []), *self._said]

    def _answer(self, text: str) -> None:
        """Ask and show; the answer of the last speaker stays in the conversation."""
        self._said.append({"role": "user", "content": text})
        answer: Answer | None = None
        try:
            for variant in variants(self._engine.served, self._compare):
                answer = self._ask(variant)
        except FinetuiError as error:
            if error.exit_code != BAD_INPUT:  # the engine is gone, not just this message refused
                raise
            self._said.pop()
            self._output.note(render(error.problems))
            return
        assert answer is not None
        self._said.append({"role": "assistant", "content": answer.text})

    def _ask(self, variant: str) -> Answer:
        show = not self._output.json
        with interrupt_stops(self._engine) as stopped:
            if show:
                print(speaker(self._engine.served, variant), end="", flush=True)
            answer = self._engine.ask(self._messages(), variant, self._sampling, _print if show else None, stopped)
        self._output.data("")
        if said := remark(answer):
            self._output.note(said)
        self._answers.append(answer_json(self._engine.served, variant, answer))
        return answer


def lines_typed(*, edited: bool) -> Iterator[str]:
    """Lines from the keyboard, or from a pipe. Ctrl+C at the prompt gives a fresh line, and is nothing between prompts.

    `edited` gives history and editing, for which the cursor is moved.
    """
    if not sys.stdin.isatty():
        yield from iter(sys.stdin.readline, "")  # stdin itself would be closed with this generator
        return
    if edited:
        import readline  # noqa: F401 (its import gives input() editing and history)

    at_prompt = False

    def heard(*_: object) -> None:
        nonlocal at_prompt
        if at_prompt:
            at_prompt = False
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, heard)
    try:
        while True:
            try:
                at_prompt = True
                line = input(t("chat.you"))
                at_prompt = False
            except KeyboardInterrupt:
                print(file=sys.stderr)
            except EOFError:
                print(file=sys.stderr)
                return
            else:
                yield line
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def interrupt_stops(engine: ChatEngine) -> Iterator[Callable[[], bool]]:
    """Ctrl+C ends the answer; a second one, where the first does not help, ends the program. Tells whether it came."""
    pressed = False

    def stop(*_: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        engine.stop()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _print(text: str) -> None:
    print(safe_text(text), end="", flush=True)
