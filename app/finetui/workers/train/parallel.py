"""The processes of a training: brought together before the model loads, and wrapped as the lock says."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from .failure import Failure
from .machine import on_cuda

MEET_S = 120.0
"""How long the processes may take to find each other; FINETUI_MEET_S says otherwise."""
TIMEOUT_S = 1800
"""How long one may keep the others waiting in the training: the first saves while they wait."""

Fail = Callable[[Failure], None]


def meet(rank: int, world_size: int, fail: Fail) -> None:
    """Begin the process group, and add up a number over all processes, within a time limit.

    A broken link hangs rather than fails, and after the model has loaded it would have cost minutes of every GPU.
    Raises Failure (processes) that names who has not come; where the processes have come and their sum does not,
    `fail` is told the Failure and this process ends with 1.
    """
    if world_size == 1:
        return
    seconds = float(os.environ.get("FINETUI_MEET_S") or MEET_S)
    keeps = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    store = _store(rank, seconds, keeps=keeps)
    store.set(f"here/{rank}", socket.gethostname())
    _await_all(store, world_size, seconds)
    beside = _store(rank, seconds)  # what hangs holds the other
    with _limited(seconds, lambda: fail(_unanswered(beside, world_size, seconds))):
        backend = "nccl" if on_cuda() else "gloo"
        if on_cuda():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group(
            backend, store=store, rank=rank, world_size=world_size, timeout=timedelta(seconds=TIMEOUT_S)
        )
        total = torch.ones((), device="cuda" if on_cuda() else "cpu")
        distributed.all_reduce(total)
        counted = int(total.item())
    store.set(f"done/{rank}", "")
    if counted != world_size:
        raise Failure("processes", f"the sum over {world_size} processes is {counted}")


def check_start(step: int, world_size: int) -> None:
    """Hold the step that every process goes on from against that of the first.

    Raises Failure (resume-mismatch) where a machine does not see the checkpoints of the first.
    """
    if world_size == 1:
        return
    found: list[tuple[str, int]] = [("", 0)] * world_size
    distributed.all_gather_object(found, (socket.gethostname(), step))
    others = [f"process {one} ({host}) at {at}" for one, (host, at) in enumerate(found) if at != found[0][1]]
    if others:
        detail = f"process 0 ({found[0][0]}) goes on from step {found[0][1]}, {', '.join(others)}"
        raise Failure("resume-mismatch", f"{detail}: OUT/checkpoints has to be the same on every machine")


def check_wrapped(model: torch.nn.Module, parallelism: str, world_size: int) -> None:
    """Hold what is trained against the lock's `parallelism`: libraries fall back to another one in silence.

    `model` is what the Trainer has made of the model. Raises Failure (not-parallel).
    """
    actual = type(model).__name__
    if parallelism == "fsdp2":
        shares = [isinstance(weight, DTensor) and weight.device_mesh.size() for weight in model.parameters()]
        right = isinstance(model, FSDPModule) and all(share == world_size for share in shares)
        actual += f", of whose {len(shares)} weights {shares.count(world_size)} are shared out"
    else:
        right = world_size == 1 or isinstance(model, DistributedDataParallel)
        right = right and not any(isinstance(weight, DTensor) for weight in model.parameters())
    if not right:
        raise Failure(
            "not-parallel", f"parallelism is {parallelism} over {world_size} processes, and the model is {actual}"
        )


def _store(rank: int, seconds: float, *, keeps: bool = False) -> distributed.Store:
    """Where the processes leave word: torchrun's own store, else one that the first of them keeps."""
    place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    try:
        store = distributed.TCPStore(*place, None, keeps, timedelta(seconds=seconds), wait_for_workers=False)
    except (distributed.DistError, RuntimeError) as error:
        raise Failure("processes", f"process {rank} ({socket.gethostname()}) does not reach {place[0]}") from error
    return distributed.PrefixStore("finetui", store)


def _await_all(store: distributed.Store, world_size: int, seconds: float) -> None:
    try:
        store.wait([f"here/{rank}" for rank in range(world_size)], timedelta(seconds=seconds))
    except (distributed.DistError, RuntimeError) as error:
        there, absent = _sorted_by(store, "here", world_size)
        came = ", ".join(f"{rank} ({_host(store, rank)})" for rank in there)
        missing = ", ".join(map(str, absent))
        raise Failure("processes", f"after {seconds:g} s process {missing} has not come; here: {came}") from error


def _unanswered(store: distributed.Store, world_size: int, seconds: float) -> Failure:
    """All have come, and their sum has not."""
    _, absent = _sorted_by(store, "done", world_size)
    who = ", ".join(f"{other} ({_host(store, other)})" for other in absent)
    hint = "; NCCL_DEBUG=INFO says more" if on_cuda() else ""
    return Failure("processes", f"after {seconds:g} s no sum over the processes: {who} did not end it{hint}")


def _sorted_by(store: distributed.Store, word: str, world_size: int) -> tuple[list[int], list[int]]:
    """The processes that have left a word, and the others."""
    left = [store.check([f"{word}/{rank}"]) for rank in range(world_size)]
    return [rank for rank in range(world_size) if left[rank]], [rank for rank in range(world_size) if not left[rank]]


def _host(store: distributed.Store, rank: int) -> str:
    return store.get(f"here/{rank}").decode()


@contextmanager
def _limited(seconds: float, late: Callable[[], None]) -> Iterator[None]:
    """End this process where what is within takes longer: a call into a hanging network cannot be left otherwise."""

    def end() -> None:
        try:
            late()
        finally:
            sys.stderr.flush()
            os._exit(1)

    watch = threading.Timer(seconds, end)
    watch.daemon = True
    watch.start()
    try:
        yield
    finally:
        watch.cancel()
