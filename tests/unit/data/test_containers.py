"""Files are read by what they contain, whatever they are called."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard

from finetui.core.errors import FinetuiError
from finetui.data import convert, inspect
from tests.unit.data.write import ALPACA, CONTAINERS, MESSAGES, SHAREGPT, jsonl, put, records

pytestmark = pytest.mark.unit

EXPECTED = [
    [{"role": "user", "content": "Add\n1 and 2"}, {"role": "assistant", "content": "3"}],
    [{"role": "user", "content": "Say hello"}, {"role": "assistant", "content": "hello"}],
    [{"role": "user", "content": "翻译：早上好"}, {"role": "assistant", "content": "Good morning"}],
]


def problem_of(path: Path, content: bytes) -> Any:
    with pytest.raises(FinetuiError) as raised:
        inspect([put(path, content)])
    assert raised.value.exit_code == 3
    (problem,) = raised.value.problems
    assert problem.file == str(path)
    assert problem.expected()
    assert problem.next()
    return problem


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_same_rows_come_out_of_every_container(container: str, tmp_path: Path) -> None:
    content = CONTAINERS[container](ALPACA)
    conversion = convert([put(tmp_path / "data.bin", content)], tmp_path / "out")
    (file,) = conversion.to_json()["files"]

    assert [record["messages"] for record in records(tmp_path / "out")] == EXPECTED
    assert container.startswith(file["container"])
    assert file["encoding"] == ("utf-8-sig" if "BOM" in container else "utf-8")
    assert file["compression"] == next((kind for kind in ("gzip", "zstd") if kind in container), None)
    assert file["bytes"] == len(content)
    assert file["sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("container", ["json-array", "json-array, indented", "jsonl", "json-objects", "jsonl, BOM"])
def test_a_bad_row_is_named_by_row_line_and_byte(container: str, tmp_path: Path) -> None:
    rows = [*SHAREGPT, {"conversations": 1, "marked": True}, *SHAREGPT]
    content = CONTAINERS[container](rows)
    inspection = inspect([put(tmp_path / "x", content)])
    (example,) = next(p for p in inspection.to_json()["problems"] if p["code"] == "wrong-type")["examples"]

    assert example["row"] == 3
    start = content.index(b"{", content[: content.index(b'"marked"')].rindex(b'"conversations"') - 8)
    assert example["byte"] == start
    assert example["line"] == content[:start].count(b"\n") + 1


def test_one_object_is_one_row(tmp_path: Path) -> None:
    for indent in (None, 2):
        inspection = inspect([put(tmp_path / "x", json.dumps(MESSAGES[0], indent=indent).encode())])
        assert (inspection.format, inspection.input.total) == ("messages", 1)
        assert inspection.to_json()["files"][0]["container"] == "json-object"


@pytest.mark.parametrize("indent", [None, 1])
def test_a_list_of_messages_alone_is_one_conversation(indent: int | None, tmp_path: Path) -> None:
    content = json.dumps(MESSAGES[0]["messages"], indent=indent).encode()
    conversion = convert([put(tmp_path / "x", content)], tmp_path / "out")
    assert conversion.inspection.format == "messages"
    assert records(tmp_path / "out") == [MESSAGES[0]]


def test_one_list_of_messages_a_line_is_one_conversation_a_row(tmp_path: Path) -> None:
    convert([put(tmp_path / "x", [row["messages"] for row in MESSAGES])], tmp_path / "out")
    assert records(tmp_path / "out") == MESSAGES


def test_several_frames_and_members_are_read_on(tmp_path: Path) -> None:
    first, second = jsonl(MESSAGES[:1]), jsonl(MESSAGES[1:])
    for content in (
        gzip.compress(first) + gzip.compress(second),
        zstandard.compress(first) + zstandard.compress(second),
    ):
        assert inspect([put(tmp_path / "x", content)]).input.total == 3


def test_broken_rows_of_an_array_cost_only_themselves(tmp_path: Path) -> None:
    rows = [json.dumps(row) for row in [*SHAREGPT, *SHAREGPT, *SHAREGPT]]
    rows[1] = rows[1].replace("}, {", ",}, {", 1)  # a trailing comma
    rows[3] = rows[3].replace('"quoted', '"quo"ted', 1).replace('\\"', '"', 1)  # a quote that is not escaped
    conversion = convert([put(tmp_path / "x", ("[\n" + ",\n".join(rows) + "\n]").encode())], tmp_path / "out")
    (problem,) = [p for p in conversion.to_json()["problems"] if p["code"] == "unparsable"]
    assert [example["row"] for example in problem["examples"]] == [2, 4]
    assert (conversion.inspection.input.total, conversion.inspection.input.usable) == (6, 4)


@pytest.mark.parametrize("container", ["json-array", "json-array, indented", "json-objects"])
def test_a_file_cut_short_is_an_error_that_names_the_line(container: str, tmp_path: Path) -> None:
    content = CONTAINERS[container](SHAREGPT * 3)[:-30]
    problem = problem_of(tmp_path / "x", content)
    assert problem.code in ("data.truncated-array", "data.truncated-object")
    assert 1 <= problem.line <= content.count(b"\n") + 1


def test_an_array_without_its_bracket_is_cut_short(tmp_path: Path) -> None:
    assert problem_of(tmp_path / "x", json.dumps(ALPACA).encode()[:-1]).code == "data.truncated-array"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "data.empty-file"),
        (b"\xef\xbb\xbf \n\n", "data.empty-file"),
        (bytes(range(256)) * 20, "data.binary"),
        (b"PAR1....", "data.broken-columnar"),
        (b"ARROW1\0\0....", "data.broken-columnar"),
        (b"\xff\xff\xff\xff....", "data.broken-columnar"),
        (b"PK\x03\x04....", "data.foreign-container"),
        ("[]".encode("utf-16"), "data.no-rows"),
        ("été à la plage, déçu\n".encode("latin-1") * 3, "data.not-utf8"),
        (b"text,label\n", "data.no-rows"),
        (b"[]", "data.no-rows"),
        (gzip.compress(jsonl(MESSAGES))[:-12], "data.broken-compression"),
        (zstandard.compress(jsonl(MESSAGES))[:-5], "data.broken-compression"),
        (b"\x1f\x8bnot gzip", "data.broken-compression"),
        (b"[", "data.truncated-array"),
    ],
)
def test_what_is_no_data_is_refused_in_words(content: bytes, code: str, tmp_path: Path) -> None:
    assert problem_of(tmp_path / "x.jsonl", content).code == code


def test_all_obstacles_are_reported_at_once(tmp_path: Path) -> None:
    empty, absent = put(tmp_path / "empty", b""), tmp_path / "absent" / "x.json"
    folder = tmp_path / "folder"
    folder.mkdir()
    put(folder / "README.md", b"# hello")
    with pytest.raises(FinetuiError) as raised:
        inspect([empty, absent, folder, put(tmp_path / "good", MESSAGES)])
    assert [problem.code for problem in raised.value.problems] == [
        "data.empty-file",
        "data.no-such-path",
        "data.no-data-in-folder",
    ]


def test_one_row_that_is_not_utf8_is_set_aside(tmp_path: Path) -> None:
    good = jsonl([{"instruction": "é", "output": "ü"}] * 3)
    inspection = inspect([put(tmp_path / "x", good + b'{"instruction": "\xff\xfe", "output": "a"}\n')])
    assert inspection.input.tally.counts["encoding"] == 1
    assert (inspection.input.total, inspection.input.usable) == (4, 3)


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    put(folder / "b.json", json.dumps(MESSAGES[1:2]).encode())
    put(folder / "a.jsonl.gz", gzip.compress(jsonl(MESSAGES[:1])))
    put(folder / "deep" / "c", MESSAGES[2:])
    put(folder / "README.md", b"# not data")
    put(folder / ".hidden.json", ALPACA)
    conversion = convert([folder], tmp_path / "out")
    assert records(tmp_path / "out") == MESSAGES
    assert any("README.md" in sentence for sentence in conversion.to_json()["evidence"])


_MEMORY = """
import json, sys
from pathlib import Path
from finetui.data import convert
conversion = convert([Path(sys.argv[1])], Path(sys.argv[2]))
status = Path("/proc/self/status").read_text()  # getrusage would count the test's own process, before exec
peak = int(status.partition("VmHWM:")[2].split()[0])
print(json.dumps([conversion.inspection.input.usable, peak]))
"""


@pytest.mark.parametrize("indent", [None, 2])
def test_a_large_array_is_never_held_in_memory(indent: int | None, tmp_path: Path) -> None:
    count = 15_000
    path = tmp_path / "large.json"
    with path.open("w") as stream:
        for number in range(count):
            row = {"instruction": f"question {number} " + "q" * 1000, "input": "", "output": "a" * 3000}
            stream.write(("[" if number == 0 else ",") + json.dumps(row, indent=indent))
        stream.write("]")
    assert path.stat().st_size > 60_000_000
    command = [sys.executable, "-c", _MEMORY, str(path), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    usable, peak_kib = json.loads(done.stdout)
    assert usable == count
    assert peak_kib < 64 * 1024
