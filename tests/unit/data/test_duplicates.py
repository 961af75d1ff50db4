"""Rows that repeat an earlier one are counted and shown, exactly and nearly, whether memory holds their keys or not."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetui.data import convert, inspect
from finetui.data.repeats.duplicates import Duplicates, Spot
from finetui.data.repeats.near import NearDuplicates
from tests.unit.data.write import chat, jsonl, put, records

pytestmark = pytest.mark.unit

SYLLABLES = ["ka", "to", "mi", "re", "sol", "un", "ba", "li", "ne", "or", "du", "fe", "gi", "hu", "ja", "po"]


def told(path: Path | list[Path], similarity: float | None = None) -> dict[str, Any]:
    """Problem by code."""
    inspection = inspect(path if isinstance(path, list) else [path], similarity=similarity)
    return {problem["code"]: problem for problem in inspection.to_json()["problems"]}


def essay(seed: int, words: int = 120) -> str:
    """Words that no other seed has in this order."""
    chance = random.Random(seed)
    return " ".join("".join(chance.choices(SYLLABLES, k=3)) for _ in range(words))


def reworded(text: str) -> str:
    """The text with one word of it changed."""
    words = text.split()
    words[len(words) // 2] = "nevertheless"
    return " ".join(words)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 9), max_size=60), st.integers(0, 20))
def test_every_repeat_is_counted_once_wherever_keys_are_kept(keys: list[int], in_memory: int) -> None:
    duplicates, at_once = Duplicates(in_memory), 0
    expected = [place for place, key in enumerate(keys) if key in keys[:place]]
    for place, key in enumerate(keys):
        at_once += duplicates.add(key, Spot(0, place, place + 1, -1))
    late, first = duplicates.late(3)
    assert at_once + late == len(expected)
    assert [spot.row for spot in first] == expected[at_once : at_once + 3]


@given(st.lists(st.integers(0, 30), max_size=20), st.lists(st.integers(0, 30), max_size=20))
def test_keys_are_taken_in_together_only_where_each_is_new(first: list[int], second: list[int]) -> None:
    duplicates = Duplicates(25)
    for keys, before in ((first, []), (second, first)):
        if duplicates.add_new(keys):
            assert len({*keys, *before}) == len(keys) + len(set(before))
        else:
            for place, key in enumerate(keys):
                duplicates.add(key, Spot(0, place, 1, 1))
    assert all(duplicates.add(key, Spot(0, 0, 1, 1)) for key in [*first, *second]) or duplicates.late(3)[0]


def test_what_is_told_does_not_depend_on_where_keys_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = random.Random(1).choices(range(300), k=700)
    paths = [put(tmp_path / f"{part}.jsonl", [chat(f"q{n}", "a") for n in numbers[part::2]]) for part in range(2)]
    in_memory = told(paths)
    assert in_memory["duplicate"]["count"] == 700 - len(set(numbers))
    monkeypatch.setattr("finetui.data.repeats.duplicates.Duplicates.__init__.__defaults__", (5,))
    assert told(paths) == in_memory


def test_a_duplicate_is_the_same_conversation_whatever_stands_beside_it(tmp_path: Path) -> None:
    rows = [{**chat("q", "a"), "id": number} for number in range(3)] + [chat("q", "another")]
    path = put(tmp_path / "x.jsonl", rows)
    duplicate = told(path)["duplicate"]
    length = len(jsonl(rows[:1]))
    assert duplicate["count"] == 2
    assert [(place["row"], place["line"], place["byte"]) for place in duplicate["examples"]] == [
        (2, 2, length),
        (3, 3, 2 * length),
    ]


def test_a_near_duplicate_names_the_row_it_resembles(tmp_path: Path) -> None:
    first = put(tmp_path / "first.jsonl", [chat("Why tides?", essay(1)), chat("Why tides?", essay(2))])
    second = put(
        tmp_path / "second.jsonl", [chat("Why tides?", reworded(essay(2))), chat("Bread?", "Flour and water.")]
    )
    near = told([first, second], 0.8)["near-duplicate"]
    assert near["count"] == 1
    assert near["examples"][0]["row"] == 1
    assert near["examples"][0]["file"] == str(second)
    assert near["examples"][0]["detail"] == f"~ {first}:2"


def test_near_duplicates_are_told_only_where_they_are_asked_for(tmp_path: Path) -> None:
    path = put(tmp_path / "x.jsonl", [chat("q", essay(1)), chat("q", reworded(essay(1)))])
    assert told(path) == {}
    assert set(told(path, 0.8)) == {"near-duplicate"}
    assert told(path, 0.99) == {}


def test_a_row_that_is_the_same_is_no_near_duplicate_too(tmp_path: Path) -> None:
    rows = [chat("q", essay(1)), chat("q", essay(1)), chat("q", reworded(essay(1))), chat("q", reworded(essay(1)))]
    problems = told(put(tmp_path / "x.jsonl", rows), 0.8)
    assert (problems["duplicate"]["count"], problems["near-duplicate"]["count"]) == (2, 1)


def test_what_many_rows_share_by_design_makes_them_no_near_duplicates(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": essay(9)}}]
    rows = []
    for number in range(3):
        row = chat(essay(number, 30), essay(number + 10, 30))
        row["messages"].insert(0, {"role": "system", "content": essay(8, 400)})
        rows.append({**row, "tools": tools, "note": essay(7, 400)})
    assert told(put(tmp_path / "x.jsonl", rows), 0.8) == {}


@pytest.mark.parametrize(
    "record",
    [
        {"text": essay(3)},
        {"prompt": [{"role": "user", "content": "q"}], "chosen": [{"role": "assistant", "content": essay(3)}]},
        {"input_ids": list(range(500)), "labels": list(range(500))},
        {"text": "短"},
        {"text": ""},
    ],
)
def test_rows_of_every_kind_are_compared_by_what_they_say(record: Mapping[str, Any]) -> None:
    near = NearDuplicates(0.8)
    near.add(1, record, Spot(0, 1, 1, 0))
    near.add(2, {**record, "meta": {"id": 5}}, Spot(0, 2, 2, 9))
    near.add(3, {"text": essay(4)}, Spot(0, 3, 3, 9))
    assert list(near.joined()) == [(1, 0, False)]
    assert near.spot(1) == Spot(0, 2, 2, 9)


def test_kin_do_not_depend_on_the_order_of_reading() -> None:
    texts = [essay(seed) for seed in range(20)]
    rows = texts + [reworded(text) for text in texts[:10]] + texts[5:8]
    orders = [list(range(len(rows))), random.Random(2).sample(range(len(rows)), len(rows))]
    families: list[set[frozenset[str]]] = []
    for order in orders:
        near = NearDuplicates(0.8)
        for place in order:
            near.add(hash(rows[place]), {"text": rows[place]}, Spot(0, place, 1, 0))
        kin: dict[int, set[str]] = {}
        for number, first, _ in near.joined():
            kin.setdefault(first, {rows[order[first]]}).add(rows[order[number]])
        families.append({frozenset(texts) for texts in kin.values() if len(texts) > 1})
    assert families[0] == families[1] == {frozenset({text, reworded(text)}) for text in texts[:10]}


def test_a_text_of_any_length_is_compared(tmp_path: Path) -> None:
    long, other = ("".join(map(chr, random.Random(seed).choices(range(0x4E00, 0x9000), k=70_000))) for seed in (1, 2))
    rows = [chat("q", long), chat("q", long[:-100]), chat("q", other)]  # longer than what is compared in one piece
    assert told(put(tmp_path / "x.jsonl", rows), 0.8)["near-duplicate"]["count"] == 1


def test_a_converted_folder_counts_the_same(tmp_path: Path) -> None:
    rows = [chat("q", "a"), chat("q", "b"), chat("q", "a")]
    out = convert([put(tmp_path / "x.json", json.dumps(rows).encode())], tmp_path / "out").out
    assert records(out) == rows
    assert told(out)["duplicate"]["count"] == 1
