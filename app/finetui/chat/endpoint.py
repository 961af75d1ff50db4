"""An OpenAI-compatible endpoint: `POST …/chat/completions`, its answer as a stream of events.

`$OPENAI_BASE_URL` and `$OPENAI_MODEL` name the one at hand. The key in `$OPENAI_API_KEY` is sent to that place alone,
or to OpenAI's own where no other is named; it is never shown, kept, or sent over an open line to another machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from ipaddress import ip_address
from typing import Any
from urllib.parse import SplitResult, urlsplit

import httpx

from finetui.chat.said import Answer, Message
from finetui.chat.settings import Sampling
from finetui.chat.who import ENDPOINT, Piece, Who
from finetui.core.errors import BAD_INPUT, JOB_FAILED, FinetuiError, Problem
from finetui.core.text import one_line

_OPENAI = "https://api.openai.com/v1"
_TIMEOUT = httpx.Timeout(30, connect=10, read=600)
_MOST_CHARACTERS = 1 << 20
_WORDS_SHOWN = 300
_REASONS = {"stop": "stop", "length": "length"}
_DONE = "[DONE]"


class Endpoint:
    """One model at one address; a question is a connection."""

    def __init__(self, who: Who) -> None:
        address, _, self._model = who.reference.partition(" ")
        self.who = who
        self._address = checked_address(address)
        self._ending: Callable[[], object] | None = None

    @property
    def lane(self) -> Endpoint:
        """Every endpoint is its own."""
        return self

    def alive(self) -> bool:
        """Always: the next question is another connection."""
        return True

    def kill(self) -> None:
        """End the answer under way."""
        self.stop()

    def close(self) -> None:
        """Nothing is kept open between questions."""

    def ask(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        on_text: Callable[[str], None],
        stopped: Callable[[], bool],
    ) -> Answer:
        """Answer one conversation.

        Raises FinetuiError (exit 1) where the endpoint cannot be reached, refuses, or answers with something else.
        """
        return asyncio.run(self._ask(messages, sampling, on_text, stopped))

    def stop(self) -> None:
        """End the answer under way by closing its connection."""
        if ending := self._ending:
            with contextlib.suppress(RuntimeError):  # it ended by itself meanwhile
                ending()

    def raw(self, messages: Sequence[Message], answer: Answer | None) -> list[Piece]:
        """The messages that are sent, as JSON, and the text that came: an endpoint does not tell its tokens."""
        sent = [Piece(json.dumps(message, ensure_ascii=False) + "\n", special=True) for message in messages]
        return [*sent, *([Piece(answer.text, answered=True)] if answer else [])]

    async def _ask(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        on_text: Callable[[str], None],
        stopped: Callable[[], bool],
    ) -> Answer:
        heard = _Heard(on_text)
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(self._hear(messages, sampling, heard))
        self._ending = lambda: loop.call_soon_threadsafe(task.cancel)
        started = time.perf_counter()
        if stopped():
            task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            heard.reason = "cancelled"
        finally:
            self._ending = None
        return Answer("".join(heard.parts), heard.reason, heard.tokens, time.perf_counter() - started)

    async def _hear(self, messages: Sequence[Message], sampling: Sampling, heard: _Heard) -> None:
        body = {
            "model": self._model,
            "messages": list(messages),
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
        }
        with _told(self._address):
            async with (
                _client(self._address) as client,
                client.stream("POST", f"{self._address}/chat/completions", json=body) as response,
            ):
                await _refuse(response, self._address)
                async for event in _events(response):
                    if isinstance(event, dict) and event.get("error"):
                        raise _failed("chat.endpoint-refused", self._address, _words_of(event["error"]))
                    heard.take(event)
                    if heard.characters > _MOST_CHARACTERS:
                        heard.reason = "length"
                        return
            heard.end()


class _Heard:
    """What has come of an answer."""

    def __init__(self, on_text: Callable[[str], None]) -> None:
        self.parts: list[str] = []
        self.reason = ""
        self.tokens = 0
        self._on_text = on_text
        self.characters = 0
        self._is_one = False

    def end(self) -> None:
        """Nothing more comes.

        Raises ValueError where nothing came that an endpoint says.
        """
        if not self._is_one:
            raise ValueError
        self.reason = self.reason or "lost"

    def take(self, event: Any) -> None:
        """Take one event; what it does not hold is passed over."""
        self._is_one = True
        if event == _DONE:
            self.reason = self.reason or "stop"
        usage = event.get("usage") if isinstance(event, dict) else None
        if isinstance(usage, dict) and isinstance(usage.get("completion_tokens"), int):
            self.tokens = usage["completion_tokens"]
        choices = event.get("choices") if isinstance(event, dict) else None
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        delta = choice.get("delta")
        text = delta.get("content") if isinstance(delta, dict) else None
        if isinstance(text, str) and text:
            self.characters += len(text)
            self.tokens += 1
            self.parts.append(text)
            self._on_text(text)
        if isinstance(reason := choice.get("finish_reason"), str):
            self.reason = _REASONS.get(reason, reason)


def is_address(reference: str) -> bool:
    """Whether an endpoint is meant."""
    return reference.startswith(("http://", "https://"))


def endpoint_of(reference: str) -> Who:
    """The endpoint of `ADDRESS MODEL`; of an address alone the only model that it has.

    Raises FinetuiError (exit 3) where the address is none, or has several models.
    """
    address, _, model = reference.strip().partition(" ")
    if model.strip():
        return _who(checked_address(address), model.strip())
    found = those_at(address)
    if len(found) != 1:
        models = ", ".join(who.reference.partition(" ")[2] for who in found)
        facts = {"address": checked_address(address), "models": one_line(models or "–", _WORDS_SHOWN)}
        raise FinetuiError(Problem("chat.which-model", facts), BAD_INPUT)
    return found[0]


def those_at(address: str) -> list[Who]:
    """Every model of an address.

    Raises FinetuiError where the address is none (exit 3), or does not tell its models (exit 1).
    """
    address = checked_address(address)
    return [_who(address, model) for model in asyncio.run(_models(address))]


def _who(address: str, model: str) -> Who:
    return Who(ENDPOINT, f"{address} {model}", f"{model} @ {urlsplit(address).netloc}")


def at_hand() -> Iterator[Who]:
    """The endpoint that the environment names, where it names one with its model."""
    address, model = os.environ.get("OPENAI_BASE_URL"), os.environ.get("OPENAI_MODEL")
    if address and model:
        with contextlib.suppress(FinetuiError):
            yield endpoint_of(f"{address} {model}")


def checked_address(address: str) -> str:
    """The address without a slash at its end.

    Raises FinetuiError (exit 3) where it is none, or holds a password: that would be shown and kept with it.
    """
    address = address.strip().rstrip("/")
    try:
        parts = urlsplit(address)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query and not parts.fragment
        _ = parts.port
    except ValueError:
        good = False
    if not good or "@" in parts.netloc:
        raise FinetuiError(Problem("chat.bad-address", {"address": address.rpartition("@")[2]}), BAD_INPUT)
    return address


def _client(address: str) -> httpx.AsyncClient:
    key = _key(address)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.AsyncClient(
        timeout=_TIMEOUT, headers=headers, follow_redirects=False, trust_env=not _is_here(urlsplit(address))
    )


def _key(address: str) -> str | None:
    """The key for an address: only for the place that it was given for, and over a line that others cannot read."""
    key = os.environ.get("OPENAI_API_KEY")
    own = os.environ.get("OPENAI_BASE_URL") or _OPENAI
    there, home = urlsplit(address), urlsplit(own.strip())
    same = (there.scheme, there.netloc) == (home.scheme, home.netloc)
    return key if key and same and (there.scheme == "https" or _is_here(there)) else None


def _is_here(parts: SplitResult) -> bool:
    if parts.hostname == "localhost":
        return True
    try:
        return ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


async def _models(address: str) -> list[str]:
    with _told(address):
        async with _client(address) as client:
            response = await client.get(f"{address}/models")
            await _refuse(response, address)
            found = response.json()
    rows = found.get("data") if isinstance(found, dict) else None
    names = (row.get("id") for row in rows if isinstance(row, dict)) if isinstance(rows, list) else ()
    return [name for name in names if isinstance(name, str) and name]


async def _events(response: httpx.Response) -> AsyncIterator[Any]:
    """The JSON of each event, and `[DONE]` where it comes to it."""
    async for line in response.aiter_lines():
        name, _, text = line.partition(":")
        if name == "data" and (text := text.strip()) == _DONE:
            yield _DONE
            return
        if name == "data" and text:
            yield json.loads(text)


async def _refuse(response: httpx.Response, address: str) -> None:
    """Raises FinetuiError with the endpoint's own words where it did not answer with success."""
    if response.is_success:
        return
    words = (await response.aread())[: 1 << 14].decode("utf-8", "replace")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        words = _words_of(json.loads(words)["error"])
    raise _failed("chat.endpoint-refused", address, f"{response.status_code} {words}")


def _words_of(error: Any) -> str:
    """What an endpoint says of an error, however it wraps it."""
    return str(error["message"] if isinstance(error, dict) and "message" in error else error)


@contextlib.contextmanager
def _told(address: str) -> Iterator[None]:
    """Says what goes wrong on the line in our own words."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise _failed("chat.endpoint-lost", address, str(error) or type(error).__name__) from None
    except (ValueError, RecursionError):
        raise _failed("chat.endpoint-strange", address, "") from None


def _failed(code: str, address: str, words: str) -> FinetuiError:
    """The failure, with no key in its words: some servers repeat the one they were sent."""
    if key := os.environ.get("OPENAI_API_KEY"):
        words = words.replace(key, "***")
    return FinetuiError(Problem(code, {"address": address, "words": one_line(words, _WORDS_SHOWN)}), JOB_FAILED)
