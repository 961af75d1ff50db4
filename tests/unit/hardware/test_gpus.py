"""The GPUs as the driver tells them, and those of them that this process may use."""

from __future__ import annotations

import os
import re
from dataclasses import replace

import pytest

from finetui.core.errors import USAGE, FinetuiError
from finetui.hardware.gpu import GpuNote, GpuReading, Holder
from finetui.hardware.kinds import gpu_kinds
from finetui.hardware.nvml import load_nvml, read_gpus
from finetui.hardware.planned import parse_planned, planned_machine
from finetui.hardware.probe import probe
from tests.unit.hardware import nvml as fake
from tests.unit.hardware.nvml import A100, GIB, RTX3090, Card, FakeNvml, Refused

pytestmark = pytest.mark.unit

SECOND = replace(RTX3090, uuid="GPU-3090b")
SLICE = Card("NVIDIA A100-SXM4-80GB MIG 1g.10gb", 10 * GIB, (0, 0), "MIG-1", 9 * GIB)
SLICED = replace(A100, slices=(SLICE, replace(SLICE, uuid="MIG-2")))
CALLS = sorted(name for name, what in vars(FakeNvml).items() if re.match("nvml[A-Z]", name) and callable(what))


def read(*cards: Card, **environment: str) -> GpuReading:
    return read_gpus(FakeNvml(list(cards)), environment)


def test_a_card_is_told_with_all_that_planning_needs() -> None:
    held = replace(A100, free=59 * GIB, compute=((os.getpid(), 20 * GIB),), graphics=((2**22 + 1, None),))
    reading = read(RTX3090, held)
    first, second = reading.gpus
    assert (first.index, first.kind, first.total_bytes, first.driver) == (0, "rtx3090", 24 * GIB, "550.54.15")
    assert (first.free_bytes, first.compute_capability, first.bf16) == (23 * GIB, (8, 6), True)
    assert (first.nvlink, first.holders, first.uuid) == (False, (), "GPU-3090a")
    assert (second.index, second.kind, second.nvlink) == (1, "a100-80g", True)
    own, unseen = second.holders
    assert (own.pid, own.bytes) == (os.getpid(), 20 * GIB)
    assert own.name
    assert unseen == Holder(2**22 + 1, "", None)
    assert reading.cuda == (12, 4)
    assert reading.notes == ()


@pytest.mark.parametrize(
    ("card", "codes"),
    [
        (replace(A100, slowed=0x20), ["hot"]),
        (replace(A100, slowed=0x40 | 0x80), ["hot", "braked"]),
        (replace(A100, slowed=0x01 | 0x04), []),  # idle, and within its power limit
        (replace(A100, lost_bits=2, rows_pending=True), ["memory-errors"]),
        (replace(A100, rows_pending=True), ["rows-pending"]),
        (replace(A100, lost_bits=0), []),
    ],
)
def test_what_ails_a_card_is_noted_with_its_number(card: Card, codes: list[str]) -> None:
    reading = read(RTX3090, card)
    assert len(reading.gpus) == 2
    assert reading.notes == tuple(GpuNote(code, "1") for code in codes)


def test_bfloat16_is_native_from_ampere_on() -> None:
    turing = Card("Tesla T4", 15 * GIB, (7, 5), "GPU-t4")
    assert [gpu.bf16 for gpu in read(turing, RTX3090).gpus] == [False, True]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (fake.NVMLError_LibraryNotFound("NVML Shared Library Not Found"), "no-library"),
        (fake.NVMLError_DriverNotLoaded("Driver Not Loaded"), "no-driver"),
        (fake.NVMLError_LibRmVersionMismatch("version mismatch"), "mismatch"),
        (Refused("Unknown Error"), "broken"),
    ],
)
def test_without_a_driver_there_is_no_gpu_but_a_reason(error: Exception, code: str) -> None:
    reading = read_gpus(FakeNvml([RTX3090], {"nvmlInit": error}), {})
    assert reading == GpuReading(notes=(GpuNote(code, str(error)),))


def test_without_the_package_there_is_no_gpu_but_a_reason() -> None:
    assert read_gpus(None, {}) == GpuReading(notes=(GpuNote("no-library"),))


@pytest.mark.parametrize("call", CALLS)
def test_no_call_that_fails_is_more_than_a_gap(call: str) -> None:
    library = FakeNvml([RTX3090, SLICED], {call: Refused("Unknown Error")})
    reading = read_gpus(library, {})
    without_them = {"nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetName"}
    if call in without_them:
        assert reading.gpus == ()
        assert reading.notes
    else:
        assert reading.gpus
    assert library.open == (call == "nvmlShutdown")


def test_a_card_that_fell_off_the_bus_leaves_the_others() -> None:
    class OneLost(FakeNvml):
        def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:
            if index == 0:
                raise Refused("GPU is lost")
            return super().nvmlDeviceGetHandleByIndex(index)

    reading = read_gpus(OneLost([RTX3090, SECOND]), {})
    assert [gpu.index for gpu in reading.gpus] == [1]
    assert reading.notes == (GpuNote("lost", "0: GPU is lost"),)


@pytest.mark.parametrize(
    ("devices", "indices"),
    [
        ("0,1", [0, 1]),
        ("1, 0", [0, 1]),
        ("1", [1]),
        ("", []),
        ("-1", []),
        ("0,7,1", [0]),
        ("0,0", []),
        ("GPU-3090b", [1]),
        ("GPU-a100", [2]),
        ("GPU-", []),
        ("NoDevFiles", []),
        ("²", []),
        ("9" * 5000, []),
    ],
)
def test_the_gpus_are_those_that_cuda_would_give(devices: str, indices: list[int]) -> None:
    reading = read(RTX3090, SECOND, A100, CUDA_VISIBLE_DEVICES=devices, CUDA_DEVICE_ORDER="PCI_BUS_ID")
    assert [gpu.index for gpu in reading.gpus] == indices
    assert [note.code for note in reading.notes] == ["hidden"]


def test_numbers_that_may_count_otherwise_are_remarked() -> None:
    assert GpuNote("order", "0") in read(RTX3090, A100, CUDA_VISIBLE_DEVICES="0").notes
    assert GpuNote("order", "0") not in read(RTX3090, SECOND, CUDA_VISIBLE_DEVICES="0").notes
    assert read(RTX3090, A100, CUDA_VISIBLE_DEVICES="0,1", CUDA_DEVICE_ORDER="PCI_BUS_ID").notes == ()


def test_a_process_has_one_slice_alone() -> None:
    reading = read(RTX3090, SLICED)
    [gpu] = reading.gpus
    assert (gpu.index, gpu.uuid, gpu.total_bytes, gpu.is_slice) == (1, "MIG-1", 10 * GIB, True)
    assert gpu.compute_capability == (8, 0)
    assert reading.notes == (GpuNote("slices", SLICE.name),)
    assert [gpu.uuid for gpu in read(SLICED, CUDA_VISIBLE_DEVICES="MIG-2").gpus] == ["MIG-2"]
    assert [gpu.uuid for gpu in read(RTX3090, SLICED, CUDA_VISIBLE_DEVICES="0").gpus] == ["GPU-3090a"]
    assert [gpu.uuid for gpu in read(RTX3090, SLICED, CUDA_VISIBLE_DEVICES="1").gpus] == ["MIG-1"]


def test_a_card_in_slices_without_any_cannot_be_used() -> None:
    assert read(replace(A100, slices=())).gpus == ()
    assert read(replace(A100, slices=())).notes == (GpuNote("empty-slices", "0"),)


def test_names_from_the_driver_are_harmless() -> None:
    [gpu] = read(replace(RTX3090, name="RTX\x1b]52;c;aGk=\x07\n3090")).gpus
    assert gpu.name == "RTX⏎3090"


def test_a_machine_without_a_driver_is_read_with_the_real_library() -> None:
    assert load_nvml() is not None
    machine = probe()
    assert machine.gpus or machine.gpu_notes


@pytest.mark.parametrize(
    ("text", "planned"),
    [
        ("rtx3090", ("rtx3090", 1)),
        ("rtx3090:2", ("rtx3090", 2)),
        ("A100-80G:8", ("a100-80g", 8)),
        ("RTX 4090", ("rtx4090", 1)),
    ],
)
def test_a_box_to_be_rented_is_named_by_kind_and_count(text: str, planned: tuple[str, int]) -> None:
    assert parse_planned(text) == planned


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("rtx3900", "rtx3090"),
        ("a100", "a100-40g"),
        ("3090", "rtx3090"),
        ("h100", "h100-80g"),
        ("", "rtx3090"),
        ("v100", "v100-32g"),
    ],
)
def test_an_unknown_kind_is_answered_with_the_nearest_and_all(text: str, near: str) -> None:
    with pytest.raises(FinetuiError) as error:
        parse_planned(text)
    [problem] = error.value.problems
    assert error.value.exit_code == USAGE
    assert problem.next("en") == f"finetui plan --gpu {near}"
    assert all(kind in str(problem.expected("en")) for kind in gpu_kinds())


@pytest.mark.parametrize("count", ["0", "-1", "x", "", "1.5", "65", "９", "9" * 5000])
def test_a_count_that_is_none_is_refused(count: str) -> None:
    with pytest.raises(FinetuiError) as error:
        parse_planned(f"rtx3090:{count}")
    assert (error.value.exit_code, error.value.problems[0].code) == (USAGE, "hardware.bad-count")


def test_a_planned_machine_has_the_kinds_gpus_and_the_rest_of_this_one() -> None:
    base = probe()
    machine = planned_machine("rtx3090", 2, base)
    assert (machine.cores, machine.ram_bytes) == (base.cores, base.ram_bytes)
    assert machine.gpu_notes == ()
    assert [gpu.index for gpu in machine.gpus] == [0, 1]
    for gpu in machine.gpus:
        assert (gpu.kind, gpu.total_bytes, gpu.free_bytes) == ("rtx3090", 24 * GIB, gpu_kinds()["rtx3090"].usable_bytes)
        assert (gpu.compute_capability, gpu.bf16, gpu.nvlink, gpu.holders) == ((8, 6), True, True, ())
    assert not planned_machine("rtx3090", 1, base).gpus[0].nvlink
    assert not planned_machine("t4", 2, base).gpus[0].bf16
