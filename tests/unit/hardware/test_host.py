"""What is left of a machine now, and what kind of place it is."""

from __future__ import annotations

import resource
from pathlib import Path
from types import SimpleNamespace

import pytest

from finetui.hardware.host import Host, read_host
from tests.unit.hardware.test_probe import system

pytestmark = pytest.mark.unit

GIB = 1 << 30


def look(root: Path, files: dict[str, str]) -> Host:
    return read_host(system(root, files))


def test_free_memory_is_what_the_tightest_group_leaves_with_its_cache_given_back(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/box\n",
        "sys/fs/cgroup/box/memory.max": f"{2 * GIB}\n",
        "sys/fs/cgroup/box/memory.current": f"{GIB + (512 << 20)}\n",
        "sys/fs/cgroup/box/memory.stat": f"anon {GIB}\ninactive_file {256 << 20}\n",
        "sys/fs/cgroup/box/cpu.max": "50000 100000\n",
    }
    host = look(tmp_path, files)
    assert host.ram_free_bytes == (512 << 20) + (256 << 20)
    assert (host.ram_limit_bytes, host.core_limit) == (2 * GIB, 1)


def test_groups_that_limit_nothing_are_not_told(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/memory.max": f"{1 << 60}\n", "sys/fs/cgroup/cpu.max": "99999999 1000\n"}
    host = look(tmp_path, files)
    assert (host.ram_limit_bytes, host.core_limit) == (None, None)
    assert look(tmp_path / "none", {}).ram_limit_bytes is None


def test_shared_memory_is_measured_where_it_is(tmp_path: Path) -> None:
    answer = SimpleNamespace(f_frsize=4096, f_blocks=(64 << 20) // 4096)
    assert read_host(tmp_path, lambda _: answer).shm_bytes == 64 << 20
    assert read_host(tmp_path).shm_bytes is None


def test_open_files_are_this_process_own_limits() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    host = read_host()
    assert (host.open_files, host.most_open_files) == (soft, hard)


@pytest.mark.parametrize(
    ("files", "container", "wsl"),
    [
        ({}, False, False),
        ({".dockerenv": ""}, True, False),
        ({"run/.containerenv": ""}, True, False),
        ({"proc/self/mounts": "overlay / overlay rw 0 0\n"}, True, False),
        ({"proc/self/mounts": "/dev/sda / ext4 rw 0 0\n"}, False, False),
        ({"proc/sys/kernel/osrelease": "5.15.153.1-microsoft-standard-WSL2\n"}, False, True),
    ],
)
def test_containers_and_wsl_are_known(tmp_path: Path, files: dict[str, str], container: bool, wsl: bool) -> None:
    host = look(tmp_path, files)
    assert (host.is_container, host.is_wsl) == (container, wsl)


def test_cards_on_the_bus_are_counted_without_a_driver(tmp_path: Path) -> None:
    bus = "sys/bus/pci/devices"
    files = {
        f"{bus}/0000:01:00.0/vendor": "0x10de\n", f"{bus}/0000:01:00.0/class": "0x030200\n",
        f"{bus}/0000:01:00.1/vendor": "0x10de\n", f"{bus}/0000:01:00.1/class": "0x040300\n",
        f"{bus}/0000:02:00.0/vendor": "0x8086\n", f"{bus}/0000:02:00.0/class": "0x030000\n",
    }  # fmt: skip
    assert look(tmp_path, files).nvidia_cards == 1
