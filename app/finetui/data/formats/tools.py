"""Tool definitions and tool calls, from any of the shapes they come in to OpenAI's."""

from __future__ import annotations

import json
from typing import Any

import orjson

from finetui.data.files.parsing import has_wide_number, may_hold_wide_number
from finetui.data.problems import REPAIRED, Note, RowProblem, excerpt


def read_json(text: str, where: str) -> Any:
    """The value of JSON inside a string, its integers as they are written.

    Raises RowProblem `bad-tool-json`.
    """
    try:
        value = orjson.loads(text)
        if not (may_hold_wide_number(text) and has_wide_number([value])):
            return value
    except orjson.JSONDecodeError:
        pass  # the standard library reads more: deeper nesting, and lone surrogates, which are told as such later
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise RowProblem("bad-tool-json", f"{where}: {excerpt(text)}") from error


def tools_of(value: Any, where: str) -> list[Any]:
    """Tool definitions as a list of `{type: "function", function: {…}}`; what has that shape already is kept as it is.

    Raises RowProblem `bad-tool-json`.
    """
    if type(value) is str:
        value = read_json(value, where) if value.strip() else []
        if type(value) is str:
            value = read_json(value, where)
    if value is None:
        return []
    if type(value) is dict:
        value = [value] if value else []
    if type(value) is not list:
        raise RowProblem("bad-tool-json", f"{where}: {excerpt(value)}")
    return [_tool(item, f"{where}[{number}]") for number, item in enumerate(value)]


def calls_of(value: Any, where: str, notes: list[Note]) -> list[dict[str, Any]]:
    """Tool calls as a list of `{type, function: {name, arguments}, id?}` with arguments as an object.

    Raises RowProblem `bad-tool-json`.
    """
    if type(value) is str:
        value = read_json(value, where) if value.strip() else []
    if type(value) is dict:
        value = [value]
    if value is None:
        return []
    if type(value) is not list:
        raise RowProblem("bad-tool-json", f"{where}: {excerpt(value)}")
    return [_call(item, f"{where}[{number}]", notes) for number, item in enumerate(value)]


def _tool(item: Any, where: str) -> Any:
    if type(item) is str:
        item = read_json(item, where)
    if type(item) is not dict:
        raise RowProblem("bad-tool-json", f"{where}: {excerpt(item)}")
    if type(item.get("function")) is dict:
        return item if "type" in item else {"type": "function", **item}
    if type(item.get("name")) is not str:
        raise RowProblem("bad-tool-json", f"{where}.name: {excerpt(item.get('name'))}")
    return {"type": "function", "function": item}


def _call(item: Any, where: str, notes: list[Note]) -> dict[str, Any]:
    if type(item) is str:
        item = read_json(item, where)
    if type(item) is not dict:
        raise RowProblem("bad-tool-json", f"{where}: {excerpt(item)}")
    function = item["function"] if type(item.get("function")) is dict else item
    name = function.get("name")
    if type(name) is not str or not name:
        raise RowProblem("bad-tool-json", f"{where}.name: {excerpt(name)}")
    arguments = _arguments(function.get("arguments", function.get("parameters")), f"{where}.arguments", notes)
    call: dict[str, Any] = {"type": "function", "function": {"name": name, "arguments": arguments}}
    if item.get("id"):
        call["id"] = item["id"]
    return call


def _arguments(value: Any, where: str, notes: list[Note]) -> dict[str, Any]:
    """Arguments as an object, also from a string and from a string in a string."""
    if type(value) is str and value.strip():
        value = read_json(value, where)
        if type(value) is str:
            value = read_json(value, where)
            notes.append((REPAIRED, where))
    if type(value) is dict:
        return value
    if value is None or value == "":
        notes.append((REPAIRED, where))
        return {}
    raise RowProblem("bad-tool-json", f"{where}: {excerpt(value)}")


def _refuse(constant: str) -> None:
    raise ValueError(constant)
