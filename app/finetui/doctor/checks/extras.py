"""What is optional for most: 4-bit weights through bitsandbytes, attention through flash-attn, tracking by wandb."""

from __future__ import annotations

from collections.abc import Iterator

from finetui.core.errors import ShellWords
from finetui.doctor.bounds import wanted
from finetui.doctor.finding import MISSING, NOTE, OK, WARNING, Finding, say
from finetui.doctor.interpreter import AGAIN, Interpreter
from finetui.doctor.situation import Situation

FLASH_SINCE = (8, 0)
"""The compute capability that flash-attn wants."""
BITSANDBYTES, FLASH = "bitsandbytes", "flash-attn"


def check_bitsandbytes(situation: Situation) -> Iterator[Finding]:
    """Whether 4-bit weights work here: a layer of them was really computed."""
    there = situation.interpreter
    if there is None or "packages" not in there.found:
        return
    needed = situation.purpose.needs(BITSANDBYTES)
    version, found = there.version_of(BITSANDBYTES), there.stage(BITSANDBYTES)
    again = f" --upgrade {AGAIN}" if version else ""
    install = ShellWords(f"{there.install()}{again} {wanted(situation.bounds, BITSANDBYTES)}")
    facts = {"version": version or "", "install": install}
    if version is None:
        yield say(MISSING if needed else NOTE, "bitsandbytes-absent", **facts)
    elif found.get("error"):
        yield say(MISSING if needed else WARNING, "bitsandbytes-broken", words=found["error"], **facts)
    elif found:
        yield say(OK, "bitsandbytes-ok", device="GPU" if found["device"] == "cuda" else "CPU", **facts)


def check_flash(situation: Situation) -> Iterator[Finding]:
    """Whether flash-attn is there, where the GPUs could use it; sdpa does without."""
    there = situation.interpreter
    if there is None or "packages" not in there.found:
        return
    needed = situation.purpose.needs(FLASH)
    gpus = situation.machine.gpus
    could = bool(gpus) and all(gpu.compute_capability >= FLASH_SINCE for gpu in gpus)
    error = there.stage("flash_attention").get("error")
    compiles = "nvcc" in situation.programs or bool(situation.environment.get("CUDA_HOME"))
    facts = {"install": _building(situation, there)}
    if needed and not could:
        yield say(MISSING, "flash-no-gpu")
    elif there.version_of(FLASH) is None and (needed or (could and there.version_of("kernels") is None)):
        yield say(MISSING if needed else NOTE, "flash-absent" if compiles else "flash-no-compiler", **facts)
    elif there.version_of(FLASH) is not None and error:
        yield say(MISSING if needed else WARNING, "flash-broken", words=error, **facts)
    elif there.version_of(FLASH) is not None and could:
        yield say(OK, "flash-ok", version=there.version_of(FLASH))


def check_wandb(situation: Situation) -> Iterator[Finding]:
    """Whether wandb, where it is installed, knows who we are."""
    there = situation.interpreter
    if there is None or not there.version_of("wandb"):
        return
    if situation.logins.wandb_malformed:
        yield say(WARNING, "wandb-malformed", python=there.path)
    elif not situation.logins.wandb and situation.environment.get("WANDB_MODE") not in ("offline", "disabled"):
        yield say(NOTE, "wandb-no-login", python=there.path)


def _building(situation: Situation, there: Interpreter) -> ShellWords:
    """The commands that build flash-attn against the torch that is there: what its build needs, then itself."""
    again = f" {AGAIN} --no-cache-dir" if there.version_of(FLASH) else ""
    package = wanted(situation.bounds, FLASH)
    return ShellWords(
        f"{there.install()} setuptools wheel ninja packaging psutil && "
        f"MAX_JOBS=4 {there.install()}{again} --no-build-isolation {package}"
    )
