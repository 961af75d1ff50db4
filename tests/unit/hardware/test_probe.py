"""What a machine is, told from the system's files and the driver's answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetui.hardware.kind import hardware_kind, kind_used, torch_build
from finetui.hardware.kinds import gpu_kind, gpu_kinds
from finetui.hardware.probe import Machine, probe
from tests.unit.hardware.nvml import A100, RTX3090, FakeNvml

pytestmark = pytest.mark.unit

AVX512 = "avx512f avx512bw avx512vl avx512dq"
GIB = 1 << 30


def system(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def look(root: Path, files: dict[str, str], nvml: FakeNvml | None = None) -> Machine:
    return probe(system(root, files), lambda: nvml, {})


@pytest.mark.parametrize(
    ("flags", "level"),
    [
        ("sse4_1", "sse4.1"),
        ("sse4_1 avx", "avx"),
        ("avx avx2", "avx"),
        ("avx avx2 fma", "avx2"),
        ("avx2 fma avx_vnni", "avx2-vnni"),
        ("avx2 fma avx512f", "avx2"),
        (f"avx2 fma {AVX512}", "avx512"),
        (f"avx2 fma {AVX512} avx512_vnni", "avx512-vnni"),
        (f"avx2 fma {AVX512} avx512_vnni avx512_bf16", "avx512-bf16"),
        (f"avx2 fma {AVX512} avx512_vnni avx512_bf16 avx512_fp16", "avx512-fp16"),
        (f"avx2 fma {AVX512} avx512_vnni avx512_bf16 avx512_fp16 amx_tile amx_int8 amx_bf16", "avx512-amx"),
        ("", "unknown"),
    ],
)
def test_the_instruction_set_is_the_most_capable_that_libraries_dispatch_on(
    tmp_path: Path, flags: str, level: str
) -> None:
    first = f"processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Some CPU: fast\nflags\t\t: fpu {flags}\n"
    text = f"{first}\nprocessor\t: 1\nflags\t\t: amx_tile\n"
    machine = look(tmp_path, {"proc/cpuinfo": text})
    assert (machine.cpu_vendor, machine.cpu_model) == ("GenuineIntel", "Some CPU: fast")
    assert machine.instruction_set == level


@pytest.mark.parametrize(
    ("maker", "features", "vendor", "level"),
    [
        ("0x41", "fp asimd", "Arm", "neon"),
        ("0x41", "fp asimd bf16", "Arm", "neon-bf16"),
        ("0x41", "fp asimd bf16 sve", "Arm", "sve"),
        ("0x4e", "fp asimd bf16 sve sve2", "NVIDIA", "sve2"),
        ("0x99", "fp asimd", "0x99", "neon"),
    ],
)
def test_arm_cores_are_told_by_their_maker(tmp_path: Path, maker: str, features: str, vendor: str, level: str) -> None:
    text = f"processor\t: 0\nFeatures\t: {features}\nCPU implementer\t: {maker}\nCPU part\t: 0xd40\n"
    machine = look(tmp_path, {"proc/cpuinfo": text})
    assert (machine.cpu_vendor, machine.cpu_model) == (vendor, f"{vendor} 0xd40")
    assert machine.instruction_set == level


def test_a_system_without_cpuinfo_is_still_a_machine(tmp_path: Path) -> None:
    machine = look(tmp_path, {})
    assert machine.cpu_vendor == "unknown"
    assert machine.cores >= machine.physical_cores >= 1
    assert machine.ram_bytes > 0
    assert machine.gpus == ()


def test_a_container_may_use_what_its_group_allows(tmp_path: Path) -> None:
    free = look(tmp_path / "free", {"sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/cpu.max": "max 100000\n"})
    held = look(tmp_path / "held", {"sys/fs/cgroup/memory.max": f"{GIB}\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"})
    assert free == look(tmp_path / "none", {})
    assert (held.ram_bytes, held.cores) == (GIB, 1)


def test_the_tightest_group_above_a_process_holds(tmp_path: Path) -> None:
    machine = look(
        tmp_path,
        {
            "proc/self/cgroup": "0::/slice/job\n",
            "sys/fs/cgroup/slice/memory.max": f"{GIB}\n",
            "sys/fs/cgroup/slice/job/memory.max": f"{2 * GIB}\n",
        },
    )
    assert machine.ram_bytes == GIB


def test_groups_of_the_first_version_count_too(tmp_path: Path) -> None:
    machine = look(
        tmp_path,
        {
            "proc/self/cgroup": "5:memory:/job\n4:cpu,cpuacct:/job\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": f"{GIB}\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "90000\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
        },
    )
    assert (machine.ram_bytes, machine.cores) == (GIB, 1)


def test_a_group_without_a_quota_leaves_the_cores(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}
    assert look(tmp_path, files).cores == look(tmp_path / "none", {}).cores


@pytest.mark.parametrize(
    ("name", "mebibytes", "kind"),
    [
        ("NVIDIA GeForce RTX 3090", 24576, "rtx3090"),
        ("NVIDIA GeForce RTX 3090 Ti", 24564, "nvidia-geforce-rtx-3090-ti"),
        ("NVIDIA GeForce RTX 4090", 24564, "rtx4090"),
        ("NVIDIA GeForce RTX 4090 D", 24564, "nvidia-geforce-rtx-4090-d"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 16376, "nvidia-geforce-rtx-4090-laptop-gpu"),
        ("NVIDIA GeForce RTX 5090", 32607, "rtx5090"),
        ("NVIDIA A10", 23028, "a10"),
        ("NVIDIA A10G", 23028, "nvidia-a10g"),
        ("NVIDIA L4", 23034, "l4"),
        ("NVIDIA L40S", 46068, "nvidia-l40s"),
        ("Tesla T4", 15360, "t4"),
        ("Tesla V100-SXM2-32GB", 32768, "v100-32g"),
        ("Tesla V100-SXM2-16GB", 16384, "tesla-v100-sxm2-16gb"),
        ("NVIDIA A100-SXM4-40GB", 40960, "a100-40g"),
        ("NVIDIA A100 80GB PCIe", 81920, "a100-80g"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 4864, "nvidia-a100-sxm4-40gb-mig-1g-5gb"),
        ("NVIDIA H100 80GB HBM3", 81559, "h100-80g"),
        ("NVIDIA H100 NVL", 95830, "nvidia-h100-nvl"),
        ("NVIDIA H200", 143771, "h200"),
        ("NVIDIA GH200 480GB", 97871, "nvidia-gh200-480gb"),
        ("NVIDIA B200", 183359, "b200"),
        ("", 0, "unknown"),
    ],
)
def test_a_gpus_kind_goes_by_its_name_and_memory(name: str, mebibytes: int, kind: str) -> None:
    assert gpu_kind(name, mebibytes << 20) == kind


def test_the_kinds_are_those_that_the_command_line_promises() -> None:
    promised = "rtx3090 rtx4090 rtx5090 a10 l4 t4 v100-32g a100-40g a100-80g h100-80g h200 b200"
    assert list(gpu_kinds()) == promised.split()


def test_the_kind_of_a_run_is_what_exact_replay_compares(tmp_path: Path) -> None:
    text = "processor: 0\nvendor_id: AuthenticAMD\nflags: avx2 fma\n"
    machine = look(tmp_path, {"proc/cpuinfo": text}, FakeNvml([RTX3090, A100]))
    build = torch_build({"version": "2.13.0", "local": "cpu", "record_sha256": None})
    cpu = {"device": "cpu", "vendor": "AuthenticAMD", "instruction_set": "avx2", "threads": 2, "torch": "2.13.0+cpu"}
    assert hardware_kind(machine, 2, build) == cpu
    assert kind_used({"device": "cpu", "name": "x", "threads": 2, "torch": "2.13.0+cpu"}, machine) == cpu
    assert hardware_kind(machine, 2, torch_build({"version": "2.13.0", "local": ""}), [0, 1]) == {
        "device": "cuda",
        "kind": "a100-80g+rtx3090",
        "count": 2,
        "torch": "2.13.0",
    }
