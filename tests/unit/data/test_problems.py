"""Every row problem has its code, its place, and its fate: set aside or reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetui.core.messages import entry
from finetui.data import convert, inspect
from finetui.data.problems import SET_ASIDE
from tests.unit.data.write import MESSAGES, chat, jsonl, put, records

pytestmark = pytest.mark.unit

USER = {"role": "user", "content": "a"}
ANSWER = {"role": "assistant", "content": "b"}


def call(arguments: Any, name: Any = "f") -> dict[str, Any]:
    return {
        "role": "assistant",
        "tool_calls": [{"type": "function", "function": {"name": name, "arguments": arguments}}],
    }


ASIDE: list[tuple[str, Any]] = [
    ("unparsable", b"not json"),
    ("unparsable", b'{"messages": [{"role": "user", "content": "a"},]}'),
    ("unparsable", b'{"messages": [] // comment'),
    ("not-an-object", b"17"),
    ("not-an-object", b'"text"'),
    ("encoding", b'{"messages": [{"role": "user", "content": "\\ud83d"}, {"role": "assistant", "content": "b"}]}'),
    ("encoding", b'{"messages": [{"role": "user", "content": "\xff"}, {"role": "assistant", "content": "b"}]}'),
    ("missing-key", {"prompt": "a", "completion": "b"}),
    ("missing-key", {"messages": [{"role": "user"}, ANSWER]}),
    ("missing-key", {"messages": [{"content": "a"}, ANSWER]}),
    ("null-content", {"messages": None}),
    ("null-content", {"messages": [{"role": "user", "content": None}, ANSWER]}),
    ("null-content", {"messages": [USER, {"role": "assistant", "content": None}]}),
    ("wrong-type", {"messages": json.dumps([USER, ANSWER])}),
    ("wrong-type", {"messages": [{"role": "user", "content": 5}, ANSWER]}),
    ("wrong-type", {"messages": [USER, "b"]}),
    ("wrong-type", {"messages": [USER, {**ANSWER, "weight": "0"}]}),
    ("unknown-role", {"messages": [USER, {"role": "narrator", "content": "b"}]}),
    ("empty-user", {"messages": [{"role": "user", "content": ""}, ANSWER]}),
    ("empty-assistant", {"messages": [USER, {"role": "assistant", "content": ""}]}),
    ("empty-assistant", {"messages": [USER, {"role": "assistant"}]}),
    ("empty-assistant", {"messages": [USER, {"role": "assistant", "content": ""}, USER, ANSWER]}),
    ("no-assistant", {"messages": []}),
    ("no-assistant", {"messages": [USER]}),
    ("bad-tool-json", {"messages": [USER, call("{not json")]}),
    ("bad-tool-json", {"messages": [USER, call("[1]")]}),
    ("bad-tool-json", {"messages": [USER, call({}, None)]}),
    ("bad-tool-json", {"messages": [USER, ANSWER], "tools": "[{"}),
    ("multimodal", {"messages": [USER, ANSWER], "images": ["a.png"]}),
    ("multimodal", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, ANSWER]}),
    ("multimodal", {"messages": [{"role": "user", "content": "<img>a.png</img>what?"}, ANSWER]}),
]

REPORTED: list[tuple[str, Any]] = [
    ("no-user", {"messages": [ANSWER]}),
    ("bad-alternation", {"messages": [USER, USER, ANSWER]}),
    ("bad-alternation", {"messages": [ANSWER, USER, ANSWER]}),
    ("bad-alternation", {"messages": [USER, {"role": "system", "content": "s"}, ANSWER]}),
    ("duplicate", MESSAGES[0]),
    ("tool-call-without-result", {"messages": [USER, call({}), USER, ANSWER]}),
    ("no-trained-token", {"messages": [USER, {**ANSWER, "weight": 0}]}),
    ("placeholder", {"messages": [USER, {"role": "assistant", "content": "I am {{name}}"}]}),
    ("control-characters", {"messages": [USER, {"role": "assistant", "content": "\x1b[2J"}]}),
    ("control-characters", {"messages": [USER, {"role": "assistant", "content": "a\x7f"}]}),
    ("mojibake", {"messages": [USER, {"role": "assistant", "content": "donâ€™t"}]}),
    ("mojibake", {"messages": [USER, {"role": "assistant", "content": "caf\ufffd"}]}),
    ("mojibake", {"messages": [USER, {"role": "assistant", "content": "naÃ¯ve"}]}),
]
FINE: list[Any] = [
    {"messages": [USER, {"role": "assistant", "content": r"\beta \u00e9 {x} {{ }}"}]},
    {"messages": [USER, {"role": "assistant", "content": "línea ÂA nbsp:\u00a0 «»"}]},
    {"messages": [USER, call({}), {"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}, ANSWER]},
    {"messages": [{"role": "system", "content": "s"}, USER, ANSWER]},
]


def raw(row: Any) -> bytes:
    return row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode()


@pytest.mark.parametrize(("code", "row"), ASIDE)
def test_a_row_is_set_aside_with_its_place_and_its_bytes(code: str, row: Any, tmp_path: Path) -> None:
    head = jsonl(MESSAGES)
    put(tmp_path / "x", head + b"\n" + raw(row) + b"\n")
    conversion = convert([tmp_path / "x"], tmp_path / "out", accept_rejected=True)
    (rejected,) = map(json.loads, (tmp_path / "out" / "rejected.jsonl").read_text().splitlines())

    assert (rejected["code"], rejected["row"], rejected["line"]) == (code, 4, 5)
    assert rejected["byte"] == len(head) + 1
    assert rejected["raw"].rstrip("\n") == raw(row).decode("utf-8", "backslashreplace")
    assert records(tmp_path / "out") == MESSAGES
    assert conversion.to_json()["rows"] == {"total": 4, "usable": 3, "rejected": 1, "repaired": 0}
    assert code in SET_ASIDE


@pytest.mark.parametrize(("code", "row"), REPORTED)
def test_a_row_is_reported_and_kept(code: str, row: Any, tmp_path: Path) -> None:
    inspection = inspect([put(tmp_path / "x", [*MESSAGES, row])])
    assert [(p["code"], p["count"]) for p in inspection.to_json()["problems"]] == [(code, 1)]
    assert inspection.input.usable == 4
    assert code not in SET_ASIDE


@pytest.mark.parametrize("row", FINE)
def test_nothing_is_said_of_a_row_that_is_right(row: Any, tmp_path: Path) -> None:
    assert inspect([put(tmp_path / "x", [row])]).to_json()["problems"] == []


def test_every_code_has_its_words_in_both_languages() -> None:
    for code in {*SET_ASIDE, *(code for code, _ in REPORTED)}:
        assert set(entry(f"data.row-{code}")) == {"en", "zh"}


def test_deep_nesting_is_a_row_problem(tmp_path: Path) -> None:
    deep = b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    meta = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "x": %b}' % (
        b"[" * 500 + b"]" * 500
    )
    inspection = inspect([put(tmp_path / "x", jsonl(MESSAGES) + deep + b"\n" + meta + b"\n")])
    assert inspection.input.total == 5
    assert inspection.input.tally.counts["unparsable"] >= 1


def test_rows_none_of_which_can_be_read_say_why(tmp_path: Path) -> None:
    """Raw control characters, or lone surrogates: JSON in shape, and no JSON."""
    bad = b'{"messages": [{"role": "user", "content": "%b"}, {"role": "assistant", "content": "x"}]}\n'
    for code, text in (("unparsable", b"\x1b"), ("encoding", b"\\ud800")):
        conversion = convert([put(tmp_path / code, bad % text * 3)], tmp_path / f"{code}-out")
        found = conversion.inspection.to_json()
        assert [(problem["code"], problem["count"]) for problem in found["problems"]] == [(code, 3)]
        assert [problem.code for problem in conversion.refusals()] == ["data.nothing-usable"]


def test_an_example_is_cut_between_characters(tmp_path: Path) -> None:
    text = "{{ name }}" + "我是" * 40
    found = inspect([put(tmp_path / "x", [chat("q", text)])]).to_json()
    (problem,) = found["problems"]
    assert problem["code"] == "placeholder"
    assert "\ufffd" not in problem["examples"][0]["detail"]


def test_a_long_path_is_given_whole(tmp_path: Path) -> None:
    folder = tmp_path / ("a" * 120) / ("b" * 120)
    folder.mkdir(parents=True)
    path = put(folder / "x.jsonl", [chat("q", "")])
    found = inspect([path]).to_json()
    assert found["files"][0]["path"] == found["problems"][0]["examples"][0]["file"] == str(path)
