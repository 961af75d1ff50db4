"""A replay says whether a bundle gave the same again, and where it parted and why."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from finetui.core.errors import FinetuiError
from finetui.hardware.probe import probe
from finetui.runs.following import follow
from finetui.runs.launch import start
from finetui.runs.replay import band, changed, compare, expected_of, summary
from tests.unit.runs.conftest import WHOLE

pytestmark = pytest.mark.unit

HARDWARE = '{"device": "cpu", "name": "x", "capability": "AVX2", "threads": 1, "torch": "0+cpu"}'
BODY = WHOLE.replace("finish()", f"hardware = {HARDWARE}\nfinish()")


def run_to_end(bundle, **choices):
    run = start(bundle, **choices)
    list(follow(run))
    return run


@pytest.fixture
def proven(make_bundle):
    """A bundle that has been run once, and so has evidence."""
    made = make_bundle(BODY)
    run = run_to_end(made.path)
    assert (made.path / "evidence").is_dir(), run.supervisor_events.read_text()
    return made


@pytest.fixture
def replay(proven):
    """Its replay's run and the evidence that it is held against."""
    return run_to_end(proven.path, kind="replay"), expected_of(proven.path)


def rewrite(run, number: int, **facts) -> None:
    """Change the facts of one step in a run's events."""
    lines = [json.loads(line) for line in run.events.read_text().splitlines()]
    for line in lines:
        if line["event"] == "step" and line["step"] == number:
            line.update(facts)
    run.events.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_same_again_is_exact(replay):
    run, expected = replay
    found = compare(expected, run)

    assert found.to_json() == {
        "reproduced": True,
        "kind": "exact",
        "first_divergence": None,
        "run": run.name,
        "steps": 3,
        "differences": [],
    }
    assert summary(found).startswith("reproduced: every loss")


def test_without_evidence_a_replay_says_to_run_it_first(make_bundle):
    made = make_bundle()

    with pytest.raises(FinetuiError) as error:
        expected_of(made.path)

    assert (error.value.exit_code, error.value.problems[0].next("en")) == (3, f"finetui run {made.path}")


def test_a_replay_leaves_the_evidence_alone(proven):
    before = (proven.path / "evidence/evidence.json").read_bytes()

    run_to_end(proven.path, kind="replay")

    assert (proven.path / "evidence/evidence.json").read_bytes() == before


def test_a_run_stopped_after_some_steps_leaves_no_evidence(make_bundle):
    made = make_bundle(BODY)

    run_to_end(made.path, stop_after=2)

    assert not (made.path / "evidence").exists()


@pytest.mark.parametrize(
    ("number", "facts", "step", "words"),
    [
        (2, {"batch_digest": "f" * 16, "loss": 9.0}, 2, "other rows"),
        (1, {"loss": 2.0000000000000004}, 1, "very first loss"),
        (3, {"loss": 0.6}, 3, "weights parted"),
        (2, {"grad_norm": 1.0000000000000002}, 2, "gradient"),
    ],
)
def test_exact_demands_every_bit_and_names_what_parted_first(replay, number, facts, step, words):
    run, expected = replay
    rewrite(run, number, **facts)

    found = compare(expected, run)

    assert (found.reproduced, found.kind) == (False, "exact")
    contract = found.to_json()["first_divergence"]
    assert contract["step"] == step
    assert words in contract["cause"]
    assert contract["actual"] == next(iter(facts.values()))


def test_exact_demands_the_same_output(replay):
    run, expected = replay

    found = compare(replace(expected, outputs={"adapter_model.safetensors": "0" * 64}), run)

    assert (found.reproduced, found.first_divergence.step) == (False, 3)
    assert "adapter_model.safetensors" in found.to_json()["first_divergence"]["cause"]


def test_other_hardware_is_equivalent_within_the_band_and_still_shows_where_they_part(replay):
    run, expected = replay
    rewrite(run, 2, loss=1.0 + 0.9 * band(2, 1.0))
    other = replace(expected, hardware={**expected.hardware, "instruction_set": "another"})

    found = compare(other, run)

    assert (found.reproduced, found.kind, found.first_divergence.step) == (True, "equivalent", 2)
    now = probe().instruction_set
    assert found.differences == (f"hardware instruction_set: another → {now}",)


def test_other_hardware_does_not_excuse_a_loss_outside_the_band_or_other_rows(replay):
    run, expected = replay
    other = replace(expected, hardware={**expected.hardware, "instruction_set": "another"})

    rewrite(run, 2, loss=1.0 + 1.1 * band(2, 1.0))
    assert compare(other, run).reproduced is False
    rewrite(run, 2, loss=1.0, batch_digest="f" * 16)
    found = compare(other, run)
    assert (found.reproduced, found.kind) == (False, "equivalent")
    assert "other rows" in found.to_json()["first_divergence"]["cause"]


def test_other_package_versions_are_exact_only_where_every_bit_is_the_same(replay):
    run, expected = replay
    other = replace(expected, packages={**expected.packages, "peft": "0.1"})

    assert compare(other, run).kind == "exact"
    rewrite(run, 3, loss=2.0 / 3 * (1 + 1e-6))
    found = compare(other, run)
    assert (found.kind, found.reproduced) == ("equivalent", True)
    assert found.differences == ("package peft: 0.1 → None",)


def test_fewer_steps_are_held_against_those_alone(proven):
    run = run_to_end(proven.path, kind="replay", stop_after=2)

    found = compare(expected_of(proven.path), run)

    assert (found.reproduced, found.kind, found.steps) == (True, "exact", 2)


def test_a_missing_step_is_a_divergence(replay):
    run, expected = replay
    lines = run.events.read_text().splitlines(keepends=True)
    run.events.write_text("".join(line for line in lines if '"step": 3,' not in line))

    found = compare(expected, run)

    assert (found.reproduced, found.first_divergence.step) == (False, 3)
    assert "no such step" in found.to_json()["first_divergence"]["cause"]


def test_a_replay_that_fails_is_not_reproduced_and_says_why(replay):
    run, expected = replay
    (run.path / "done.json").unlink()

    found = compare(expected, run)

    assert found.reproduced is False
    assert "no-record" in found.to_json()["first_divergence"]["cause"]


def test_a_changed_bundle_is_not_run_but_named(proven):
    (proven.path / "recipe.toml").write_text("changed")

    found = changed(proven.path)

    assert (found.kind, found.reproduced, found.run) == ("changed", False, None)
    assert "recipe.toml" in summary(found)


def test_the_band_grows_from_a_thousandth_to_two_hundredths():
    assert band(1, 2.0) == pytest.approx(2e-3)
    assert band(20, 2.0) == band(500, 2.0) == pytest.approx(4e-2)
    assert band(20, 0.001) == pytest.approx(2e-3)
