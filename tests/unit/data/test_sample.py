"""The sample that the detection looks at: spread over the whole file, whatever it is packed in, and of whole rows."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import zstandard

from finetui.data import Reading
from finetui.data.files.containers import identify
from finetui.data.files.sample import take
from tests.unit.data.write import put

pytestmark = pytest.mark.unit

COUNT = 20_000
ROWS = [
    {"question": f"问题 {number}\n\n", "answer": f'"{number}", \n he said; [{{\n' + "答案 " * 60, "number": str(number)}
    for number in range(COUNT)
]


def jsonl(encoding: str = "utf-8", ending: str = "\n") -> bytes:
    return ending.join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode(encoding)


def table(delimiter: str, encoding: str = "utf-8") -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(ROWS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return stream.getvalue().encode(encoding)


FILES: dict[str, Callable[[], bytes]] = {
    "jsonl": jsonl,
    "jsonl, carriage returns": lambda: jsonl(ending="\r"),
    "jsonl, gzip": lambda: gzip.compress(jsonl(), 1),
    "jsonl, zstd": lambda: zstandard.compress(jsonl()),
    "jsonl, GB18030": lambda: jsonl("gb18030"),
    "jsonl, UTF-16": lambda: jsonl("utf-16"),
    "json-array": lambda: json.dumps(ROWS, ensure_ascii=False, indent=1).encode(),
    "json-array, zstd": lambda: zstandard.compress(json.dumps(ROWS).encode()),
    "json-objects": lambda: "\n".join(json.dumps(row, indent=1) for row in ROWS).encode(),
    "json-keyed": lambda: json.dumps(dict(enumerate(ROWS)), indent=1).encode(),
    "csv": lambda: table(","),
    "csv, GB18030, gzip": lambda: gzip.compress(table(";", "gb18030"), 1),
    "tsv": lambda: table("\t"),
}


@pytest.mark.parametrize("kind", FILES)
def test_the_sample_is_spread_and_of_whole_rows(kind: str, tmp_path: Path) -> None:
    file = identify(put(tmp_path / "x", FILES[kind]()), "x")
    assert kind.startswith(file.container)
    sample = take(file)
    numbers = [int(value["number"]) for value in sample.values]
    assert 300 <= len(numbers) <= sample.looked_at <= 1100
    assert all(value == {**value, **ROWS[number]} for value, number in zip(sample.values, numbers, strict=True))
    assert numbers == sorted(numbers)
    assert numbers[0] == 0
    assert max(after - before for before, after in pairwise([*numbers, COUNT])) < COUNT / 5


@pytest.mark.parametrize("text_by", ["line", "paragraph"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_the_sample_of_text_is_of_whole_lines_or_paragraphs(text_by: str, pack: Any, tmp_path: Path) -> None:
    paragraphs = [f"begin {number} " + "of a text " * 20 + "\nend" for number in range(COUNT)]
    content = "\n \n".join(paragraphs).encode()
    file = identify(put(tmp_path / "x", pack(content)), "x", Reading(text_by=text_by))
    whole = set(paragraphs if text_by == "paragraph" else content.decode().split("\n"))
    sample = take(file)
    assert 300 <= len(sample.values) <= 1100
    assert all(value["text"] in whole for value in sample.values)
    assert sum("begin 1" in value["text"] for value in sample.values) > 20


def test_a_sample_of_rows_longer_than_what_is_looked_at_is_their_first(tmp_path: Path) -> None:
    rows = [{"query": "q" * 5_000_000, "response": str(number)} for number in range(3)]
    sample = take(identify(put(tmp_path / "x", rows), "x"))
    assert [value["response"] for value in sample.values] == ["0", "1", "2"]
