"""The GPUs: whether the driver gives them, who holds their memory, what they cannot do."""

from __future__ import annotations

from collections.abc import Iterator

from finetui.core.errors import ShellWords
from finetui.doctor.finding import MISSING, NOTE, OK, WARNING, Finding, gib, say
from finetui.doctor.remedies import as_root, installing
from finetui.doctor.situation import Situation
from finetui.hardware.gpu import Gpu, Holder

HELD_SHARE = 0.06
HELD_BYTES = 1 << 30
"""Less than this and that share of a card is what driver, ECC and a desktop keep."""

_LEVELS = {
    "no-driver": MISSING,
    "mismatch": MISSING,
    "no-permission": MISSING,
    "broken": MISSING,
    "lost": WARNING,
    "empty-slices": WARNING,
    "slices": NOTE,
    "hidden": NOTE,
    "order": WARNING,
    "hot": WARNING,
    "braked": WARNING,
    "memory-errors": MISSING,
    "rows-pending": WARNING,
}
"""What each note of the driver weighs, where the purpose computes at all."""


def check_gpus(situation: Situation) -> Iterator[Finding]:
    """What there is to say of the GPUs of this machine."""
    computes = situation.purpose.needs("torch")
    yield from _driver(situation, computes)
    for gpu in situation.machine.gpus:
        if (held := gpu.total_bytes - gpu.free_bytes) > HELD_BYTES + HELD_SHARE * gpu.total_bytes:
            yield _held(situation, gpu, held)
        if computes and not gpu.bf16:
            yield say(NOTE, "no-bf16", index=gpu.index, name=gpu.name)


def _driver(situation: Situation, computes: bool) -> Iterator[Finding]:
    machine, host = situation.machine, situation.host
    for note in machine.gpu_notes:
        if note.code == "no-library" or (note.code == "no-driver" and not host.nvidia_cards):
            yield _no_driver(situation, computes)
        else:
            level = _LEVELS.get(note.code, WARNING)
            facts: dict[str, object] = {"detail": note.detail, "root": as_root(situation)}
            yield say(level if computes or level != MISSING else WARNING, f"gpu-{note.code}", **facts)
    if not machine.gpus and not machine.gpu_notes:
        yield say(NOTE, "no-gpu")
    if machine.gpus and machine.cuda:
        facts = {"driver": machine.gpus[0].driver, "cuda": "{}.{}".format(*machine.cuda)}
        yield say(OK, "driver-ok", count=len(machine.gpus), **facts)


def _no_driver(situation: Situation, computes: bool) -> Finding:
    host = situation.host
    if not host.nvidia_cards and not host.is_wsl:
        return say(NOTE, "no-gpu")
    if host.is_wsl:
        return say(NOTE, "no-driver-wsl")
    code = "no-driver-container" if host.is_container else "no-driver"
    command = installing(situation, "driver")
    return say(MISSING if computes else WARNING, code, count=host.nvidia_cards, command=command)


def _held(situation: Situation, gpu: Gpu, held: int) -> Finding:
    """Who holds a GPU's memory: a run of finetui, other processes, or nobody that can be seen from here."""
    facts: dict[str, object] = {"index": gpu.index, "held": gib(held), "total": gib(gpu.total_bytes)}
    pids = {holder.pid for holder in gpu.holders}
    for run in situation.runs:
        if run.pids & pids:
            return say(WARNING, "gpu-held-by-leftover" if run.is_over else "gpu-held-by-run", run=run.name, **facts)
    if not any(holder.name for holder in gpu.holders):  # pids of another container, if any
        return say(WARNING, "gpu-held-unseen", **facts)
    who = ", ".join(_in_words(holder) for holder in gpu.holders[:3])
    listed = ShellWords(",".join(str(holder.pid) for holder in gpu.holders))
    return say(WARNING, "gpu-held", who=who, pids=listed, **facts)


def _in_words(holder: Holder) -> str:
    amount = "" if holder.bytes is None else f" {gib(holder.bytes)} GiB"
    return f"{holder.name or '?'} ({holder.pid}){amount}"
