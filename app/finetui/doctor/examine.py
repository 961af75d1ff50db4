"""All checks of a situation, and the situation itself, as `--json` gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from finetui.doctor.checks.extras import check_bitsandbytes, check_flash, check_wandb
from finetui.doctor.checks.gpus import check_gpus
from finetui.doctor.checks.hubs import check_hubs
from finetui.doctor.checks.model import check_model
from finetui.doctor.checks.packages import check_interpreter, check_packages
from finetui.doctor.checks.room import check_disks, check_memory
from finetui.doctor.checks.surroundings import (
    check_clock,
    check_leftovers,
    check_name,
    check_programs,
    check_terminal,
)
from finetui.doctor.checks.torch_build import check_torch
from finetui.doctor.facts import machine_facts
from finetui.doctor.finding import Finding, in_order, is_fit
from finetui.doctor.situation import Situation

CHECKS: tuple[Callable[[Situation], Iterable[Finding]], ...] = (
    check_gpus,
    check_interpreter,
    check_torch,
    check_packages,
    check_bitsandbytes,
    check_flash,
    check_model,
    check_disks,
    check_memory,
    check_name,
    check_clock,
    check_programs,
    check_leftovers,
    check_hubs,
    check_wandb,
    check_terminal,
)
"""In the order in which findings of one level are shown."""


@dataclass(frozen=True)
class Report:
    """What the doctor says."""

    situation: Situation
    findings: tuple[Finding, ...]
    """The worst first."""

    @property
    def ok(self) -> bool:
        """Whether everything is there that was asked for."""
        return is_fit(self.findings)

    def to_json(self) -> dict[str, Any]:
        """The contract of `doctor`."""
        return {
            "ok": self.ok,
            "for": list(self.situation.purpose.names),
            "findings": [finding.to_json() for finding in self.findings],
            "machine": machine_facts(self.situation),
        }


def examine(situation: Situation) -> Report:
    """Everything that there is to say of a situation."""
    return Report(situation, in_order(finding for check in CHECKS for finding in check(situation)))
