"""Cells of Arrow columns as values that JSON can hold."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from finetui.data.files.parsing import dump
from finetui.data.files.splitter import Row
from finetui.data.problems import RowProblem

if TYPE_CHECKING:
    import pyarrow

_ONE_SCHEMA_FOR_ALL = frozenset({"tools", "functions", "arguments", "parameters", "input_schema"})
"""Parts in which a null of a column says that the row has no such key: JSON schemas and arguments differ by row."""


def batch_rows(batch: pyarrow.RecordBatch) -> Iterator[Row]:
    """The rows of a batch as dicts, each with its JSON for raw.

    Raises ArrowException where a column is of a kind that has no values.
    """
    columns = [_values(name, column) for name, column in zip(batch.schema.names, batch.columns, strict=True)]
    names = batch.schema.names
    for cells in zip(*columns, strict=True):
        value: Any = dict(zip(names, cells, strict=True))
        try:
            raw = dump(value)
        except RowProblem as problem:
            value, raw = problem, json.dumps(value).encode()
        yield value, raw, None, None


def _values(name: str, column: pyarrow.Array) -> list[Any]:
    import pyarrow

    wanted = _simple(column.type)
    if wanted != column.type:
        column = column.cast(wanted)
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        values = column.cast(_simple(column.type, pyarrow.binary())).to_pylist()
        return [_plain(value, name in _ONE_SCHEMA_FOR_ALL, "surrogateescape") for value in values]
    if _is_plain(column.type, name in _ONE_SCHEMA_FOR_ALL):
        return values
    return [_plain(value, name in _ONE_SCHEMA_FOR_ALL) for value in values]


def _simple(type: Any, string: Any = None) -> Any:
    """The type with text for dates, decimals and the like, and with its values where they are encoded or extended."""
    import pyarrow
    from pyarrow import types

    if isinstance(type, pyarrow.BaseExtensionType):
        return _simple(type.storage_type, string)
    if types.is_dictionary(type) or types.is_run_end_encoded(type):
        return _simple(type.value_type, string)
    if types.is_temporal(type) or types.is_decimal(type):
        return pyarrow.string()
    if types.is_string(type) or types.is_large_string(type) or types.is_string_view(type):
        return string or type
    if types.is_float16(type):
        return pyarrow.float32()
    if types.is_struct(type):
        return pyarrow.struct([field.with_type(_simple(field.type, string)) for field in type])
    if types.is_map(type):
        return pyarrow.map_(_simple(type.key_type, string), _simple(type.item_type, string))
    if _is_list(type) and (items := _simple(type.value_type, string)) != type.value_type:
        return pyarrow.list_(items) if types.is_list(type) else pyarrow.large_list(items)
    return type


def _is_plain(type: Any, inside: bool) -> bool:
    """Whether the values of a type are JSON as they come, so that none need be looked at."""
    from pyarrow import types

    if types.is_struct(type):
        return not inside and all(_is_plain(f.type, f.name in _ONE_SCHEMA_FOR_ALL) for f in type)
    if _is_list(type):
        return _is_plain(type.value_type, inside)
    return bool(
        types.is_string(type)
        or types.is_large_string(type)
        or types.is_integer(type)
        or types.is_boolean(type)
        or types.is_null(type)
    )


def _is_list(type: Any) -> bool:
    from pyarrow import types

    return bool(
        types.is_list(type)
        or types.is_large_list(type)
        or types.is_fixed_size_list(type)
        or types.is_list_view(type)
        or types.is_large_list_view(type)
    )


def _plain(value: Any, inside: bool, errors: str = "strict") -> Any:
    """A value as JSON has it: maps are objects, bytes text or base64, NaN is null; `inside`, objects hold no null."""
    if type(value) is dict:
        return {
            key: _plain(item, inside or key in _ONE_SCHEMA_FOR_ALL, errors)
            for key, item in value.items()
            if not (inside and item is None)
        }
    if type(value) is list:
        if value and all(type(item) is tuple for item in value):
            return {str(_plain(key, False, errors)): _plain(item, inside, errors) for key, item in value}
        return [_plain(item, inside, errors) for item in value]
    if type(value) is float:
        return value if math.isfinite(value) else None
    if type(value) is bytes:
        try:
            return value.decode("utf-8", errors)
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)
