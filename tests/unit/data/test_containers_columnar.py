"""Parquet and Arrow files: the same rows as from JSON, in flat memory, and broken ones told in words."""

from __future__ import annotations

import datetime
import decimal
import gzip
import io
import json
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import zstandard
from pyarrow import ipc, parquet

from finetui.core.errors import FinetuiError
from finetui.data import convert, inspect
from finetui.data.files.containers import identify, rows
from finetui.data.files.sample import take
from finetui.data.files.streams import opened
from tests.unit.data.write import ALPACA, MESSAGES, put, records

pytestmark = pytest.mark.unit
TEXT = pyarrow.string()


def as_parquet(table: pyarrow.Table, group: int | None = None) -> bytes:
    stream = io.BytesIO()
    parquet.write_table(table, stream, row_group_size=group)
    return stream.getvalue()


def as_arrow(new: Callable[..., Any], table: pyarrow.Table, batch: int | None = None, **options: Any) -> bytes:
    stream = io.BytesIO()
    with new(stream, table.schema, options=ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=batch)
    return stream.getvalue()


WRITERS: dict[str, Callable[..., bytes]] = {
    "parquet": as_parquet,
    "arrow": lambda table, size=None: as_arrow(ipc.new_file, table, size),
    "arrow, stream": lambda table, size=None: as_arrow(ipc.new_stream, table, size),
    "arrow, stream, compressed": lambda table, size=None: as_arrow(ipc.new_stream, table, size, compression="zstd"),
}


def values(path: Path) -> list[Any]:
    with opened(path, str(path)) as source:
        found = list(rows(identify(path, str(path)), source.stream))
    assert all((line, byte) == (None, None) for _, _, line, byte in found)
    return [value for value, *_ in found]


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
def test_the_same_rows_come_out_of_every_columnar_file(kind: str, pack: Any, tmp_path: Path) -> None:
    table = pyarrow.Table.from_pylist([{"input": None, **row} for row in ALPACA])
    conversion = convert([put(tmp_path / "x.csv", pack(WRITERS[kind](table, 2)))], tmp_path / "out")
    (file,) = conversion.to_json()["files"]
    assert (file["container"], file["encoding"]) == (kind.partition(",")[0], None)
    assert [record["messages"][0]["content"] for record in records(tmp_path / "out")] == [
        "Add\n1 and 2",
        "Say hello",
        "翻译：早上好",
    ]


@pytest.mark.parametrize("kind", WRITERS)
def test_messages_are_lists_of_structs(kind: str, tmp_path: Path) -> None:
    calls = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": None, "name": "n"}]}
    table = pyarrow.Table.from_pylist([*MESSAGES, calls])
    conversion = convert([put(tmp_path / "x", WRITERS[kind](table))], tmp_path / "out", accept_rejected=True)
    assert records(tmp_path / "out") == MESSAGES
    assert conversion.inspection.input.total == 4


def test_what_a_column_alone_makes_null_is_not_said_to_the_model(tmp_path: Path) -> None:
    calls = [{"name": "f", "arguments": {"city": "Oslo"}}, {"name": "g", "arguments": {"day": 3}}]
    rows = [
        {
            "messages": [
                {"role": "user", "content": "?"},
                {"role": "assistant", "tool_calls": [{"function": call}]},
                {"role": "tool", "content": "!"},
            ]
        }
        for call in calls
    ]
    convert([put(tmp_path / "x", as_parquet(pyarrow.Table.from_pylist(rows)))], tmp_path / "out")
    written = [record["messages"][1]["tool_calls"][0]["function"] for record in records(tmp_path / "out")]
    assert written == calls


def test_every_kind_of_column_becomes_json(tmp_path: Path) -> None:
    day = datetime.date(2024, 5, 17)
    table = pyarrow.table(
        {
            "when": pyarrow.array([datetime.datetime(2024, 5, 17, 12, 30), None], pyarrow.timestamp("ns")),
            "days": pyarrow.array([[day], []]),
            "price": pyarrow.array([{"sum": decimal.Decimal("1.50")}, None]),
            "bytes": pyarrow.array(["é".encode(), b"\xff\x00"]),
            "score": pyarrow.array([float("nan"), 0.5]),
            "tags": pyarrow.array([[("a", 1.0)], [("b", None), ("c", 2.0)]], pyarrow.map_(TEXT, pyarrow.float32())),
            "kind": pyarrow.array(["x", "y"]).dictionary_encode(),
            "big": pyarrow.array([2**63, 1], pyarrow.uint64()),
        }
    )
    for content in (as_parquet(table), *(WRITERS[kind](table) for kind in list(WRITERS)[1:])):
        first, second = values(put(tmp_path / "x", content))
        assert str(first.pop("when")).startswith("2024-05-17 12:30:00")
        assert first == {
            "days": ["2024-05-17"],
            "price": {"sum": "1.50"},
            "bytes": "é",
            "score": None,
            "tags": {"a": 1.0},
            "kind": "x",
            "big": 2**63,
        }
        assert second == {
            "when": None,
            "days": [],
            "price": None,
            "bytes": "/wA=",
            "score": 0.5,
            "tags": {"b": None, "c": 2.0},
            "kind": "y",
            "big": 1,
        }
        json.dumps([first, second])


def test_a_text_that_is_no_utf8_costs_its_row(tmp_path: Path) -> None:
    wrong = pyarrow.array([b"good", b"b\xff", b"fine"]).buffers()
    text = pyarrow.Array.from_buffers(pyarrow.string(), 3, wrong)
    table = pyarrow.table({"instruction": text, "output": pyarrow.array(["a", "b", "c"])})
    inspection = inspect([put(tmp_path / "x", as_parquet(table))])
    assert inspection.input.tally.counts == {"encoding": 1}
    assert (inspection.input.total, inspection.input.usable) == (3, 2)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("pack", [bytes, zstandard.compress])
def test_a_file_that_is_broken_or_cut_short_is_told_by_its_name(kind: str, pack: Any, tmp_path: Path) -> None:
    content = WRITERS[kind](pyarrow.Table.from_pylist([{"text": f"text {number} " * 50} for number in range(100)]), 10)
    broken = [content[: len(content) * part // 8] for part in range(1, 8)]
    broken += [content[:-8], content[:-1], content[:-300] + b"\xff" * 300]
    for bad in broken:
        path = put(tmp_path / "x", pack(bad))
        with pytest.raises(FinetuiError) as raised:
            inspect([path])
        (problem,) = raised.value.problems
        assert (problem.code, problem.file) == ("data.broken-columnar", str(path))


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_without_rows_is_an_error(kind: str, tmp_path: Path) -> None:
    table = pyarrow.table({"text": pyarrow.array([], pyarrow.string())})
    with pytest.raises(FinetuiError) as raised:
        inspect([put(tmp_path / "x", WRITERS[kind](table))])
    assert [problem.code for problem in raised.value.problems] == ["data.no-rows"]


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("size", [None, 50, 997])
def test_the_sample_sees_the_whole_file_and_no_row_twice(kind: str, size: int | None, tmp_path: Path) -> None:
    count = 20_000
    table = pyarrow.table({"text": [f"row {number}" for number in range(count)], "number": list(range(count))})
    path = put(tmp_path / "x", WRITERS[kind](table, size))
    sample = take(identify(path, "x"))
    numbers = [value["number"] for value in sample.values]
    assert 300 <= len(numbers) == len(set(numbers)) <= 1000
    assert numbers == sorted(numbers)
    assert numbers[0] == 0
    assert max(after - before for before, after in pairwise([*numbers, count])) < count / 10


_PEAK = """
import json, sys
from pathlib import Path
from finetui.data import inspect
def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
inspect([Path(sys.argv[1])])
before = peak()
total = inspect([Path(sys.argv[2])]).input.total
print(json.dumps([total, peak() - before]))
"""


@pytest.mark.parametrize("kind", ["parquet", "arrow, stream, compressed"])
def test_a_large_file_is_never_held_in_memory(kind: str, tmp_path: Path) -> None:
    count = 30_000
    table = pyarrow.table(
        {
            "instruction": [f"{number} " + "q" * 1000 for number in range(count)],
            "output": ["a" * 3000 + str(number) for number in range(count)],
        }
    )
    assert table.nbytes > 120_000_000
    small = put(tmp_path / "small", WRITERS[kind](table.slice(0, 2000)))
    large = put(tmp_path / "large", WRITERS[kind](table, count if kind == "parquet" else 1000))
    command = [sys.executable, "-c", _PEAK, str(small), str(large)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    total, grown_kib = json.loads(done.stdout)
    assert total == count
    assert grown_kib < 64 * 1024
