"""How a template reads messages: found by rendering small conversations with it, never by its name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar

from finetui.core.encode.jinja import EncodeError, Message, render_adapted
from finetui.core.encode.template import Template

_THINKING_KEYS = ("reasoning_content", "reasoning", "thinking", "thought", "thoughts")
_UNFINISHED_TOKEN = re.compile(r"[<\[][^<>\[\]\s]*\Z")
_LAST_TOKEN = re.compile(r"(?:[<\[][^<>\[\]]*[>\]]|[^\s<>\[\]]+)\s*\Z")
_THOUGHT = re.compile(r"\s*<think>(.*?)</think>(.*)\Z", re.DOTALL)
_USER, _ANSWER, _CALL, _VALUE, _RESULT = "Qprobe", "Aprobe", "Cprobe", "Vprobe", "Rprobe"
_ID = "probe1234"
_ABSENT = object()
_Text = TypeVar("_Text", str, list[int])


@dataclass(frozen=True)
class Reading:
    """What one template expects of a message, and what it writes around an answer."""

    blocks: bool = False
    """Content is a list of text blocks."""
    thinking_key: str | None = None
    """The key that thinking is read from; None where the template has no place for it."""
    arguments_as_text: bool = False
    """A call's arguments are JSON in a string; else an object."""
    empty_content: object = ""
    """The content of an answer that is only a tool call: an empty string, None, or left out."""
    headers: tuple[str, ...] = ()
    """What serving writes before an answer, as it stands in a whole conversation; never trained. Longest first."""
    after_turn: str = ""
    """What stands between an answer and the next user text."""
    tail: str = ""
    """What stands after the last answer."""
    call_tail: str = ""
    """What stands after the last value of a tool call that ends a conversation."""

    def adapt(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Canonical messages in the shape that the template reads."""
        return [self._adapt(self.without_inline_thinking(message)) for message in messages]

    def without_inline_thinking(self, message: Message) -> Message:
        """The message, a leading `<think>…</think>` moved out of its content where the template has a key for it."""
        content = message.get("content")
        if self.thinking_key is None or message["role"] != "assistant" or "thinking" in message:
            return message
        found = _THOUGHT.match(content) if isinstance(content, str) else None
        if found is None or "</think>" in found[2]:
            return message
        thinking = {"thinking": found[1].strip("\n")} if found[1].strip() else {}
        return {**message, "content": found[2].lstrip("\n"), **thinking}

    def _adapt(self, message: Message) -> dict[str, Any]:
        adapted = {key: value for key, value in message.items() if key not in ("train", "thinking", "content")}
        content = message.get("content") or ""
        calls = message.get("tool_calls")
        if not content and calls:
            content = self.empty_content
        if content is not _ABSENT:
            adapted["content"] = [{"type": "text", "text": content}] if self.blocks and content else content
        if message.get("thinking") and self.thinking_key is not None:
            adapted[self.thinking_key] = message["thinking"]
        if calls and self.arguments_as_text:
            adapted["tool_calls"] = [_with_text_arguments(call) for call in calls]
        return adapted


@lru_cache(maxsize=64)
def read(template: Template, with_tools: bool = False) -> Reading:
    """Find out how `template` reads messages; a few small renderings, once per template.

    `with_tools` asks about the source that a conversation with tools uses.
    """
    if with_tools and template.tool_use is not None:
        template = replace(template, text=template.tool_use)
    template = replace(template, tool_use=None)
    reading = Reading()
    if _USER not in _try(template, [_user()]) and _USER in _try(template, Reading(blocks=True).adapt([_user()])):
        reading = Reading(blocks=True)
    reading = replace(reading, thinking_key=_thinking_key(template, reading))
    reading = _read_calls(template, reading)
    return _read_frame(template, reading)


def common_prefix(first: _Text, second: _Text) -> _Text:
    """The longest beginning that two texts, or two lists of ids, share."""
    pairs = enumerate(zip(first, second, strict=False))
    return first[: next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))]


def _thinking_key(template: Template, reading: Reading) -> str | None:
    for key in _THINKING_KEYS:
        if key in template.text:
            thinker = replace(reading, thinking_key=key)
            if _VALUE in _try(template, thinker.adapt([_user(), _assistant(thinking=_VALUE)])):
                return key
    return None


def _read_calls(template: Template, reading: Reading) -> Reading:
    for as_text in (False, True):
        for empty in ("", None, _ABSENT):
            caller = replace(reading, arguments_as_text=as_text, empty_content=empty)
            text = _try(template, caller.adapt([_user(), _call()]))
            # `None` and `{'` are Python's own spelling: a template that prints them was handed the wrong shape
            if _CALL in text and _VALUE in text and "None" not in text and "{'" not in text:
                return replace(caller, call_tail=_after(text, _VALUE))
    return reading


def _read_frame(template: Template, reading: Reading) -> Reading:
    first, second = _ANSWER + "1", _ANSWER + "2"
    history: list[Message] = [_user(_USER + "1"), _assistant(first)]
    chat = [*history, _user(_USER + "2"), _assistant(second)]
    called: list[Message] = [_user(), _call(), {"role": "tool", "name": _CALL, "tool_call_id": _ID, "content": _RESULT}]
    headers = {
        _header(template, reading, chat[:1], chat, _USER + "1", first),
        _header(template, reading, chat[:3], chat, _USER + "2", second),
        _header(template, reading, called, [*called, _assistant(first)], _RESULT, first),
    }
    whole = _try(template, reading.adapt(chat))
    return replace(
        reading,
        headers=tuple(sorted((header for header in headers if header.strip()), key=lambda h: (-len(h), h))),
        after_turn=_between(whole, first, _USER + "2"),
        tail=_after(whole, second),
    )


def _header(
    template: Template, reading: Reading, asked: list[Message], chat: list[Message], question: str, answer: str
) -> str:
    """What serving sends between the last text and the answer, as far as it stands there in the whole `chat` too."""
    sent = _after(_try(template, reading.adapt(asked), True), question)
    unsent = _after(_try(template, reading.adapt(asked)), question)
    shared = common_prefix(sent, _between(_try(template, reading.adapt(chat)), question, answer))
    if sent == unsent:  # the template has no header of its own: an answer begins after what closes the question
        closing = _LAST_TOKEN.search(shared)
        return closing[0] if closing else ""
    # two different tokens may begin alike (`<|`): the header starts with a whole token
    return shared[len(_UNFINISHED_TOKEN.sub("", common_prefix(sent, unsent))) :]


def _try(template: Template, messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
    """What the template makes of a probe; nothing where it refuses it."""
    try:
        return render_adapted(template, messages, add_generation_prompt=add_generation_prompt)
    except EncodeError:
        return ""


def _user(text: str = _USER) -> dict[str, str]:
    return {"role": "user", "content": text}


def _assistant(text: str = _ANSWER, **more: str) -> dict[str, str]:
    return {"role": "assistant", "content": text, **more}


def _call() -> dict[str, Any]:
    function = {"name": _CALL, "arguments": {"key": _VALUE}}
    return {"role": "assistant", "tool_calls": [{"id": _ID, "type": "function", "function": function}]}


def _after(text: str, word: str) -> str:
    return text.partition(word)[2]


def _between(text: str, start: str, end: str) -> str:
    found, end_word, _ = _after(text, start).partition(end)
    return found if end_word else ""


def _with_text_arguments(call: Mapping[str, Any]) -> dict[str, Any]:
    function = dict(call.get("function") or {})
    if not isinstance(function.get("arguments"), str):
        function["arguments"] = json.dumps(function.get("arguments"), ensure_ascii=False)
    return {**call, "function": function}
