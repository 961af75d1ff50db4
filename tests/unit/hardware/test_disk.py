"""The disk under a path, and the larger one beside it."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from finetui.hardware.disk import Mount, larger_disk, read_disk, read_mounts

pytestmark = pytest.mark.unit

GIB = 1 << 30
TMPFS = next((Path(mount.point) for mount in read_mounts() if mount.point == "/dev/shm" and mount.writable), None)
"""A real second file system, where there is one."""


def room(free: dict[str, int], otherwise: int = 10 * GIB) -> object:
    """The system's answer, by path; a number below zero is a disk that does not answer."""

    def answer(path: str) -> SimpleNamespace:
        left = free.get(path, otherwise)
        if left < 0:
            raise OSError("stale handle")
        return SimpleNamespace(f_frsize=4096, f_blocks=2 * left // 4096, f_bavail=left // 4096, f_files=100, f_favail=9)

    return answer


def test_mounts_are_read_as_the_kernel_writes_them(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    text = "/dev/sda1 / ext4 rw,relatime 0 0\n/dev/sdb1 /my\\040disk xfs ro,noatime 0 0\nhalf a line\n"
    (tmp_path / "proc/self/mounts").write_text(text)
    assert read_mounts(tmp_path) == (Mount("/", "ext4", True), Mount("/my disk", "xfs", False))
    assert read_mounts(tmp_path / "nowhere") == ()


def test_a_path_that_is_not_there_yet_is_on_the_disk_of_its_nearest_folder(tmp_path: Path) -> None:
    here = str(tmp_path.resolve())
    mounts = (Mount("/", "overlay", True), Mount(here, "ext4", True), Mount(f"{here}/no", "nfs4", True))
    disk = read_disk(tmp_path / "not/yet/there", mounts, room({here: 7 * GIB}))
    assert (disk.mount, disk.filesystem) == (here, "ext4")
    assert (disk.free_bytes, disk.total_bytes, disk.free_inodes) == (7 * GIB, 14 * GIB, 9)
    assert disk.path == str(tmp_path / "not/yet/there")


def test_a_later_mount_covers_an_earlier_one(tmp_path: Path) -> None:
    mounts = (Mount("/", "ext4", True), Mount("/", "overlay", True))
    assert read_disk(tmp_path, mounts).filesystem == "overlay"


@pytest.mark.parametrize(
    ("filesystem", "network", "memory"),
    [
        ("ext4", False, False),
        ("overlay", False, False),
        ("fuse.fuse-overlayfs", False, False),
        ("nfs4", True, False),
        ("fuse.juicefs", True, False),
        ("lustre", True, False),
        ("9p", True, False),
        ("tmpfs", False, True),
    ],
)
def test_disks_of_the_network_and_of_memory_are_known(
    tmp_path: Path, filesystem: str, network: bool, memory: bool
) -> None:
    disk = read_disk(tmp_path, (Mount("/", filesystem, True),))
    assert (disk.is_network, disk.is_memory) == (network, memory)


@pytest.mark.skipif(TMPFS is None, reason="no second file system here")
@pytest.mark.parametrize(
    ("filesystem", "writable", "own", "other", "is_offered"),
    [
        ("ext4", True, 20 * GIB, 500 * GIB, True),
        ("nfs4", True, 20 * GIB, 500 * GIB, True),
        ("ext4", True, 120 * GIB, 900 * GIB, False),
        ("ext4", True, 20 * GIB, 50 * GIB, False),
        ("ext4", True, 1 * GIB, 45 * GIB, False),
        ("ext4", True, 1 * GIB, 51 * GIB, True),
        ("ext4", False, 20 * GIB, 500 * GIB, False),
        ("tmpfs", True, 20 * GIB, 500 * GIB, False),
        ("squashfs", True, 20 * GIB, 500 * GIB, False),
        ("ext4", True, 20 * GIB, -1, False),
    ],
)
def test_a_data_disk_is_offered_where_it_is_worth_a_move(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    filesystem: str,
    writable: bool,
    own: int,
    other: int,
    is_offered: bool,
) -> None:
    data = TMPFS / f"finetui-{os.getpid()}"  # type: ignore[operator]
    data.mkdir()
    monkeypatch.setattr("finetui.hardware.disk._SYSTEM", ("/boot",))  # /dev/shm stands for a data disk
    try:
        mounts = (Mount("/", "ext4", True), Mount(str(data), filesystem, writable))
        answers = room({str(tmp_path.resolve()): own, str(data): other})
        small = read_disk(tmp_path, mounts, answers)
        found = larger_disk(small, mounts, answers)
    finally:
        data.rmdir()
    assert (found is not None) is is_offered
    assert found is None or found.mount == str(data)


def test_folders_of_the_system_are_no_place_for_data(tmp_path: Path) -> None:
    mounts = (Mount("/", "ext4", True), Mount("/dev/shm", "ext4", True), Mount("/proc", "ext4", True))
    answers = room({str(tmp_path.resolve()): GIB}, 900 * GIB)
    assert larger_disk(read_disk(tmp_path, mounts, answers), mounts, answers) is None


def test_the_same_disk_mounted_twice_is_no_other(tmp_path: Path) -> None:
    twice = tmp_path / "twice"
    twice.mkdir()
    mounts = (Mount("/", "ext4", True), Mount(str(twice.resolve()), "ext4", True))
    answers = room({str(tmp_path.resolve()): GIB}, 900 * GIB)
    assert larger_disk(read_disk(tmp_path, mounts, answers), mounts, answers) is None
