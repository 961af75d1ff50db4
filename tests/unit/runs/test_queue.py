"""Who gets which GPU, and in which order those that wait get theirs."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from finetui.core.errors import MACHINE, FinetuiError
from finetui.hardware.gpu import Gpu, Holder
from finetui.hardware.probe import Machine
from finetui.runs.folder import find_run
from finetui.runs.following import follow
from finetui.runs.launch import launch, prepare
from finetui.runs.outcome import problem, result
from finetui.runs.processes import Identity
from finetui.runs.queue import blocked, enter, position
from finetui.runs.state import QUEUED, RUNNING, STARTING, RunState
from finetui.runs.stopping import stop
from tests.unit.runs.conftest import GATED
from tests.unit.runs.support import finetui, has_step, kill, wait_until
from tests.unit.runs.test_finding import make_run

pytestmark = pytest.mark.unit

GB = 1 << 30


def gpu(index: int, **facts) -> Gpu:
    return Gpu(index, "rtx3090", "NVIDIA GeForce RTX 3090", 24 * GB, "590", uuid=f"GPU-{index:04x}", **facts)


GPUS = tuple(gpu(index) for index in range(4))


@pytest.fixture
def asking(home):
    """`asking("0,2")` is the state of a run that asks for these GPUs."""
    template = make_run("20260101-000001-asks", home, status="finished").read()

    def make(gpus: str | None = None, world_size: int = 1) -> RunState:
        return replace(template, gpus=gpus, world_size=world_size)

    return make


@pytest.fixture
def living(home):
    """`living("one", claims)` is a run that this very process answers for."""

    def make(name: str, claims: str, status: str = RUNNING, ticket: int = 0) -> RunState:
        run = make_run(f"20260101-000002-{name}", home, status=status, claims=claims, ticket=ticket)
        run.write(run.read().held_by(Identity.of(os.getpid())))
        return run.read()

    return make


def test_free_gpus_are_claimed_by_their_own_names(asking):
    assert enter(asking("2,0", 2), GPUS, wait=False).claims == "GPU-0000,GPU-0002"
    assert enter(asking(None, 2), GPUS, wait=False).claims == "GPU-0000,GPU-0001"
    assert enter(asking("GPU-0003"), GPUS, wait=False).claims == "GPU-0003"


def test_a_gpu_that_another_run_holds_is_refused_and_the_free_ones_are_named(asking, living):
    other = living("one", "GPU-0002,GPU-0003")

    with pytest.raises(FinetuiError) as error:
        enter(asking("0,2", 2), GPUS, wait=False)

    said = error.value.problems[0]
    assert (said.code, error.value.exit_code) == ("runs.gpu-held", MACHINE)
    assert said.message("en") == f"GPU 2 is in use by run {other.run}"
    assert "free now: 0,1" in said.expected("en")
    assert said.next("en") == "finetui run /bundle --wait"
    assert enter(asking("0,1", 2), GPUS, wait=False).status == STARTING


def test_who_waits_stands_behind_those_that_came_before_and_keeps_newcomers_back(asking, living):
    living("one", "GPU-0002")
    first = enter(asking("2"), GPUS, wait=True)
    living("two", "GPU-0002", QUEUED, first.ticket)
    second = enter(asking("2"), GPUS, wait=True)

    assert (first.status, first.ticket, second.status, second.ticket) == (QUEUED, 1, QUEUED, 2)
    with pytest.raises(FinetuiError) as error:
        enter(asking("2"), GPUS, wait=False)
    assert [said.code for said in error.value.problems] == ["runs.gpu-held", "runs.gpu-asked-for"]


def test_the_end_of_a_run_whatever_ended_it_is_the_end_of_its_claims(asking, living, home):
    other = living("one", "GPU-0002")
    make_run(other.run, home / "elsewhere", status=RUNNING)
    run = find_run(other.run)
    run.write(replace(other, pid_start=other.pid_start + 1))

    assert run.status() == "interrupted"
    assert enter(asking("2"), GPUS, wait=False).status == STARTING


def test_other_programs_on_a_gpu_block_it_and_are_named(asking):
    busy = gpu(1, free_bytes=4 * GB, holders=(Holder(4321, "python train.py", 20 * GB),))
    desktop = gpu(0, free_bytes=23 * GB, holders=(Holder(77, "Xorg", GB),))

    with pytest.raises(FinetuiError) as error:
        enter(asking("0,1", 2), (desktop, busy), wait=False)

    assert error.value.problems[0].code == "runs.gpu-strangers"
    assert "GPU 1: python train.py (4321): 20.0 GB" in str(error.value)
    assert "Xorg" not in str(error.value)
    assert not blocked(replace(asking("0"), claims="GPU-0000"), (desktop, busy))


def test_fewer_gpus_than_processes_are_refused(asking):
    with pytest.raises(FinetuiError) as error:
        enter(asking("1", 2), GPUS, wait=False)

    assert error.value.problems[0].code == "runs.few-gpus"


def test_without_gpus_runs_share_the_machine_unless_one_waits(asking, living):
    living("one", "cpu")

    assert enter(asking(), (), wait=False).status == STARTING
    assert enter(asking(), (), wait=True).status == QUEUED


WITHOUT = Machine("GenuineIntel", "Xeon", "avx512", 8, 8, 64 << 30, ())


def test_a_queue_keeps_its_order_and_a_killed_waiter_leaves_no_hole(make_bundle):
    made = make_bundle(GATED)
    runs = [prepare(made.path, wait=True, machine=WITHOUT) for _ in range(4)]
    for run in runs:
        launch(run)
    first, killed, second, third = runs
    assert [run.status() for run in runs] == ["running", "queued", "queued", "queued"]
    assert [position(run, run.read()) for run in runs] == [None, 1, 2, 3]

    kill(killed.read().identity)
    assert [position(run, run.read()) for run in (second, third)] == [1, 2]
    (first.path / "go").touch()
    wait_until(lambda: has_step(second, 1), "the turn of the second")
    assert third.status() == "queued"
    (second.path / "go").touch()
    (third.path / "go").touch()
    for run in (second, third):
        list(follow(run))
        assert result(run)["status"] == "finished"
    assert (killed.status(), result(killed)["steps"]) == ("interrupted", 0)
    assert second.read().ended <= third.read().ended


def test_stop_takes_a_run_out_of_the_queue(make_bundle):
    made = make_bundle(GATED)
    first, second = (prepare(made.path, wait=True, machine=WITHOUT) for _ in range(2))
    for run in (first, second):
        launch(run)

    done = stop(second)

    assert (done.status, done.was_running, done.left) == ("stopped", True, 0)
    assert problem(second, result(second)).code == "runs.left-queue"
    assert first.status() == "running"


def test_waiting_shows_in_the_list_and_detach_returns_at_once(make_bundle, monkeypatch):
    made = make_bundle(GATED)
    launch(first := prepare(made.path, machine=WITHOUT))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    queued = json.loads(finetui("run", made.path, "--wait", "--detach", "--json").stdout)
    rows = json.loads(finetui("runs", "--json").stdout)["runs"]

    assert queued["status"] == "queued"
    assert [(row["run"], row["status"], row["position"]) for row in rows] == [
        (queued["run"], "queued", 1),
        (first.name, "running", None),
    ]
    assert "queued (1)" in finetui("runs", "--plain").stdout
