"""What the doctor says of disks, memory and the limits of processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from finetui.doctor.purpose import purpose_of
from finetui.doctor.situation import gather, is_writable
from finetui.hardware.disk import Disk
from tests.unit.doctor.situations import DISK, findings, only, situation, troubles
from tests.unit.hardware.nvml import GIB, RTX3090

pytestmark = pytest.mark.unit

SYSTEM = replace(DISK, path="/root/.finetui", free_bytes=30 * GIB, total_bytes=50 * GIB)
CACHE = replace(SYSTEM, path="/root/.cache/huggingface")
DATA = Disk("/root/autodl tmp", "/root/autodl tmp", "ext4", 1000 * GIB, 800 * GIB, 10**6, 2)


def disks(own: Disk, cache: Disk | None = None, temporary: Disk = DISK) -> dict[str, Disk]:
    return {"FINETUI_HOME": own, "HF_HOME": cache or own, "TMPDIR": temporary}


def test_a_small_system_disk_beside_a_large_data_disk_says_what_to_export() -> None:
    where = situation(disks=disks(SYSTEM, CACHE), larger={"FINETUI_HOME": DATA, "HF_HOME": DATA})
    finding = only(where, "disk-beside")
    assert finding.level == "warning"
    assert "30.0 GiB left, /root/autodl tmp has 800.0" in finding.problem.message()
    assert finding.problem.next() == (
        "export FINETUI_HOME='/root/autodl tmp/finetui' HF_HOME='/root/autodl tmp/huggingface'"
    )
    assert list(troubles(where)) == ["disk-beside"]


def test_what_lies_on_the_data_disk_already_stays_there() -> None:
    on_data = replace(DATA, path="/root/autodl tmp/hf")
    where = situation(disks=disks(SYSTEM, on_data), larger={"FINETUI_HOME": DATA})
    assert only(where, "disk-beside").problem.next() == "export FINETUI_HOME='/root/autodl tmp/finetui'"


@pytest.mark.parametrize(
    ("free", "code", "level"),
    [(0, "disk-full", "missing"), (GIB // 4, "disk-full", "missing"), (12 * GIB, "disk-low", "warning")],
)
def test_a_disk_without_room_is_told_and_moved_from_where_it_can_be(free: int, code: str, level: str) -> None:
    own = replace(SYSTEM, free_bytes=free)
    finding = only(situation(disks=disks(own)), code)
    assert (finding.level, finding.problem.next()) == (level, "df -h /")
    moved = only(situation(disks=disks(own), larger={"FINETUI_HOME": DATA}), code)
    assert (moved.problem.next() or "").startswith("export FINETUI_HOME=")


def test_a_full_disk_does_not_keep_from_looking_and_chatting() -> None:
    full = replace(SYSTEM, free_bytes=0)
    assert only(situation("chat", disks=disks(full)), "disk-full").level == "warning"
    assert only(situation("fetch", disks=disks(full)), "disk-full").level == "missing"


@pytest.mark.parametrize(
    ("change", "code", "level"),
    [
        ({"filesystem": "tmpfs"}, "disk-memory", "warning"),
        ({"filesystem": "overlay"}, "disk-overlay", "note"),
        ({"filesystem": "nfs4"}, "disk-network", "note"),
        ({"free_inodes": 100}, "disk-inodes", "warning"),
    ],
)
def test_disks_that_are_no_place_to_keep_things_are_remarked(change: dict[str, object], code: str, level: str) -> None:
    assert only(situation(disks=disks(replace(DISK, **change))), code).level == level  # type: ignore[arg-type]


def test_a_home_that_may_not_be_written_to_is_missing_for_training() -> None:
    finding = only(situation(is_writable=False), "home-read-only")
    assert finding.level == "missing"
    assert finding.problem.next() == "export FINETUI_HOME=/path/with/room"


def test_whether_a_folder_may_be_written_to_is_asked_of_its_nearest_parent(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert is_writable(tmp_path / "not/yet")
    assert not is_writable(tmp_path / "file/not/yet")


def test_no_place_for_temporary_files_is_told() -> None:
    without = {name: disk for name, disk in disks(DISK).items() if name != "TMPDIR"}
    assert only(situation(disks=without), "temporary-absent").level == "missing"
    full = replace(DISK, path="/tmp", device=3, free_bytes=0)
    assert only(situation(disks=disks(DISK, temporary=full)), "temporary-full").level == "warning"


def test_small_shared_memory_matters_to_several_gpus() -> None:
    small = {"shm_bytes": 64 << 20}
    two = [RTX3090, replace(RTX3090, uuid="GPU-2")]
    assert "shm-small" not in findings(situation(cards=[RTX3090], host=small))
    finding = only(situation(cards=two, host=small), "shm-small")
    assert "/dev/shm has 64 MiB" in finding.problem.message()
    assert finding.problem.next() == "sudo mount -o remount,size=16G /dev/shm"
    inside = only(situation(cards=two, host={**small, "is_container": True}), "shm-small-container")
    assert inside.problem.next() == "docker run --gpus all --shm-size 16g IMAGE"


def test_limits_of_a_container_are_told() -> None:
    said = findings(situation(host={"ram_limit_bytes": 24 * GIB, "core_limit": 6}))
    assert "24.0 GiB" in said["memory-limit"].problem.message()
    assert "6 cores" in said["core-limit"].problem.message()
    assert said["memory-limit"].level == said["core-limit"].level == "note"


def test_little_memory_is_a_warning_before_the_system_kills() -> None:
    assert only(situation(host={"ram_free_bytes": GIB}), "memory-low").level == "warning"
    assert "memory-low" not in findings(situation("fetch", host={"ram_free_bytes": GIB}))


@pytest.mark.parametrize(
    ("soft", "hard", "command"),
    [
        (256, 4096, "ulimit -n $(ulimit -Hn)"),
        (256, -1, "ulimit -n $(ulimit -Hn)"),
        (256, 256, "sudo prlimit --pid $$ --nofile=65536:65536"),
    ],
)
def test_few_open_files_are_raised_as_far_as_the_user_may(soft: int, hard: int, command: str) -> None:
    said = findings(situation(host={"open_files": soft, "most_open_files": hard}))
    [finding] = [one for code, one in said.items() if code.startswith("open-files")]
    assert (finding.level, finding.problem.next()) == ("warning", command)
    assert not any(code.startswith("open-files") for code in findings(situation(host={"open_files": -1})))


def test_the_machine_itself_is_gathered_without_a_worker(home: Path) -> None:
    where = gather(purpose_of(["fetch"]))
    assert where.interpreter is None
    assert where.disks["FINETUI_HOME"].path == str(home)
    assert where.disks["FINETUI_HOME"].free_bytes > 0
    assert where.clock_behind_s == 0
    assert not home.exists()
