"""Replay: the bundle run again, and every step held against what it gave before.

On the same kind of hardware everything has to be equal bit for bit. On another kind, with other processes or other
package versions, sums are rounded in another order: the same rows in the same steps are still demanded, and losses
within a band.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from finetui.bundles import evidence
from finetui.bundles.evidence import Evidence, StepEvidence
from finetui.bundles.folder import Bundle
from finetui.bundles.verify import verify
from finetui.core import events
from finetui.core.errors import BAD_INPUT, FinetuiError, Problem
from finetui.core.messages import t
from finetui.hardware.kind import kind_used
from finetui.hardware.probe import Machine, probe
from finetui.runs.folder import RunFolder
from finetui.runs.outcome import read_record, result

EXACT, EQUIVALENT, CHANGED = "exact", "equivalent", "changed"
BAND_FIRST, BAND_LAST, BAND_GROWTH_STEPS = 1e-3, 2e-2, 20
"""Relative difference of losses that is allowed at the first step, and from the twentieth on: first only the order of
summation differs, then each step starts from weights that have parted a little further. Measured on a 135 M model in
float32, AVX-512 against AVX2: 5e-6 at the first step, at most 6e-4 within 30; one thread against two: nothing."""
BAND_FLOOR = 0.1
"""Losses below this, in nats a token, are compared by the difference that is allowed at this one."""


@dataclass(frozen=True)
class Divergence:
    """The first place where two runs part."""

    step: int
    """Optimizer step, from 1; the last one where only the output differs."""
    expected: object
    """What the evidence has."""
    actual: object
    """What the replay gave; None where it gave nothing."""
    why: Problem
    """What this difference means."""

    def to_json(self) -> dict[str, Any]:
        """The contract's `first_divergence`, in English."""
        return {"step": self.step, "expected": self.expected, "actual": self.actual, "cause": self.why.message("en")}


@dataclass(frozen=True)
class Replayed:
    """What a replay has shown."""

    reproduced: bool
    """Whether the bundle gave again what it had to."""
    kind: str
    """`exact`, `equivalent` or `changed`: what was demanded."""
    first_divergence: Divergence | None
    """Where the two part; also within the band, where losses first differ at all."""
    run: str | None
    """The replay's run, None where the bundle was changed and nothing ran."""
    steps: int
    """Steps that were compared."""
    differences: tuple[str, ...]
    """What is other than it was: hardware, processes, packages, or files of the bundle."""

    def to_json(self) -> dict[str, Any]:
        """The contract of `replay`."""
        return {
            "reproduced": self.reproduced,
            "kind": self.kind,
            "first_divergence": None if self.first_divergence is None else self.first_divergence.to_json(),
            "run": self.run,
            "steps": self.steps,
            "differences": list(self.differences),
        }


def expected_of(bundle: Path) -> Evidence:
    """What a replay of this bundle is held against.

    Raises FinetuiError (exit 3) where the bundle has not been run to its end yet.
    """
    found = evidence.read(Bundle.load(bundle).path)
    if found is None:
        raise FinetuiError(Problem("runs.no-evidence", {"bundle": str(bundle)}), BAD_INPUT)
    return found


def changed(bundle: Path) -> Replayed | None:
    """The outcome for a bundle that is no longer what was locked or what its evidence belongs to; else None."""
    differing = [f"{found['path']}: {found['expected']} → {found['actual']}" for found in verify(bundle)["mismatches"]]
    return Replayed(False, CHANGED, None, None, 0, tuple(differing)) if differing else None


def compare(expected: Evidence, run: RunFolder, machine: Machine | None = None) -> Replayed:
    """Hold an ended replay against the evidence; one that was asked for fewer steps is held against those alone."""
    state, record = run.read(), read_record(run)
    asked = expected.steps[: state.steps_asked]
    actual = list(_steps(run))
    outcome = result(run)
    different = _differences(expected, run, record, machine)
    exact = not [line for line in different if not line.startswith("package ")]
    unfinished = None if outcome["status"] == "finished" else _unfinished(outcome, actual)
    if unfinished is not None:
        asked = asked[: len(actual)]
    strict = _first_parting(asked, actual, exact=True) or unfinished
    if strict is None and exact and record is not None and state.stop_after is None:
        strict = _output_parting(len(asked), expected.outputs, record["outputs"])
    if exact and (strict is None or not different):
        return Replayed(strict is None, EXACT, strict, run.name, len(asked), tuple(different))
    parting = _first_parting(asked, actual, exact=False) or unfinished
    return Replayed(parting is None, EQUIVALENT, parting or strict, run.name, len(asked), tuple(different))


def band(step: int, loss: float) -> float:
    """By how much the loss of a step may differ on other hardware, in nats."""
    share = min(1.0, (step - 1) / (BAND_GROWTH_STEPS - 1))
    return (BAND_FIRST + share * (BAND_LAST - BAND_FIRST)) * max(abs(loss), BAND_FLOOR)


def _steps(run: RunFolder) -> Iterator[StepEvidence]:
    for event in events.steps(run.events):
        yield StepEvidence(event["step"], event["loss"], event["grad_norm"], event["batch_digest"])


def _first_parting(expected: tuple[StepEvidence, ...], actual: list[StepEvidence], *, exact: bool) -> Divergence | None:
    for number, (left, right) in enumerate(zip_longest(expected, actual), start=1):
        if left is None or right is None or left.step != right.step:
            steps = (None if left is None else left.step, None if right is None else right.step)
            return Divergence(number, *steps, Problem("runs.parted-steps"))
        if parting := _step_parting(left, right, exact=exact):
            return parting
    return None


def _step_parting(left: StepEvidence, right: StepEvidence, *, exact: bool) -> Divergence | None:
    """What differs first within a step: its rows, then the loss that they give, then the gradient."""
    step = left.step
    if left.batch_digest != right.batch_digest:
        return Divergence(step, left.batch_digest, right.batch_digest, Problem("runs.parted-batch"))
    if exact and left.loss != right.loss:
        code = "runs.parted-first-loss" if step == 1 else "runs.parted-loss"
        return Divergence(step, left.loss, right.loss, Problem(code))
    if exact and left.grad_norm != right.grad_norm:
        return Divergence(step, left.grad_norm, right.grad_norm, Problem("runs.parted-gradient"))
    allowed = band(step, left.loss)
    if not exact and not abs(left.loss - right.loss) <= allowed:
        return Divergence(step, left.loss, right.loss, Problem("runs.parted-band", {"band": f"{allowed:.2g}"}))
    return None


def _output_parting(step: int, expected: Mapping[str, str], actual: Mapping[str, str]) -> Divergence | None:
    for name in sorted({*expected, *actual}):
        if expected.get(name) != actual.get(name):
            return Divergence(step, expected.get(name), actual.get(name), Problem("runs.parted-output", {"name": name}))
    return None


def _unfinished(outcome: dict[str, Any], actual: list[StepEvidence]) -> Divergence:
    detail = ": ".join(str(part) for part in (outcome["cause"], outcome["detail"]) if part) or outcome["status"]
    why = Problem("runs.parted-unfinished", {"detail": detail})
    return Divergence(len(actual) + 1, "finished", outcome["status"], why)


def _differences(
    expected: Evidence, run: RunFolder, record: dict[str, Any] | None, machine: Machine | None
) -> list[str]:
    """What is other than at the first run, as `what: then → now`; unknown where the replay left no record."""
    started = next((event for event in events.read(run.events) if event["event"] == "started"), None)
    then: dict[str, object] = {"processes": expected.world_size, "package python": expected.python}
    now: dict[str, object] = dict(then)
    then |= {f"setting {name}": f"{value} (from a resume on)" for name, value in expected.changes.items()}
    then |= {f"package {name}": version for name, version in expected.packages.items() if name != "torch"}
    if started is not None:
        now |= {"processes": started["world_size"], "package python": started["python"]}
        now |= {f"package {name}": version for name, version in started["packages"].items() if name != "torch"}
    if record is not None:
        then |= {f"hardware {key}": value for key, value in expected.hardware.items()}
        used = kind_used(record["hardware"], machine or probe())
        now |= {f"hardware {key}": value for key, value in used.items()}
    if started is None:
        now = {**then, **now}
    now |= {f"setting {name}": "as locked" for name in expected.changes}
    names = sorted({*then, *now})
    return [f"{name}: {then.get(name)} → {now.get(name)}" for name in names if then.get(name) != now.get(name)]


def summary(replayed: Replayed) -> str:
    """The outcome in words, in the language in force."""
    what = "; ".join(replayed.differences)
    if replayed.kind == CHANGED:
        return t("runs.replay-changed", what=what)
    if replayed.reproduced:
        code = "runs.replay-exact" if replayed.kind == EXACT else "runs.replay-equivalent"
        return t(code, steps=replayed.steps, what=what)
    parting = replayed.first_divergence
    assert parting is not None, "what is not reproduced has parted somewhere"
    facts = {"step": parting.step, "expected": str(parting.expected), "actual": str(parting.actual)}
    return t("runs.replay-parted", kind=replayed.kind, cause=parting.why.message(), **facts)
