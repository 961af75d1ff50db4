"""What the doctor says of GPUs, of their driver, and of the torch that has to run on them."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from finetui.doctor.leftovers import RunHere
from tests.unit.doctor.situations import PYTHON, T4, V100, findings, interpreter, only, situation, troubles
from tests.unit.hardware.nvml import (
    A100,
    GIB,
    RTX3090,
    Card,
    FakeNvml,
    NVMLError_DriverNotLoaded,
    NVMLError_LibraryNotFound,
    NVMLError_LibRmVersionMismatch,
    Refused,
)

pytestmark = pytest.mark.unit

B200 = Card("NVIDIA B200", 180 * GIB, (10, 0), "GPU-b200", 180 * GIB)
K80 = Card("Tesla K80", 12 * GIB, (3, 7), "GPU-k80", 12 * GIB)
INDEX = "--index-url https://download.pytorch.org/whl"


def test_a_good_machine_lacks_nothing() -> None:
    for names in ((), ("qlora",), ("full", "merge", "chat"), ("fetch",)):
        assert troubles(situation(*names, cards=[RTX3090, RTX3090])) == {}


def test_a_machine_without_a_gpu_trains_on_its_cpu() -> None:
    where = situation("qlora")
    assert troubles(where) == {}
    assert only(where, "no-gpu").level == "note"
    assert "--gpu rtx3090" in (only(where, "no-gpu").problem.next() or "")


def test_torch_without_cuda_beside_a_gpu_names_the_build_that_fits() -> None:
    finding = only(situation(cards=[RTX3090], interpreter=interpreter(cuda=None)), "torch-for-cpu")
    assert finding.level == "missing"
    assert finding.problem.next() == f"{PYTHON} -m pip install --force-reinstall 'torch>=2.11' {INDEX}/cu126"


@pytest.mark.parametrize(
    ("cards", "cuda", "build"),
    [
        ([RTX3090], 12020, "cu126"),
        ([RTX3090], 12090, "cu129"),
        ([V100], 13000, "cu126"),
        ([B200], 12080, "cu129"),
        ([A100], 13010, "cu130"),
        ([T4, A100], 13020, "cu132"),
    ],
)
def test_torch_newer_than_the_driver_names_the_newest_build_that_the_driver_and_all_cards_run(
    cards: list[Card], cuda: int, build: str
) -> None:
    where = situation(cards=cards, cuda=cuda, interpreter=interpreter(cuda="14.0"))
    finding = only(where, "torch-too-new")
    assert finding.level == "missing"
    assert (finding.problem.next() or "").endswith(f"{INDEX}/{build}")
    driver = f"{cuda // 1000}.{cuda % 1000 // 10}"
    assert f"CUDA 14.0; this driver runs CUDA up to {driver}" in finding.problem.message()


def test_a_driver_runs_the_minor_versions_of_its_major_one() -> None:
    assert troubles(situation(cards=[RTX3090], cuda=12020, interpreter=interpreter(cuda="12.9"))) == {}


def test_a_build_without_kernels_for_a_card_is_replaced_by_one_that_has_them() -> None:
    torch = {"capabilities": ["75", "80", "90"]}
    finding = only(situation(cards=[A100, V100], cuda=12090, interpreter=interpreter(torch=torch)), "torch-no-kernels")
    assert finding.level == "missing"
    assert "1 (7.0)" in finding.problem.message()
    assert "0 (8.0)" not in finding.problem.message()
    assert (finding.problem.next() or "").endswith("/cu126")


@pytest.mark.parametrize(("cards", "cuda"), [([RTX3090], 11080), ([K80], 12040), ([B200, V100], 13000)])
def test_where_no_published_build_fits_the_driver_has_to_be_newer(cards: list[Card], cuda: int) -> None:
    where = situation(cards=cards, cuda=cuda)
    assert only(where, "driver-old").level == "missing"
    assert "sudo ubuntu-drivers install --gpgpu" in (only(where, "driver-old").problem.next() or "")
    inside = situation(cards=cards, cuda=cuda, host={"is_container": True})
    assert "the host's" in only(inside, "driver-old-container").problem.message()


def test_torch_that_does_not_see_the_gpus_says_why_in_its_own_words() -> None:
    words = "CUDA initialization: Unexpected error from cudaGetDeviceCount()"
    there = interpreter(torch={"works": False, "words": words, "capabilities": []})
    finding = only(situation(cards=[RTX3090], interpreter=there), "torch-no-cuda")
    assert finding.level == "missing"
    assert words in finding.problem.message()


@pytest.mark.parametrize("card", [T4, V100])
def test_a_card_without_bfloat16_is_remarked_and_trains(card: Card) -> None:
    where = situation("qlora", cards=[card])
    assert troubles(where) == {}
    assert "plan chooses another precision" in only(where, "no-bf16").problem.message()
    assert "no-bf16" not in findings(situation("fetch", cards=[card]))


def test_who_holds_a_card_is_told_with_pid_and_amount() -> None:
    held = replace(A100, free=59 * GIB, compute=((os.getpid(), 20 * GIB), (2**22 + 7, None)))
    finding = only(situation(cards=[RTX3090, held]), "gpu-held")
    assert finding.level == "warning"
    assert "21.0 of 80.0 GiB of GPU 1" in finding.problem.message()
    assert f"({os.getpid()}) 20.0 GiB" in finding.problem.message()
    assert finding.problem.next() == f"ps -o user,pid,etime,args -p {os.getpid()},{2**22 + 7}"


def test_a_desktop_on_a_card_is_no_trouble() -> None:
    desktop = replace(RTX3090, free=RTX3090.total - GIB, graphics=((os.getpid(), GIB // 2),))
    assert troubles(situation(cards=[desktop])) == {}


def test_memory_held_by_nobody_that_is_seen_is_told_too() -> None:
    nobody = replace(A100, free=10 * GIB)
    for card in (nobody, replace(nobody, compute=((2**22 + 7, 69 * GIB),))):
        finding = only(situation(cards=[card]), "gpu-held-unseen")
        assert (finding.level, finding.problem.next()) == ("warning", "nvidia-smi")


@pytest.mark.parametrize(("is_over", "command"), [(False, "finetui watch"), (True, "finetui stop")])
def test_a_card_held_by_a_run_names_the_run(is_over: bool, command: str) -> None:
    held = replace(A100, free=10 * GIB, compute=((os.getpid(), 69 * GIB),))
    run = RunHere("20260102-030405-x", frozenset({os.getpid()}), is_over)
    said = findings(situation(cards=[held], runs=(run,)))
    finding = said["gpu-held-by-leftover" if is_over else "gpu-held-by-run"]
    assert finding.problem.next() == f"{command} 20260102-030405-x"
    assert ("run-leftover" in said) is is_over


@pytest.mark.parametrize(
    ("note", "level", "command"),
    [
        ({"slowed": 0x40}, "warning", "nvidia-smi -i 0 -q -d TEMPERATURE,PERFORMANCE"),
        ({"slowed": 0x80}, "warning", "nvidia-smi -i 0 -q -d POWER,PERFORMANCE"),
        ({"lost_bits": 1}, "missing", "sudo nvidia-smi --gpu-reset -i 0"),
        ({"rows_pending": True}, "warning", "sudo nvidia-smi --gpu-reset -i 0"),
    ],
)
def test_a_card_that_is_not_well_is_told(note: dict[str, int], level: str, command: str) -> None:
    said = findings(situation(cards=[replace(A100, **note)]))
    [finding] = [one for code, one in said.items() if code.startswith("gpu-")]
    assert (finding.level, finding.problem.next()) == (level, command)


@pytest.mark.parametrize(
    ("error", "host", "code", "level"),
    [
        (NVMLError_LibraryNotFound("no"), {}, "no-gpu", "note"),
        (NVMLError_LibraryNotFound("no"), {"nvidia_cards": 1}, "no-driver", "missing"),
        (NVMLError_LibraryNotFound(""), {"nvidia_cards": 1, "is_container": True}, "no-driver-container", "missing"),
        (NVMLError_LibraryNotFound("no"), {"is_wsl": True}, "no-driver-wsl", "note"),
        (NVMLError_DriverNotLoaded("no"), {}, "no-gpu", "note"),
        (NVMLError_DriverNotLoaded("not loaded"), {"nvidia_cards": 1}, "gpu-no-driver", "missing"),
        (NVMLError_LibRmVersionMismatch("550 and 560"), {"nvidia_cards": 1}, "gpu-mismatch", "missing"),
        (Refused("Unknown \x1b[31mError"), {"nvidia_cards": 1}, "gpu-broken", "missing"),
    ],
)  # fmt: skip
def test_a_driver_that_gives_no_gpu_is_told_by_its_cause(
    error: Exception, host: dict[str, int], code: str, level: str
) -> None:
    where = situation(nvml=FakeNvml([RTX3090], {"nvmlInit": error}), host=host, interpreter=interpreter(cuda=None))
    finding = only(where, code)
    assert finding.level == level
    assert "\x1b" not in finding.problem.message()


def test_a_broken_driver_is_no_reason_against_fetching() -> None:
    library = FakeNvml([], {"nvmlInit": NVMLError_LibRmVersionMismatch("550 and 560")})
    assert troubles(situation("fetch", nvml=library)) == {"gpu-mismatch": "warning"}


def test_the_driver_is_installed_as_the_distribution_does_it_and_by_whom_may() -> None:
    library = FakeNvml([], {"nvmlInit": NVMLError_LibraryNotFound("no")})

    def command(**parts: object) -> str | None:
        where = situation(nvml=library, host={"nvidia_cards": 1}, **parts)  # type: ignore[arg-type]
        return only(where, "no-driver").problem.next()

    ubuntu = "apt-get update && apt-get install -y ubuntu-drivers-common && ubuntu-drivers install --gpgpu"
    assert command(is_root=True) == ubuntu
    assert command(distribution="debian") == "sudo apt-get update && sudo apt-get install -y nvidia-driver"
    assert command(distribution="fedora", programs=("dnf",)) == "sudo dnf install -y akmod-nvidia"
    assert not command(distribution="nixos", programs=())
