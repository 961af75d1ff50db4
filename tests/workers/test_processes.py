"""Several processes and machines: they meet before the model loads, and how many there are changes no loss."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from finetui.workers.train.failure import Failure
from finetui.workers.train.nodes import interface_to
from finetui.workers.train.parallel import check_wrapped
from tests.workers.trainee import ALONE, Trainee, free_port, losses, make_rows, make_trainee, read_events

pytestmark = pytest.mark.worker

TWO = {"nproc_per_node": 2, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
ROWS = make_rows(60)


@pytest.fixture
def trainee(tmp_path: Path, tiny_model: Path) -> Trainee:
    """A bundle for two processes, of four steps."""
    made = make_trainee(tmp_path / "bundle", tiny_model, ROWS)
    made.set(max_steps=4, **TWO)
    return made


def failed(out: Path) -> tuple[str, str]:
    """Cause and detail of the last event."""
    event = read_events(out)[-1]
    return event["cause"], event["detail"]


def launch_on(trainee: Trainee, outs: list[Path], folders: list[Path], **more: str) -> list[tuple[int, str]]:
    """Start launch.sh as two machines would; gives exit code and output of each that is started."""
    place = {"NNODES": "2", "MASTER": f"127.0.0.1:{free_port()}", "FINETUI_NODES_S": "20", **more}
    running = [
        subprocess.Popen(
            ["bash", str(folder / "launch.sh")],
            env=trainee.environment(out, NODE_RANK=str(number), **place),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number, (out, folder) in enumerate(zip(outs, folders, strict=True))
    ]
    words = [process.communicate(timeout=300)[0] for process in running]
    return [(process.returncode, said) for process, said in zip(running, words, strict=True)]


def test_who_has_not_come_is_named_before_the_model_loads(trainee: Trainee, tmp_path: Path) -> None:
    place = ALONE | {"WORLD_SIZE": "2", "MASTER_PORT": str(free_port()), "FINETUI_MEET_S": "2"}
    environment = trainee.environment(tmp_path / "out", **place)
    done = subprocess.run(
        [sys.executable, "-m", "train.main"],
        env=environment,
        cwd=trainee.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    cause, detail = failed(tmp_path / "out")
    assert cause == "processes"
    assert detail.startswith("after 2 s process 1 has not come; here: 0 (")
    assert [event["event"] for event in read_events(tmp_path / "out")] == ["started", "failed"]


HANGING = """
import os, sys, time
os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=sys.argv[2], FINETUI_MEET_S="4")
from finetui.workers.train import parallel
if sys.argv[1] == "1":  # comes, and then hangs
    parallel.distributed.init_process_group = lambda *_, **__: time.sleep(8)
parallel.meet(int(sys.argv[1]), 2, lambda failure: print(failure.cause, failure.detail, flush=True))
"""


def test_a_process_that_comes_and_hangs_is_named(tmp_path: Path) -> None:
    port = str(free_port())
    both = [
        subprocess.Popen([sys.executable, "-c", HANGING, rank, port], stdout=subprocess.PIPE, text=True)
        for rank in ("0", "1")
    ]
    words = both[0].communicate(timeout=120)[0]
    both[1].communicate(timeout=120)
    assert both[0].returncode == 1
    assert words.startswith("processes after 4 s no sum over the processes: 0 (")
    assert "1 (" in words


def test_another_wrapper_than_the_locked_one_is_refused() -> None:
    for parallelism, world_size in (("ddp", 2), ("fsdp2", 2), ("fsdp2", 1)):
        with pytest.raises(Failure) as raised:
            check_wrapped(torch.nn.Linear(2, 2), parallelism, world_size)
        assert raised.value.cause == "not-parallel"
        assert "the model is Linear" in raised.value.detail
    check_wrapped(torch.nn.Linear(2, 2), "single", 1)


def test_two_machines_train_what_one_does(trainee: Trainee, tmp_path: Path) -> None:
    alone = trainee.launch(tmp_path / "alone")
    assert alone.returncode == 0, alone.stderr
    outs = [tmp_path / "first", tmp_path / "second"]
    for code, said in launch_on(trainee, outs, [trainee.folder] * 2):
        assert code == 0, said
    name = "output/adapter_model.safetensors"
    assert (outs[0] / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert list(outs[1].iterdir()) == []


def test_machines_with_other_bundles_are_refused_before_anything_starts(trainee: Trainee, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(trainee.folder, other)
    with (other / "lock.json").open("a") as stream:
        stream.write(" ")
    outs = [tmp_path / "first", tmp_path / "second"]
    ends = launch_on(trainee, outs, [trainee.folder, other])
    for code, said in ends:
        assert code == 1
        assert "bundle-mismatch: machine 0 (" in said
        assert "Traceback" not in said
    assert failed(outs[0])[0] == "bundle-mismatch"
    assert [event["event"] for event in read_events(outs[0])] == ["failed"]


def test_a_machine_that_does_not_come_is_named(trainee: Trainee, tmp_path: Path) -> None:
    [(code, said)] = launch_on(trainee, [tmp_path / "out"], [trainee.folder], FINETUI_NODES_S="1")
    assert code == 1, said
    assert failed(tmp_path / "out") == ("processes", "after 1 s machine 1 of 2 has not come")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ({"NNODES": "3", "NODE_RANK": "0", "MASTER": "h:1"}, "cannot share the 2 processes"),
        ({"NNODES": "2", "MASTER": "h:1"}, "set NODE_RANK"),
        ({"NNODES": "2", "NODE_RANK": "2", "MASTER": "h:1"}, "set NODE_RANK"),
        ({"NNODES": "2", "NODE_RANK": "1", "MASTER": "h"}, "set MASTER"),
    ],
)
def test_a_place_that_is_not_whole_is_refused(
    trainee: Trainee, tmp_path: Path, place: dict[str, str], words: str
) -> None:
    done = trainee.launch(tmp_path / "out", **place)
    assert done.returncode == 2
    assert words in done.stderr


def test_the_interface_is_the_one_that_leads_there() -> None:
    assert interface_to("127.0.0.1") == "lo"
    assert interface_to("no such host") is None


@pytest.mark.soak
def test_eight_rows_a_step_over_one_two_and_four_processes(tmp_path: Path, tiny_model: Path) -> None:
    trainee = make_trainee(tmp_path / "bundle", tiny_model, make_rows(200))
    found, began = {}, time.monotonic()
    for world in (1, 2, 4):
        for parallelism in ("single",) if world == 1 else ("ddp", "fsdp2"):
            for micro in (1, 8 // world):
                split = {"per_device_train_batch_size": micro, "gradient_accumulation_steps": 8 // world // micro}
                trainee.set(max_steps=50, learning_rate=1e-3, nproc_per_node=world, parallelism=parallelism, **split)
                out = tmp_path / f"{parallelism}-{world}x{8 // world}-{micro}"
                done = trainee.launch(out)
                assert done.returncode == 0, done.stderr
                found[out.name] = losses(out)
    first = found["single-1x8-1"]
    assert len(first) == 50
    off = {
        name: max(abs(one - other) / other for one, other in zip(those, first, strict=True))
        for name, those in found.items()
    }
    print(f"largest relative difference of a loss over 50 steps: {off}; {time.monotonic() - began:.0f} s")
    assert max(off.values()) < 1e-5
