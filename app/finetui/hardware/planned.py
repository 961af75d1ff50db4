"""A machine that is not there yet: the box to be rented, as `--gpu KIND[:N]` names it."""

from __future__ import annotations

import difflib
import re
from dataclasses import replace

from finetui.core.errors import USAGE, FinetuiError, Problem
from finetui.hardware.gpu import Gpu
from finetui.hardware.kinds import gpu_kinds
from finetui.hardware.probe import Machine

MOST = 64
"""GPUs that one planned machine may have."""


def parse_planned(text: str) -> tuple[str, int]:
    """The kind and the count that `KIND[:N]` names.

    Raises FinetuiError (exit 2) with the nearest kind and all of them.
    """
    name, colon, count = text.partition(":")
    kind = re.sub(r"[\s_]+", "", name).lower()
    kinds = gpu_kinds()
    if kind not in kinds:
        near = [each for each in kinds if kind in each] or difflib.get_close_matches(kind, kinds, 1, 0)
        facts = {"text": text, "kinds": ", ".join(kinds), "near": near[0]}
        raise FinetuiError(Problem("hardware.unknown-kind", facts), USAGE)
    if colon and not (count.isascii() and count.isdecimal() and 1 <= int(count[:9]) <= MOST):
        raise FinetuiError(Problem("hardware.bad-count", {"text": text, "most": MOST, "kind": kind}), USAGE)
    return kind, int(count) if colon else 1


def planned_machine(kind: str, count: int, base: Machine) -> Machine:
    """`base` with `count` idle GPUs of a kind in place of its own.

    Raises KeyError for a kind that is not in the table.
    """
    facts = gpu_kinds()[kind]
    gpus = tuple(
        Gpu(
            index=index,
            kind=kind,
            name=kind,
            total_bytes=facts.total_bytes,
            driver="",
            free_bytes=facts.usable_bytes,
            compute_capability=facts.compute_capability,
            bf16=facts.bf16,
            nvlink=facts.nvlink > 0 and count > 1,
        )
        for index in range(count)
    )
    return replace(base, gpus=gpus, cuda=None, gpu_notes=())
