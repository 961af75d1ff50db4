"""The events of a run, read while they are being written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetui.core.events import (
    FAILURES,
    OPTIONAL,
    SCHEMA,
    SUPERVISOR_EVENTS,
    SUPERVISOR_FILE,
    TRAINER_FILE,
    VERSION,
    Reader,
    Tail,
    conforms,
    last,
    parse,
    read,
)

pytestmark = pytest.mark.unit


def line(event: str, time: float = 1.0, **facts: Any) -> bytes:
    """One line as the trainer writes it."""
    return json.dumps({"v": 1, "event": event, "time": time, "step": None, **facts}).encode() + b"\n"


def append(path: Path, data: bytes) -> None:
    """Add bytes to a file, as a writer does."""
    with path.open("ab") as stream:
        stream.write(data)


def test_a_growing_file_gives_each_event_once(tmp_path: Path) -> None:
    tail = Tail(tmp_path / TRAINER_FILE)
    assert tail.read() == []
    append(tail.path, line("evaluation", 1.0, loss=2.5))
    (event,) = tail.read()
    assert (event.name, event.time, event.step, event["loss"]) == ("evaluation", 1.0, None, 2.5)
    append(tail.path, line("evaluation", 2.0, loss=1.5))
    assert [event["loss"] for event in tail.read()] == [1.5]
    assert tail.read() == []


def test_a_half_last_line_waits_for_its_rest(tmp_path: Path) -> None:
    tail = Tail(tmp_path / TRAINER_FILE)
    whole = line("checkpoint", path="checkpoints/checkpoint-1")
    append(tail.path, whole[:20])
    assert tail.read() == []
    append(tail.path, whole[20:-1])
    assert tail.read() == []
    append(tail.path, whole[-1:])
    assert [event["path"] for event in tail.read()] == ["checkpoints/checkpoint-1"]
    assert tail.skipped == 0


@pytest.mark.parametrize(
    "foreign",
    [
        b"\n",
        b"not json\n",
        b"[1, 2]\n",
        b'"text"\n',
        b'{"event": "step"}\n',
        b'{"v": 1, "event": ["step"], "time": 1}\n',
        b'{"v": 1, "event": "step", "time": "now"}\n',
        b'{"v": 1, "event": "started", "time": 1.0, "step": null}\n',
        b'{"v": 1, "event": "evaluation", "time": 1.0, "step": null}\n',
        b'{"v": 1, "event": "evaluation", "time": 1.0, "step": "1", "loss": 1.0}\n',
        b'{"v": 1, "event": "evaluation", "time": 1.0, "step": 1, "loss": "1.0"}\n',
        b'{"v": 1, "event": "evaluation", "time": 1.0, "step": 1, "loss": true}\n',
        b'{"v": 2, "event": "evaluation", "time": 1.0, "step": 1, "loss": 1.0}\n',
        line("invented"),
        line("evaluation", loss=1.0)[:-9] + b"}\n",
        b"\xff\xfe\n",
    ],
)
def test_foreign_lines_are_passed_over_and_counted(tmp_path: Path, foreign: bytes) -> None:
    tail = Tail(tmp_path / TRAINER_FILE)
    append(tail.path, line("evaluation", loss=1.0) + foreign + line("evaluation", loss=2.0))
    assert [event["loss"] for event in tail.read()] == [1.0, 2.0]
    assert tail.skipped == 1


def test_both_files_of_a_run_are_merged_by_time(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    append(tmp_path / TRAINER_FILE, line("evaluation", 1.0, loss=3.0) + line("evaluation", 3.0, loss=2.0))
    append(tmp_path / SUPERVISOR_FILE, line("sample", 2.0, resident_bytes=5) + line("nonsense", 2.5))
    assert [(event.name, event.time) for event in reader.read()] == [
        ("evaluation", 1.0),
        ("sample", 2.0),
        ("evaluation", 3.0),
    ]
    assert reader.skipped == 1
    append(tmp_path / SUPERVISOR_FILE, line("ended", 4.0, status="finished"))
    assert [event.name for event in reader.read()] == ["ended"]


def test_reading_from_an_offset_goes_on_where_it_ended(tmp_path: Path) -> None:
    first = Tail(tmp_path / TRAINER_FILE)
    append(first.path, line("evaluation", loss=1.0))
    first.read()
    append(first.path, line("evaluation", loss=2.0))
    assert [event["loss"] for event in Tail(first.path, first.offset).read()] == [2.0]


def test_the_last_event_of_a_kind_is_found_from_the_end(tmp_path: Path) -> None:
    path = tmp_path / TRAINER_FILE
    assert last(path, ["step"]) is None
    append(path, line("checkpoint", path="x" * 3_000_000) + line("evaluation", loss=1.0))
    append(path, b"".join(line("warning", code="c", text="t" * 1000) for _ in range(3000)) + b'{"v": 1, "event": "eva')
    found = last(path, ["evaluation"])
    assert found is not None
    assert found["loss"] == 1.0
    checkpoint = last(path, ["checkpoint", "failed"])
    assert checkpoint is not None
    assert len(checkpoint["path"]) == 3_000_000
    assert last(path, ["failed"]) is None


def test_read_gives_every_event_of_a_file_as_a_dictionary(tmp_path: Path) -> None:
    append(tmp_path / TRAINER_FILE, line("evaluation", loss=1.0) + b"half")
    assert list(read(tmp_path / TRAINER_FILE)) == [
        {"v": 1, "event": "evaluation", "time": 1.0, "step": None, "loss": 1.0}
    ]
    assert list(read(tmp_path / "nowhere")) == []


def test_conforms_names_what_is_missing_foreign_or_of_another_type() -> None:
    fitting = {"v": 1, "event": "evaluation", "time": 1.0, "step": 3, "loss": 0.5}
    assert conforms(fitting) == []
    assert conforms({**fitting, "loss": "0.5"}) == ["evaluation.loss is str"]
    assert conforms({**fitting, "step": True}) == ["evaluation.step is bool"]
    assert conforms({**fitting, "extra": 1}) == ["evaluation.extra is not in the schema"]
    assert conforms({key: value for key, value in fitting.items() if key != "loss"}) == ["evaluation.loss is missing"]
    assert conforms({**fitting, "event": "sample"}) == ["no event sample"]


def test_a_number_that_was_not_finite_and_facts_of_a_later_version_are_read() -> None:
    found = parse(line("evaluation", loss=None, perplexity=3.5))
    assert found is not None
    assert (found["loss"], found["perplexity"]) == (None, 3.5)


def test_parse_takes_compact_and_spaced_json_alike() -> None:
    compact = b'{"step":4,"time":2,"event":"evaluation","v":1,"loss":1.0}\n'
    event = parse(compact)
    assert event is not None
    assert (event.name, event.time, event.step) == ("evaluation", 2.0, 4)


def test_the_document_names_every_event_and_fact() -> None:
    text = (Path(__file__).parents[2] / "docs/events.md").read_text(encoding="utf-8")
    facts = {fact for table in (SCHEMA, OPTIONAL) for event in table.values() for fact in event}
    for name in {*SCHEMA, *SUPERVISOR_EVENTS, *facts, *FAILURES}:
        assert f"`{name}`" in text, name
    assert f"Schema version {VERSION}." in text
