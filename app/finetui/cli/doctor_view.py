"""How the doctor's report looks: a line a fact, a sign a finding, the command that mends it on a line of its own."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len
from rich.text import Text

from finetui.cli.common import Output
from finetui.cli.hanging import padded, print_hanging
from finetui.core.messages import t
from finetui.core.text import one_line
from finetui.doctor.checks.surroundings import is_utf8
from finetui.doctor.examine import Report
from finetui.doctor.finding import LEVELS, MISSING, NOTE, OK, WARNING, gib
from finetui.doctor.situation import Situation
from finetui.hardware.gpu import Gpu

_SIGNS = {OK: "✓", NOTE: "·", WARNING: "!", MISSING: "✗"}
_ASCII = {OK: "+", NOTE: "-", WARNING: "!", MISSING: "x"}
_STYLES = {OK: "green", NOTE: "cyan", WARNING: "yellow", MISSING: "bold red"}

Line = tuple[str, str]
"""A label and what stands beside it."""


def show(output: Output, report: Report) -> None:
    """Print a report: the machine, the findings from the best to the worst, the sum of it."""
    console = output.console()
    lines = list(machine_lines(report.situation))
    widest = max(cell_len(label) for label, _ in lines)
    for label, text in lines:
        print_hanging(console, Text(padded(label, widest + 2), style="bold"), text)
    console.print()
    console.print(Text(t("doctor.checked-for", names=", ".join(report.situation.purpose.names)), style="bold"))
    signs = _SIGNS if is_utf8(report.situation) else _ASCII
    for finding in sorted(report.findings, key=lambda finding: -LEVELS.index(finding.level)):
        print_hanging(
            console, Text(f"  {signs[finding.level]} ", style=_STYLES[finding.level]), finding.problem.message()
        )
        if command := finding.problem.next():
            console.print(Text(f"      {command}"), soft_wrap=True)  # in one piece, to be copied
    missing = sum(finding.level == MISSING for finding in report.findings)
    text = t("doctor.count-missing", count=missing) if missing else t("doctor.all-there")
    console.print(Text(text, style=_STYLES[OK if report.ok else MISSING]))


def machine_lines(situation: Situation) -> Iterator[Line]:
    """The machine, fact by fact."""
    machine, host = situation.machine, situation.host
    physical = {"cores": machine.cores, "physical": machine.physical_cores}
    yield _line("cpu", model=one_line(machine.cpu_model), instruction_set=machine.instruction_set, **physical)
    swap = t("doctor.swap", size=gib(host.swap_bytes)) if host.swap_bytes else t("doctor.no-swap")
    yield _line("memory", free=gib(host.ram_free_bytes), total=gib(machine.ram_bytes), swap=swap)
    shm = t("doctor.absent") if host.shm_bytes is None else _amount(host.shm_bytes)
    place = t("doctor.in-wsl") if host.is_wsl else t("doctor.in-container") if host.is_container else ""
    yield _line("limits", files=host.open_files, shm=shm, place=place)
    if not machine.gpus:
        yield _line("no-gpu")
    for gpu in machine.gpus:
        yield from _gpu_lines(gpu)
    if machine.gpus and machine.cuda:
        yield _line("driver", driver=machine.gpus[0].driver, cuda="{}.{}".format(*machine.cuda))
    yield from _disk_lines(situation)
    if situation.interpreter is not None:
        version = situation.interpreter.stage("python").get("version") or "?"
        yield _line("python", version=version, python=situation.interpreter.path)


def _gpu_lines(gpu: Gpu) -> Iterator[Line]:
    has = (("bfloat16", gpu.bf16), ("NVLink", gpu.nvlink))
    abilities = "".join(t("doctor.ability", word=word) for word, there in has if there)
    facts = {"name": gpu.name, "capability": "{}.{}".format(*gpu.compute_capability), "abilities": abilities}
    if gpu.total_bytes:
        text = t("doctor.line-gpu", free=gib(gpu.free_bytes), total=gib(gpu.total_bytes), **facts)
    else:
        text = t("doctor.line-gpu-shared", **facts)
    yield t("doctor.label-gpu", index=gpu.index), text
    for holder in gpu.holders:
        held = t("doctor.held-unknown") if holder.bytes is None else f"{gib(holder.bytes)} GiB"
        yield "", t("doctor.line-holder", name=holder.name or "?", pid=str(holder.pid), held=held)


def _amount(count: int) -> str:
    """Bytes in a unit that shows how many they are."""
    return f"{count >> 20} MiB" if count < 1 << 30 else f"{gib(count)} GiB"


def _disk_lines(situation: Situation) -> Iterator[Line]:
    """One line a disk, with all that is kept on it."""
    by_device: dict[int, list[str]] = {}
    for variable, disk in situation.disks.items():
        by_device.setdefault(disk.device, []).append(variable)
    for variables in by_device.values():
        disk = situation.disks[variables[0]]
        facts = {"free": gib(disk.free_bytes), "total": gib(disk.total_bytes), "variables": ", ".join(variables)}
        yield _line("disk", mount=disk.mount or disk.path, filesystem=disk.filesystem or "?", **facts)


def _line(name: str, **facts: object) -> Line:
    return t(f"doctor.label-{name}"), t(f"doctor.line-{name}", **facts)
