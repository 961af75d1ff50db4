"""What a run leaves on the disk, how long it takes, what it costs: the arithmetic, for cases worked out by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from finetui.core.figures import duration, gib, round_number, share
from finetui.models.outline import Outline
from finetui.recipes.resolve import resolve
from finetui.recipes.resolve.cost import START_SECONDS
from finetui.recipes.resolve.tokens import binned, load_of
from tests.unit.recipes.planning import GIB, planned, request, shaped, tokens, value, why

pytestmark = pytest.mark.unit

ADAPTER = 16 * 28 * ((3584 + 3584) * 2 + (3584 + 512) * 2 + (3584 + 18944) * 3)
"""Weights of an adapter of rank 16 on all linear layers of Qwen2.5-7B: q and o, k and v, gate, up and down."""
ROWS = tokens([500] * 20_000)


@pytest.fixture
def model(tmp_path: Path) -> Outline:
    """Qwen2.5-7B by its config.json."""
    return shaped(tmp_path)


def test_a_checkpoint_is_what_is_trained_and_two_moments_of_it(model: Outline) -> None:
    saving = planned(model, "lora-3090", "r=16", gpus="a100-80g", tokens=ROWS).settled.saving
    assert saving.output_bytes == 4 * ADAPTER
    assert saving.checkpoint_bytes == 3 * 4 * ADAPTER
    assert saving.merged_bytes == 2 * 7_615_616_512
    full = planned(model, "full-a100x4", gpus="a100-80g:4", tokens=ROWS).settled.saving
    assert (full.output_bytes, full.merged_bytes) == (4 * 7_615_616_512, 0)
    assert full.checkpoint_bytes >= 3 * full.output_bytes  # over all shards


def test_steps_are_epochs_of_rows_or_as_many_as_were_said(model: Outline) -> None:
    assert planned(model, "lora-3090", gpus="a100-80g", tokens=ROWS).settled.saving.steps == 3 * 1250
    assert planned(model, "lora-3090", "num_train_epochs=0.5", gpus="l4", tokens=ROWS).settled.saving.steps == 625
    assert planned(model, "lora-3090", "max_steps=77", gpus="l4", tokens=ROWS).settled.saving.steps == 77
    assert planned(model, "lora-3090", "max_steps=77", gpus="l4").settled.saving.steps == 77
    assert planned(model, "lora-3090", gpus="l4").settled.saving.steps is None


def test_rows_that_a_cutoff_drops_are_no_steps(model: Outline) -> None:
    mixed = tokens([100] * 1600 + [900] * 160)
    dropped = planned(model, "lora-3090", "max_length=500", gpus="a100-80g", tokens=mixed)
    assert dropped.settled.saving.steps == 3 * 100
    cut = planned(model, "lora-3090", "max_length=500", "overlong=cut", gpus="a100-80g", tokens=mixed)
    assert cut.settled.saving.steps == 3 * 110


def test_checkpoints_come_about_every_half_hour_and_two_are_kept(model: Outline) -> None:
    made = planned(model, "lora-3090", gpus="a100-80g", tokens=ROWS)
    every = value(made, "save_steps")
    assert 600 <= every * made.settled.fitted.seconds <= 1800
    assert every == round_number(1800 / made.settled.fitted.seconds)
    assert "so that a crash costs no more" in why(made, "save_steps")
    assert (value(made, "save_total_limit"), made.settled.saving.checkpoints) == (2, 3)
    assert value(planned(model, "lora-3090", gpus="a100-80g", tokens=tokens([100] * 50)), "save_steps") == 0


def test_the_best_checkpoint_needs_one_for_each_evaluation(model: Outline) -> None:
    held = tokens([500] * 20_000, held=[500] * 100)
    made = planned(model, "lora-3090", "load_best_model_at_end=true", "eval_steps=70", gpus="a100-80g", tokens=held)
    assert value(made, "save_steps") == 70


def test_one_checkpoint_is_kept_where_the_disk_takes_no_more(model: Outline) -> None:
    open_ = request(model, "lora-3090", gpus="a100-80g", tokens=ROWS)
    saving = resolve(open_).settled.saving
    rest = saving.output_bytes + saving.merged_bytes + saving.data_bytes
    roomy = resolve(replace(open_, free_disk_bytes=rest + 3 * saving.checkpoint_bytes))
    assert (value(roomy, "save_total_limit"), roomy.disk_fits, roomy.warnings) == (2, True, ())
    tight = resolve(replace(open_, free_disk_bytes=rest + 3 * saving.checkpoint_bytes - 1))
    assert (value(tight, "save_total_limit"), tight.settled.saving.checkpoints) == (1, 2)
    assert "one is kept, and room for the next" in why(tight, "save_total_limit")
    assert tight.disk_bytes == rest + 2 * saving.checkpoint_bytes
    full = resolve(replace(open_, free_disk_bytes=GIB))
    assert [problem.code for problem in full.warnings] == ["rules.disk"]
    assert not full.disk_fits


def test_the_time_is_that_of_its_parts(model: Outline) -> None:
    held = tokens([500] * 20_000, held=[500] * 100)
    made = planned(model, "lora-3090", "eval_steps=1000", gpus="a100-80g", tokens=held)
    assert made.time is not None
    saving, time = made.settled.saving, made.time
    assert time.training == pytest.approx(3750 * made.settled.fitted.seconds)
    written = 3750 // value(made, "save_steps") * saving.checkpoint_bytes + saving.output_bytes
    assert time.saving == pytest.approx(written / 0.5e9)
    assert time.loading == pytest.approx(START_SECONDS + 2 * 7_615_616_512 / 1e9)
    assert time.evaluating > 0
    assert made.seconds == pytest.approx(time.training + time.evaluating + time.saving + time.loading)
    more = planned(model, "lora-3090", "eval_steps=500", gpus="a100-80g", tokens=held).time
    assert more is not None
    assert more.evaluating == pytest.approx(time.evaluating * 7 / 3)


def test_twice_the_gpus_take_about_half_the_time_and_no_fewer_steps(model: Outline) -> None:
    one = planned(model, "lora-3090", gpus="a100-80g", tokens=ROWS)
    two = planned(model, "lora-3090", gpus="a100-80g:2", tokens=ROWS)
    assert one.time is not None
    assert two.time is not None
    assert one.settled.saving.steps == two.settled.saving.steps
    assert 0.45 < two.time.training / one.time.training < 0.7


def test_the_cost_is_the_price_of_every_gpu_for_every_second(model: Outline) -> None:
    made = planned(model, "lora-3090", gpus="a100-80g:2", tokens=ROWS, price=1.5)
    assert made.cost is not None
    assert made.seconds is not None
    assert made.cost.amount == pytest.approx(2 * 1.5 * made.seconds / 3600, abs=1e-3)
    assert planned(model, "lora-3090", gpus="a100-80g:2", price=1.5).cost is None  # no data: no number of steps
    assert planned(model, "lora-3090", gpus="a100-80g:2", tokens=ROWS).cost is None


def test_figures_as_people_read_them() -> None:
    assert [gib(size) for size in (0, GIB // 2, 100 << 20, 25 * GIB)] == ["0 MiB", "0.5 GiB", "100 MiB", "25.0 GiB"]
    assert [duration(seconds) for seconds in (0.338, 12.4, 150, 8000)] == ["0.34 s", "12 s", "2 min", "2.2 h"]
    assert [round_number(number) for number in (0.3, 1, 19, 49.9, 1234)] == [1, 1, 10, 20, 1000]
    assert (share(1, 3), share(1, 0)) == ("33 %", "0 %")


class Walked(Counter[int]):
    """Counts that know how often somebody looked through them."""

    walks = 0

    def __iter__(self) -> Iterator[int]:
        Walked.walks += 1
        return super().__iter__()


def test_lengths_without_number_are_looked_through_a_few_times_and_once_for_each_cutoff() -> None:
    rows = tokens(range(20, 2020))
    load_of(rows, 4096)  # what is asked of all cutoffs together
    counts = Walked(rows.train.tokens)
    assert load_of(rows, 1024) is load_of(rows, 1024)
    assert rows.cut(1024) is rows.cut(1024)
    Walked.walks = 0
    assert binned(counts)[-1][0] == 2019
    assert Walked.walks <= 3
