"""A long event file at a glance gives what reading all of it gives, from a small part of its lines."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import pytest

from finetui.core.events import Reader
from finetui.core.overview import glimpse, overview
from finetui.runs.review.history import History

pytestmark = pytest.mark.unit
_STEPS = 20_000


def _line(event: str, time: float, step: int | None, **facts: object) -> str:
    return json.dumps({"v": 1, "event": event, "time": time, "step": step, **facts}) + "\n"


def _step(step: int, time: float) -> str:
    facts = {"learning_rate": 1e-4, "grad_norm": 1.5, "trained_tokens": 7, "tokens": 9, "tokens_per_second": 5.0}
    more = {"batch_digest": "b060e404b41fb04d", "epoch": step / 100, "memory_bytes": 2**30, "loss": 2.0}
    return _line("step", time, step, **facts, **more)


@pytest.fixture
def long_run(tmp_path: Path) -> Path:
    """A run of many steps with a few rare events at odd places."""
    draw, time = random.Random(7), 1000.0
    evaluated = set(draw.sample(range(1, _STEPS), 40))
    with (tmp_path / "events.jsonl").open("w") as stream:
        for step in range(1, _STEPS + 1):
            time += 0.5
            stream.write(_step(step, time))
            if step in evaluated:
                time += 3.0
                stream.write(_line("evaluation", time, step, loss=1.0 + step / _STEPS))
                time += 2.0
                stream.write(_line("checkpoint", time, step, path=f"checkpoints/checkpoint-{step}"))
        stream.write(_line("warning", time, _STEPS, code="x", text='says "event": "evaluation" and goes on'))
    return tmp_path


def test_a_glance_gives_the_figures_of_all_lines(long_run: Path) -> None:
    whole, seen = History(), History()
    whole.take(Reader(long_run).read())
    events = Reader(long_run).glance()
    seen.take(events)
    assert len(events) < _STEPS / 2
    assert seen.trained_tokens == whole.trained_tokens == 7 * _STEPS
    assert seen.evaluations == whole.evaluations
    assert seen.checkpoints == whole.checkpoints
    assert seen.spending.until() == pytest.approx(whole.spending.until())
    assert seen.warnings == whole.warnings
    assert list(seen.steps[-1900:]) == list(whole.steps[-1900:])


def test_reading_goes_on_after_a_glance_and_loses_nothing(long_run: Path) -> None:
    reader = Reader(long_run)
    with (long_run / "events.jsonl").open("a") as stream:
        stream.write(_step(_STEPS + 1, 1e6)[:40])
    reader.glance()
    assert reader.read() == []
    with (long_run / "events.jsonl").open("a") as stream:
        stream.write(_step(_STEPS + 1, 1e6)[40:])
    assert [event.step for event in reader.read()] == [_STEPS + 1]


def test_a_short_file_is_there_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert overview(path).events == []
    path.write_text("")
    assert overview(path).events == []
    path.write_text("".join(_step(step, step) for step in range(1, 100)) + "no event\n" + '{"half')
    found = overview(path)
    assert [event.step for event in found.events] == list(range(1, 100))
    assert found.offset == path.stat().st_size - len('{"half')


def test_a_glimpse_is_steps_at_even_distances(long_run: Path) -> None:
    steps = [event.step or 0 for event in glimpse(long_run / "events.jsonl", "step", 20)]
    assert 18 <= len(steps) <= 20
    assert all(_STEPS / 25 < after - before < _STEPS / 15 for before, after in itertools.pairwise(steps))
    assert glimpse(long_run / "absent.jsonl", "step", 20) == []


def test_a_rare_event_is_found_wherever_the_pieces_of_the_search_meet(
    long_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetui.core.overview._WHOLE_BYTES", 1000)
    found = [event for event in overview(long_run / "events.jsonl").events if event.name == "evaluation"]
    assert len(found) == 40
