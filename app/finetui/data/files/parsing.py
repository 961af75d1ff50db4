"""One row's bytes to a value, and back; with the reason where they are none."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import orjson

from finetui.data.problems import RowProblem

_NEWLINE = orjson.OPT_APPEND_NEWLINE
_DIGITS, _DIGITS_IN_TEXT = re.compile(rb"[0-9][0-9]"), re.compile("[0-9][0-9]")


class Repaired:
    """A value that could be read after a repair in which nothing is guessed (NaN and Infinity became null)."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def load(raw: bytes) -> Any:
    """The value of one row's bytes, a `Repaired` one, or the RowProblem that keeps it from being one."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return _load_slowly(raw)


def not_utf8(error: UnicodeDecodeError, raw: bytes) -> RowProblem:
    """The problem of a row whose bytes are no UTF-8, with those that are not."""
    return RowProblem("encoding", f"byte {error.start}: {raw[error.start : error.start + 8].hex(' ')}")


def dump(value: Any) -> bytes:
    """Compact JSON in UTF-8.

    Raises RowProblem `encoding` for a lone surrogate, `unparsable` for a value nested too deep to be written.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return _dump_slowly(value)


def dump_line(value: Any) -> bytes:
    """The same with a newline at its end."""
    try:
        return orjson.dumps(value, None, _NEWLINE)
    except TypeError:
        return _dump_slowly(value) + b"\n"


def may_hold_wide_number(raw: bytes | str) -> bool:
    """Whether JSON may hold an integer beyond 64 bits; a no is certain, and quickly had.

    Such an integer has 19 digits at least, so of every ninth character two in a row are digits.
    """
    pattern = _DIGITS if isinstance(raw, bytes) else _DIGITS_IN_TEXT
    return pattern.search(raw[::9]) is not None  # type: ignore[arg-type]


def has_wide_number(value: dict[str, Any] | list[Any]) -> bool:
    """Whether a float stands in `value` that may have been an integer beyond 64 bits (orjson reads those as floats)."""
    waiting: list[Any] = [value]
    while waiting:
        held = waiting.pop()
        items = held.values() if type(held) is dict else held
        kinds = set(map(type, items))
        if float in kinds and any(type(item) is float and _is_wide(item) for item in items):
            return True
        if dict in kinds or list in kinds:
            waiting += [item for item in items if type(item) is dict or type(item) is list]
    return False


def _is_wide(number: float) -> bool:
    return abs(number) >= 2.0**63 and math.isfinite(number)


def load_exactly(raw: bytes) -> Any:
    """The value with its integers as they are written; slow.

    Raises ValueError or RecursionError where the standard library cannot read it.
    """
    return json.loads(raw)


def _load_slowly(raw: bytes) -> Any:
    """Read what orjson refused: NaN, Infinity and deep nesting can be had, lone surrogates and the rest cannot."""
    constants: list[str] = []
    try:
        text = raw.decode()
        value = json.loads(text, parse_constant=constants.append)
        _dump_slowly(value)
    except UnicodeDecodeError as error:
        return not_utf8(error, raw)
    except json.JSONDecodeError as error:
        return RowProblem("unparsable", f"{error.msg} (character {error.pos + 1})")
    except (RecursionError, ValueError) as error:
        return RowProblem("unparsable", str(error)[:120])
    except RowProblem as problem:
        return problem
    return Repaired(value) if constants else value


def _dump_slowly(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except UnicodeEncodeError as error:
        raise RowProblem("encoding", "lone surrogate") from error
    except (RecursionError, ValueError) as error:
        raise RowProblem("unparsable", "cannot be written as JSON again") from error
