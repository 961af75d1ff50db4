"""Trees of messages become one chat a thread, whether nested or joined by id."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finetui.cli.main import run
from finetui.data import convert
from finetui.data.formats.forest import LONGEST
from tests.unit.data.write import chat, put, records

pytestmark = pytest.mark.unit


def said(name: str, parent: str | None, role: str, **more: Any) -> dict[str, Any]:
    return {"message_id": name, "parent_id": parent, "text": f"text of {name}", "role": role, **more}


TREE = [
    said("q", None, "prompter", lang="en"),
    said("a1", "q", "assistant"),
    said("a2", "q", "assistant", rank=0),
    said("q1", "a1", "prompter"),
    said("a11", "q1", "assistant"),
    said("a12", "q1", "assistant"),
    said("q11", "a11", "prompter"),
    said("q2", "a2", "prompter"),
]
THREADS = [["q", "a1", "q1", "a11"], ["q", "a1", "q1", "a12"], ["q", "a2"]]


def thread(names: list[str]) -> dict[str, Any]:
    return chat(*(f"text of {name}" for name in names))


def without_meta(out: Path) -> list[Any]:
    return [{key: value for key, value in record.items() if key != "meta"} for record in records(out)]


def rejected(out: Path) -> list[tuple[str, str]]:
    lines = (out / "rejected.jsonl").read_text("utf-8").splitlines()
    return [(row["code"], row["detail"]) for row in map(json.loads, lines)]


def nested(messages: list[dict[str, Any]], parent: str | None = None) -> list[dict[str, Any]]:
    own = [message for message in messages if message["parent_id"] == parent]
    return [{**message, "replies": nested(messages, message["message_id"])} for message in own]


def converted(rows: list[Any], tmp_path: Path) -> dict[str, Any]:
    return convert([put(tmp_path / "x", rows)], tmp_path / "out", accept_rejected=True).to_json()


def test_messages_in_any_order_are_joined_by_id(tmp_path: Path) -> None:
    for seed in range(5):
        rows = random.Random(seed).sample(TREE, len(TREE))
        contract = converted(rows, tmp_path)
        assert (contract["format"], contract["stage"]) == ("oasst", "sft")
        assert contract["rows"] == {"total": 3, "usable": 3, "rejected": 0, "repaired": 0}
        assert sorted(map(str, without_meta(tmp_path / "out"))) == sorted(str(thread(names)) for names in THREADS)


def test_a_thread_keeps_its_tree_and_what_is_told_of_its_last_message(tmp_path: Path) -> None:
    converted(TREE, tmp_path)
    assert [record["meta"] for record in records(tmp_path / "out")] == [
        {"message_id": "a11", "message_tree_id": "q"},
        {"message_id": "a12", "message_tree_id": "q"},
        {"message_id": "a2", "rank": 0, "message_tree_id": "q"},
    ]


def test_ids_may_have_other_names_and_be_numbers(tmp_path: Path) -> None:
    rows = [
        {"user_message_id": 1, "parent_message_id": None, "task_message_id": "x", "text": "a", "role": "prompter"},
        {"user_message_id": 2, "parent_message_id": 1, "task_message_id": "y", "text": "b", "role": "assistant"},
        {"user_message_id": 3, "parent_message_id": "", "text": "c", "role": "prompter"},
        {"user_message_id": 4, "parent_message_id": 3, "text": "d", "role": "assistant"},
    ]
    converted(rows, tmp_path)
    assert without_meta(tmp_path / "out") == [chat("a", "b"), chat("c", "d")]


@pytest.mark.parametrize("wrapped", [False, True])
def test_nested_replies_give_the_same_threads(wrapped: bool, tmp_path: Path) -> None:
    trees = nested(TREE)
    if wrapped:
        trees = [{"message_tree_id": "t", "tree_state": "ready_for_export", "prompt": tree} for tree in trees]
    contract = converted(trees * 2, tmp_path)
    assert contract["format"] == "oasst"
    assert without_meta(tmp_path / "out") == [thread(names) for names in THREADS] * 2
    assert {record["meta"]["message_tree_id"] for record in records(tmp_path / "out")} == {"t" if wrapped else "q"}
    assert contract["problems"][0]["code"] == "duplicate"
    assert [each["line"] for each in contract["problems"][0]["examples"]] == [2, 2, 2]


def test_threads_converted_are_read_again_as_chats(tmp_path: Path) -> None:
    first = convert([put(tmp_path / "x", TREE)], tmp_path / "out")
    again = convert([tmp_path / "out" / "data.jsonl"], tmp_path / "again")
    assert (again.to_json()["format"], again.sha256) == ("messages", first.sha256)


def test_what_does_not_fit_together_is_set_aside_row_by_row(tmp_path: Path) -> None:
    rows = [
        *TREE,
        said("a1", "q", "assistant"),
        said("lost", "nowhere", "prompter"),
        said("below", "lost", "assistant"),
        said("c1", "c2", "prompter"),
        said("c2", "c1", "assistant"),
        said("on", "c1", "assistant"),
        said("self", "self", "prompter"),
        said("mute", None, "prompter"),
        {**said("x", None, "prompter"), "message_id": None},
        {**said("x", None, "prompter"), "message_id": ["x"]},
        {"text": "of another layout"},
        "no object",
    ]
    contract = converted(rows, tmp_path)
    assert without_meta(tmp_path / "out") == [thread(names) for names in THREADS]
    assert rejected(tmp_path / "out") == [
        ("wrong-type", "message_id: a1 (twice)"),
        ("missing-key", "message_id: None"),
        ("wrong-type", "message_id: ['x']"),
        ("missing-key", "message_id (columns: text)"),
        ("not-an-object", "no object"),
        ("missing-key", "parent_id: nowhere"),
        ("no-assistant", "message_id: mute"),
        ("wrong-type", "parent_id: c2 (a circle)"),
        ("wrong-type", "parent_id: c1 (a circle)"),
        ("wrong-type", "parent_id: c1 (a circle)"),
        ("wrong-type", "parent_id: self (a circle)"),
    ]
    assert contract["rows"] == {"total": 14, "usable": 3, "rejected": 11, "repaired": 0}


def test_a_defect_sets_aside_the_threads_that_hold_it(tmp_path: Path) -> None:
    bad = [{**message, "text": ""} if message["message_id"] == "q1" else message for message in TREE]
    for rows in (bad, nested(bad)):
        converted(rows, tmp_path)
        assert without_meta(tmp_path / "out") == [thread(["q", "a2"])]
        assert [code for code, _ in rejected(tmp_path / "out")] == ["empty-user", "empty-user"]


@pytest.mark.parametrize("replies", [7, ["text"], [None], "text"])
def test_replies_that_are_none_set_their_thread_aside(replies: Any, tmp_path: Path) -> None:
    broken = {"text": "a", "role": "prompter", "replies": [{"text": "b", "role": "assistant", "replies": replies}]}
    contract = converted([*nested(TREE) * 3, broken], tmp_path)
    assert contract["rows"]["total"] == 10
    assert len(rejected(tmp_path / "out")) == 1


def test_a_tree_without_an_answer_is_one_row(tmp_path: Path) -> None:
    mute = [said("m", None, "prompter"), said("n", "m", "prompter"), said("o", "m", "prompter")]
    for rows in ([*TREE, *mute], [*nested(TREE), *nested(mute)]):
        assert converted(rows, tmp_path)["rows"]["total"] == 4
        assert [code for code, _ in rejected(tmp_path / "out")] == ["no-assistant"]


def chain(length: int) -> Iterator[dict[str, Any]]:
    for number in range(length):
        parent = str(number - 1) if number else None
        yield said(str(number), parent, "assistant" if number % 2 else "prompter")


def test_a_thread_of_very_many_messages_is_set_aside(tmp_path: Path) -> None:
    assert converted(list(chain(LONGEST)), tmp_path)["rows"]["usable"] == 1
    assert converted(list(chain(5 * LONGEST)), tmp_path)["rows"] == {
        "total": 1,
        "usable": 0,
        "rejected": 1,
        "repaired": 0,
    }
    assert rejected(tmp_path / "out") == [("wrong-type", f"more than {LONGEST} messages one below another")]


def test_threads_of_one_deep_tree_do_not_grow_without_end(tmp_path: Path) -> None:
    comb = [
        message
        for n in range(0, 3 * LONGEST, 2)
        for message in (
            said(f"q{n}", f"a{n - 2}" if n else None, "prompter"),
            said(f"a{n}", f"q{n}", "assistant"),
            said(f"b{n}", f"q{n}", "assistant"),
        )
    ]
    contract = converted(comb, tmp_path)
    assert contract["rows"] == {"total": LONGEST // 2 + 1, "usable": LONGEST // 2, "rejected": 1, "repaired": 0}


def test_numbers_stay_as_they_are_written(tmp_path: Path) -> None:
    last = said("b", "a", "assistant", big=2**80 + 1, float=1e300)
    rows = [said("a", None, "prompter"), last]
    for each in (rows, nested(rows)):
        converted(each, tmp_path)
        (record,) = records(tmp_path / "out")
        assert (record["meta"]["big"], record["meta"]["float"]) == (2**80 + 1, 1e300)


def test_a_full_disk_is_an_error_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], home: Path
) -> None:
    connect = sqlite3.connect

    def tiny(*arguments: Any, **options: Any) -> sqlite3.Connection:
        database = connect(*arguments, **options)
        database.execute("PRAGMA max_page_count = 8")
        return database

    monkeypatch.setattr(sqlite3, "connect", tiny)
    put(tmp_path / "x", list(chain(500)))
    assert run(["inspect", str(tmp_path / "x"), "--json"]) == 5
    assert json.loads(capfd.readouterr().out)["errors"][0]["code"] == "cli.disk-full"
