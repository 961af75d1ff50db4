"""A message's content: text, or blocks that join to text, with its reasoning and its media told apart."""

from __future__ import annotations

from typing import Any, NamedTuple

from finetui.data.problems import RowProblem, excerpt, unfit

_TEXT = frozenset({"text", "input_text", "output_text"})
_THINKING = frozenset({"reasoning", "thinking"})
EMPTY: tuple[Any, ...] = (None, "", [], {})
"""What a column holds that holds nothing."""
_CALL = "tool_call"
_MEDIA = ("image", "audio", "video", "file")
MEDIA_COLUMNS = tuple(
    f"{media}{ending}" for media in ("image", "audio", "video") for ending in ("", "s", "_path", "_url", "_file")
)

_MEDIA_COLUMNS = frozenset(MEDIA_COLUMNS)


def refuse_media(row: dict[str, Any]) -> None:
    """Raises RowProblem `multimodal` where a media column of the row is not empty."""
    for column in () if _MEDIA_COLUMNS.isdisjoint(row) else MEDIA_COLUMNS:
        if column in row and row[column] not in EMPTY:
            raise RowProblem("multimodal", f"{column}: {excerpt(row[column])}")


class Content(NamedTuple):
    """What a content holds, its parts told apart."""

    text: str
    thinking: str
    calls: tuple[Any, ...]
    """Tool calls that stand as blocks of their own, unread."""


def content_of(value: Any, where: str) -> Content:
    """A content of any shape: text, or blocks of text, reasoning and tool calls.

    Raises RowProblem `null-content`, `multimodal` or `wrong-type`.
    """
    if type(value) is str:
        return Content(value, "", ())
    if type(value) is not list:
        raise unfit(value, where)
    text: list[str] = []
    thinking: list[str] = []
    calls: list[Any] = []
    for number, block in enumerate(value):
        _read_block(block, f"{where}[{number}]", text, thinking, calls)
    return Content("".join(text), "".join(thinking), tuple(calls))


def _read_block(block: Any, where: str, text: list[str], thinking: list[str], calls: list[Any]) -> None:
    if type(block) is not dict:
        raise RowProblem("wrong-type", f"{where}: {excerpt(block)}")
    kind = block.get("type", "text")
    if type(kind) is not str:
        raise RowProblem("wrong-type", f"{where}.type: {excerpt(kind)}")
    if any(media in kind.lower() for media in _MEDIA):
        raise RowProblem("multimodal", f"{where}.type: {excerpt(kind)}")
    if kind == _CALL and block.get("value") is not None:
        calls.append(block["value"])
        return
    into = text if kind in _TEXT else thinking if kind in _THINKING else None
    if into is None:
        raise RowProblem("wrong-type", f"{where}.type: {excerpt(kind)}")
    keys = ("text", "content", "value") if into is text else ("thinking", "reasoning", "text", "content", "value")
    said = next((block[key] for key in keys if block.get(key) is not None), None)
    if type(said) is not str:
        raise RowProblem("null-content" if said is None else "wrong-type", f"{where}: {excerpt(block)}")
    into.append(said)
