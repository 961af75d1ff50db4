"""Rows are turned in batches, and nobody notices: order, places, numbers and bytes are those of one row at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetui.cli.main import run
from finetui.core.errors import FinetuiError
from finetui.data import Reading, convert, iter_records
from finetui.data.files.parsing import has_wide_number, may_hold_wide_number
from finetui.data.reader import Rejected, open_input
from tests.unit.data.write import MESSAGES, chat, jsonl, put, records

pytestmark = pytest.mark.unit

ROWS: list[Any] = [
    chat("plain", "answer"),
    chat("{{name}}", "a <b> tag"),
    chat("<img>a.png</img>", "what"),
    chat("escape \x1b", "caf\ufffd 锟斤拷"),
    {**chat("meta", "kept"), "id": 7},
    {"messages": [{"role": "user", "content": None}]},
    "no object",
]
MESSAGES_READING = Reading(format="messages")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, len(ROWS) - 1), min_size=1, max_size=80), st.sampled_from([1, 200, 1 << 14]))
def test_batches_of_any_size_tell_the_same(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[int], size: int
) -> None:
    folder = tmp_path_factory.mktemp("turn")
    path = put(folder / "x.jsonl", [*(ROWS[kind] for kind in kinds), ROWS[0]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("finetui.data.turning._BATCH_BYTES", size)
        aside: list[Rejected] = []
        read = open_input([path], MESSAGES_READING)
        whole = b"".join(record.line for record in read.read(aside.append))
        by_lines = open_input([path], MESSAGES_READING)
        again: list[Rejected] = []
        assert b"".join(by_lines.lines(again.append)) == whole
    assert again == aside
    assert by_lines.tally.to_json() == read.tally.to_json()
    assert (
        (by_lines.total, by_lines.usable) == (read.total, read.usable) == (len(kinds) + 1, len(kinds) + 1 - len(aside))
    )
    assert [row.place.row for row in aside] == [place + 1 for place, kind in enumerate(kinds) if kind in (2, 5, 6)]
    lines = path.read_bytes().splitlines(keepends=True)
    assert [row.raw for row in aside] == [lines[row.place.row - 1] for row in aside]


def test_what_stands_before_a_break_is_given_out_first(tmp_path: Path) -> None:
    path = put(tmp_path / "x", json.dumps([chat(f"q{number}", "a") for number in range(5)]).encode()[:-30])
    given_out = []
    with pytest.raises(FinetuiError, match="ends inside"):
        given_out += [record.place.row for record in _until_break(path, given_out)]
    assert given_out == [1, 2, 3, 4]


def _until_break(path: Path, seen: list[int]) -> Any:
    for record in iter_records([path]):
        seen.append(record.place.row)
    return []


WIDE = 12345678901234567890123


def calling(arguments: Any) -> dict[str, Any]:
    answer = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}
    return {"messages": [{"role": "user", "content": "q"}, answer]}


@pytest.mark.parametrize(
    "row",
    [
        calling({"n": WIDE}),
        calling(json.dumps({"n": WIDE})),
        {**chat("q", "a"), "tools": [{"type": "function", "function": {"name": "f", "default": -WIDE}}]},
        {**chat("q", "a"), "number": WIDE},
    ],
)
def test_an_integer_of_any_width_is_carried_over(row: Any, tmp_path: Path) -> None:
    convert([put(tmp_path / "x", [*MESSAGES, row])], tmp_path / "out")
    assert str(WIDE) in json.dumps(records(tmp_path / "out")[-1])


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=4))
def test_a_wide_integer_is_never_missed(value: list[Any]) -> None:
    def widest(item: Any) -> int:
        if isinstance(item, dict):
            item = list(item.values())
        if isinstance(item, list):
            return max(map(widest, item), default=0)
        return abs(item) if isinstance(item, int) else 0

    text = json.dumps(value)
    if widest(value) >= 2**64:
        assert may_hold_wide_number(text)
        assert may_hold_wide_number(text.encode())
        assert has_wide_number(orjson.loads(text))


def test_progress_grows_to_the_whole(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    paths = [put(tmp_path / f"{number}.jsonl", jsonl(MESSAGES * 2000)) for number in range(3)]
    convert(paths, tmp_path / "out", on_progress=lambda done, total: told.append((done, total)))
    total = sum(path.stat().st_size for path in paths)
    assert {whole for _, whole in told} == {total}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (total, total)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_is_drawn_where_somebody_sees_it_and_wiped_away(
    is_terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("finetui.cli.common.Output.live", property(lambda _: is_terminal))
    monkeypatch.setattr("finetui.cli.reading._QUIET_SECONDS", -1)
    assert run(["convert", str(put(tmp_path / "x", MESSAGES)), "--out", str(tmp_path / "out"), "--json"]) == 0
    shown = capfd.readouterr()
    assert shown.err == ("\r\x1b[Kreading: 100 % of 0 MB\r\x1b[K" if is_terminal else "")
    assert json.loads(shown.out)["rows"]["usable"] == len(MESSAGES)
