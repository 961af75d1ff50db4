"""What a container allows of the machine it is on: memory and processor time, from control groups 1 and 2."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

_GROUPS = "sys/fs/cgroup"


def memory_limit(root: Path) -> int | None:
    """The smallest memory limit in bytes that holds for this process, or None."""
    limits = [
        int(text)
        for controller, name in (("", "memory.max"), ("memory", "memory.limit_in_bytes"))
        for text in _values(root, controller, name)
        if text.isdigit()
    ]
    return min(limits, default=None)


def memory_left(root: Path) -> int | None:
    """Bytes that this process can still have before the tightest group kills it, or None where none limits it.

    Files that are only cached count as free: they go first.
    """
    left: list[int] = []
    for controller, limit, used, cached in (
        ("", "memory.max", "memory.current", "inactive_file"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        for folder in _groups(root, controller):
            most, now = _value(folder / limit), _value(folder / used)
            if most.isdigit() and now.isdigit():
                pages = [
                    line.split()[1] for line in _value(folder / "memory.stat").splitlines() if _key(line) == cached
                ]
                left.append(max(0, int(most) - int(now) + sum(int(count) for count in pages if count.isdigit())))
    return min(left, default=None)


def cpu_limit(root: Path) -> int | None:
    """The number of cores that the time quotas of this process amount to, rounded up, or None."""
    shares: list[float] = []
    for text in _values(root, "", "cpu.max"):
        quota, _, period = text.partition(" ")
        if quota.isdigit() and period.isdigit() and int(period):
            shares.append(int(quota) / int(period))
    quotas = _values(root, "cpu", "cpu.cfs_quota_us")
    for quota, period in zip(quotas, _values(root, "cpu", "cpu.cfs_period_us"), strict=False):
        if quota.isdigit() and period.isdigit() and int(period):
            shares.append(int(quota) / int(period))
    return max(1, math.ceil(min(shares))) if shares else None


def _values(root: Path, controller: str, name: str) -> Iterator[str]:
    """The file `name` of this process's group and of every group above it, where they exist."""
    for folder in _groups(root, controller):
        if value := _value(folder / name):
            yield value


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """This process's group and every group above it."""
    top = root / _GROUPS / controller
    own = (top / _own_group(root, controller)).parts
    for depth in range(len(own), len(top.parts) - 1, -1):
        yield Path(*own[:depth])


def _value(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _key(line: str) -> str:
    return line.partition(" ")[0]


def _own_group(root: Path, controller: str) -> str:
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controller in controllers.split(",") and ".." not in Path(path).parts:
            return path.lstrip("/")
    return ""
