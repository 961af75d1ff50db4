"""Tables, columnar files and text in other encodings, damaged anywhere: an answer or an error in words."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.data.test_containers_columnar import WRITERS
from tests.unit.data.test_mutations import assert_answered
from tests.unit.data.write import ALPACA, MESSAGES, jsonl

pytestmark = pytest.mark.unit

CHINESE = [{"instruction": f"请说出第 {number} 个问题的答案", "output": "好的，这就是答案。"} for number in range(9)]
TOOLS = [{**row, "tools": [{"name": "f", "arguments": {"a": 1}}], "n": 0.5} for row in MESSAGES * 3]


def table(delimiter: str) -> bytes:
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter).writerows(
        [["instruction", "output", "n"], *([f"a {number}", 'b, "c"\nd', str(number)] for number in range(9))]
    )
    return stream.getvalue().encode()


FILES: dict[str, bytes] = {
    **{kind: write(pyarrow.Table.from_pylist(TOOLS), 4) for kind, write in WRITERS.items()},
    **{f"table by {delimiter!r}": table(delimiter) for delimiter in ",\t;|"},
    **{encoding: jsonl(CHINESE).decode().encode(encoding) for encoding in ("utf-16", "utf-16-be", "gb18030")},
    "table in GB18030": table(",").decode().replace("a", "请问").encode("gb18030"),
    "object of rows": json.dumps({str(number): row for number, row in enumerate(ALPACA)}, indent=1).encode(),
    "text": "一行文字\nand a line\n\n".encode() * 9,
}
PACKS: list[Callable[[bytes], bytes]] = [bytes, bytes, bytes, gzip.compress, zstandard.compress]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A file with bytes changed, cut off, put in or taken out, packed before or after that."""
    content = FILES[draw(st.sampled_from(sorted(FILES)))]
    pack, early = draw(st.sampled_from(PACKS)), draw(st.booleans())
    content = pack(content) if early else content
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        taken = draw(st.sampled_from([0, 1, 1, 1, 2, 9, len(content)]))
        put = draw(st.one_of(st.binary(max_size=4), st.sampled_from([b'"', b"\n", b"\r", b",", b"\0", b"{", b"["])))
        content = content[:at] + put + content[at + taken :]
    return content if early else pack(content)


QUIET: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@settings(max_examples=300, derandomize=True, **QUIET)
@given(content=damaged())
def test_damaged_files_never_end_in_a_traceback(content: bytes, tmp_path: Path) -> None:
    assert_answered(content, tmp_path)


@pytest.mark.soak
@settings(max_examples=20_000, **QUIET)
@given(content=damaged())
def test_twenty_thousand_damaged_files(content: bytes, tmp_path: Path) -> None:
    assert_answered(content, tmp_path)
