"""Whether the torch that is installed runs on the GPUs that are here, and the one that would."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from finetui.core.errors import ShellWords
from finetui.doctor.bounds import satisfies, wanted
from finetui.doctor.finding import MISSING, OK, WARNING, Finding, say
from finetui.doctor.interpreter import Interpreter
from finetui.doctor.remedies import installing
from finetui.doctor.situation import Situation
from finetui.hardware.cuda import CPU_INDEX, Version, best_build, driver_runs, parse_version, runs_on
from finetui.hardware.probe import Machine

TORCH = "torch"


def check_torch(situation: Situation) -> Iterator[Finding]:
    """What there is to say of torch."""
    there, machine = situation.interpreter, situation.machine
    if there is None or "packages" not in there.found:
        return
    found, version, bound = there.stage(TORCH), there.version_of(TORCH), situation.bounds.get(TORCH)
    level = MISSING if situation.purpose.needs(TORCH) else WARNING
    install = install_command(situation, there)
    facts: dict[str, object] = {"python": there.path, "version": version or "", "install": install or ""}
    if install is None:
        yield _driver_old(situation, level)
    elif version is None:
        yield say(level, "torch-absent", **facts)
    elif bound is not None and not satisfies(version, bound):
        yield say(level, "torch-old", bound=bound, **facts)
    elif found.get("error"):
        yield say(level, "torch-broken", words=found["error"], **facts)
    elif found and machine.gpus and machine.cuda is not None:
        yield _on_gpus(found, machine, machine.cuda, level, facts)
    elif found:
        yield say(OK, "torch-ok", device="CUDA" if found["works"] else "CPU", **facts)


def _driver_old(situation: Situation, level: str) -> Finding:
    """A container has the driver of its host, which cannot be updated from inside."""
    machine = situation.machine
    code = "driver-old-container" if situation.host.is_container else "driver-old"
    facts = {"driver": machine.gpus[0].driver, "cuda": _dotted(machine.cuda or (0, 0))}
    return say(level, code, command=installing(situation, "driver"), **facts)


def install_command(situation: Situation, there: Interpreter) -> ShellWords | None:
    """The words that install a torch which fits this machine; None where its GPUs want a newer driver first."""
    machine, index = situation.machine, CPU_INDEX
    if machine.gpus and machine.cuda is not None:
        build = best_build(machine.cuda, [gpu.compute_capability for gpu in machine.gpus])
        if build is None:
            return None
        index = build.index
    again = " --force-reinstall" if there.version_of(TORCH) else ""
    return ShellWords(f"{there.install()}{again} {wanted(situation.bounds, TORCH)} --index-url {index}")


def _on_gpus(
    found: Mapping[str, Any], machine: Machine, driver: Version, level: str, facts: Mapping[str, object]
) -> Finding:
    told = {**facts, "driver": _dotted(driver), "cuda": found["cuda"] or "", "words": found["words"]}
    if found["cuda"] is None:
        return say(level, "torch-for-cpu", **told)
    if not driver_runs(parse_version(found["cuda"]), driver):
        return say(level, "torch-too-new", **told)
    if not found["works"]:
        return say(level, "torch-no-cuda", **told)
    if bare := _without_kernels(found["capabilities"], machine):
        return say(level, "torch-no-kernels", gpus=bare, **told)
    return say(OK, "torch-ok", device="CUDA", **facts)


def _without_kernels(compiled: Iterable[str], machine: Machine) -> str:
    """The GPUs that the build has no kernels for; `compiled` are words such as `86` or `90a`."""
    numbers = ["".join(filter(str.isdecimal, word)) for word in compiled]
    kernels = [(int(number[:-1]), int(number[-1])) for number in numbers if len(number) > 1]
    return ", ".join(
        f"{gpu.index} ({_dotted(gpu.compute_capability)})"
        for gpu in machine.gpus
        if kernels and not runs_on(kernels, gpu.compute_capability)
    )


def _dotted(version: Version) -> str:
    return f"{version[0]}.{version[1]}"
