"""Mapped columns to canonical records, by the same builders as the layouts that need no mapping."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from finetui.data.formats.chat import Message, chat_record, meta_of, plain_message
from finetui.data.formats.content import refuse_media
from finetui.data.formats.history import history_of
from finetui.data.formats.layout import Convert
from finetui.data.mapping.parts import MEDIA, Part
from finetui.data.mapping.paths import ABSENT, Step, without
from finetui.data.mapping.turns import Turns
from finetui.data.problems import Note, RowProblem, excerpt

Parts = Mapping[str, Part]
Before = Callable[[Any, list[Note]], list[Message]]
"""The messages that a row's mapped parts make."""
_LABELS = {"true": True, "false": False, "1": True, "0": False}


def chat(parts: Parts, tags: Mapping[str, str]) -> Convert:
    """Rows to chat records."""
    before, meta = _said(parts, tags), _meta(parts)

    def convert(row: Any, notes: list[Note]) -> dict[str, Any]:
        _check(row, parts)
        return chat_record(before(row, notes), _tools(parts, row), meta(row), notes)

    return convert


def text(parts: Parts) -> Convert:
    """Rows to text records."""
    part, meta = parts["text"], _meta(parts)

    def convert(row: Any, notes: list[Note]) -> dict[str, Any]:
        _check(row, parts)
        said = part.need(row)
        if type(said) is not str:
            raise RowProblem("null-content" if said is None else "wrong-type", f"{part.text}: {excerpt(said)}")
        if not said or said.isspace():
            raise RowProblem("null-content", part.text)
        record: dict[str, Any] = {"text": said}
        if beside := meta(row):
            record["meta"] = beside
        return record

    return convert


def rated(parts: Parts, tags: Mapping[str, str]) -> Convert:
    """Rows to rows of layout `feedback`, in its plainest shape."""
    before, meta, label = _said(parts, tags), _meta(parts), parts["label"]

    def convert(row: Any, notes: list[Note]) -> dict[str, Any]:
        _check(row, parts)
        value = label.need(row)
        verdict = value if type(value) is bool else _LABELS.get(str(value).strip().lower())
        if verdict is None:
            raise RowProblem("wrong-type", f"{label.text}: {excerpt(value)}")
        return _plain({"messages": before(row, notes), "label": verdict}, parts, row, meta(row))

    return convert


def compared(parts: Parts, tags: Mapping[str, str]) -> Convert:
    """Rows to rows of layout `preference`, in its plainest shape; a prompt that is not mapped is left to it."""
    led = any(name in parts for name in ("messages", "role", "user", "prompt"))
    before, meta = _said(parts, tags) if led else None, _meta(parts)
    turns = Turns({"messages": parts["chosen"], **{k: parts[k] for k in ("role", "content") if k in parts}}, tags)

    def answer(part: Part, row: Any, notes: list[Note]) -> Any:
        value = part.need(row)
        if value is None or type(value) is str:
            return value if before is None else [plain_message("assistant", value, part.text)]
        return turns.of(value, part.text, notes)

    def convert(row: Any, notes: list[Note]) -> dict[str, Any]:
        _check(row, parts)
        record = {"prompt": before(row, notes)} if before else {}
        record |= {name: answer(parts[name], row, notes) for name in ("chosen", "rejected")}
        return _plain(record, parts, row, meta(row))

    return convert


def asked(parts: Parts, tags: Mapping[str, str]) -> Convert:
    """Rows to rows of layout `prompts`, in its plainest shape."""
    before, meta = _said(parts, tags), _meta(parts)

    def convert(row: Any, notes: list[Note]) -> dict[str, Any]:
        _check(row, parts)
        return _plain({"prompt": before(row, notes)}, parts, row, meta(row))

    return convert


def _said(parts: Parts, tags: Mapping[str, str]) -> Before:
    """What a row's parts say, the system prompt and earlier turns first."""
    if "messages" in parts or "role" in parts:
        turns = Turns(parts, tags)

        def listed(row: Any, notes: list[Note]) -> list[Message]:
            messages = turns.messages(row, notes)
            told = bool(messages) and messages[0]["role"] == "system"
            return (_earlier(parts, row, notes) if not told else []) + messages

        return listed
    user, assistant = parts.get("user") or parts["prompt"], parts.get("assistant") or parts.get("completion")
    if user.list_at is not None:
        return _by_turns(parts, user, assistant)
    whole = Turns({"messages": user}, tags)

    def said(row: Any, notes: list[Note]) -> list[Message]:
        messages = _earlier(parts, row, notes) + _one(user, "user", row, whole, notes)
        if assistant is not None:
            messages += _one(assistant, "assistant", row, whole, notes)
            thought = parts["thinking"].look(row) if "thinking" in parts else None
            if thought is not None and messages and messages[-1]["role"] == "assistant":
                _think(messages[-1], thought, parts["thinking"].text)
        return messages

    return said


def _by_turns(parts: Parts, user: Part, assistant: Part | None) -> Before:
    """Aligned lists, or lists of items that hold a question and an answer each: one turn after another."""
    spoken = {"system": parts.get("system"), "user": user, "thinking": parts.get("thinking"), "assistant": assistant}
    lists = {role: part for role, part in spoken.items() if part and part.list_at is not None}

    def said(row: Any, notes: list[Note]) -> list[Message]:
        values = {role: part.need(row) for role, part in lists.items()}
        asked, answered = len(values["user"]), len(values.get("assistant", ()))
        if assistant and asked - answered not in (0, 1):
            raise RowProblem("wrong-type", f"{user.text}: {asked}, {assistant.text}: {answered}")
        messages = [] if "system" in values else _earlier(parts, row, notes)
        for turn in range(asked):
            found = {role: items[turn] if turn < len(items) else ABSENT for role, items in values.items()}
            if all(found[role] is ABSENT for role in ("user", "assistant") if role in found):
                raise RowProblem("missing-key", f"{user.text} [{turn}]")
            messages += _turn(found, f"[{turn}]")
        return messages

    return said


def _turn(found: Mapping[str, Any], where: str) -> list[Message]:
    """The messages of one turn."""
    messages: list[Message] = []
    if found.get("system", ABSENT) not in (ABSENT, None, ""):
        messages.append(plain_message("system", found["system"], f"system{where}"))
    for role in ("user", "assistant"):
        if found.get(role, ABSENT) is not ABSENT:
            messages.append(plain_message(role, found[role], f"{role}{where}"))
    if messages and messages[-1]["role"] == "assistant" and found.get("thinking", ABSENT) not in (ABSENT, None, ""):
        _think(messages[-1], found["thinking"], f"thinking{where}")
    return messages


def _one(part: Part, role: str, row: Any, turns: Turns, notes: list[Note]) -> list[Message]:
    """A question or an answer: a text, or messages."""
    value = part.need(row)
    if type(value) is list or type(value) is dict:
        return turns.of(value, part.text, notes)
    return [plain_message(role, value, part.text)]


def _earlier(parts: Parts, row: Any, notes: list[Note]) -> list[Message]:
    """The system prompt and the earlier turns, where they are mapped and hold something."""
    messages: list[Message] = []
    if "system" in parts and (told := parts["system"].look(row)) is not None:
        messages.append(plain_message("system", told, parts["system"].text))
    if "history" in parts and (turns := parts["history"].look(row)) is not None:
        messages += history_of(turns, notes)
    return messages


def _think(answer: Message, thought: Any, where: str) -> None:
    """Raises RowProblem `wrong-type` where the thought is no text."""
    if type(thought) is not str:
        raise RowProblem("wrong-type", f"{where}: {excerpt(thought)}")
    answer["thinking"] = thought


def _check(row: Any, parts: Parts) -> None:
    """Raises RowProblem where a row is no row, or holds images, audio or video."""
    if type(row) is dict:
        refuse_media(row)
    elif type(row) is not list:
        raise RowProblem("not-an-object", excerpt(row))
    for name in MEDIA:
        if name in parts and (media := parts[name].look(row)) is not None:
            raise RowProblem("multimodal", f"{parts[name].text}: {excerpt(media)}")


def _tools(parts: Parts, row: Any) -> Any:
    return parts["tools"].look(row) if "tools" in parts else None


def _meta(parts: Parts) -> Callable[[Any], dict[str, Any]]:
    """What a row holds beside its mapped parts."""
    used: list[tuple[Step, ...]] = [path.steps for part in parts.values() for path in part.paths]
    used = [steps for steps in used if isinstance(steps[0], str)]

    def meta(row: Any) -> dict[str, Any]:
        return meta_of(without(row, used), frozenset()) if type(row) is dict else {}

    return meta


def _plain(record: dict[str, Any], parts: Parts, row: Any, meta: dict[str, Any]) -> dict[str, Any]:
    """A row of another layout, with tools and meta where they hold something."""
    if tools := _tools(parts, row):
        record["tools"] = tools
    if meta:
        record["meta"] = meta
    return record
