"""How a run ended, judged by what is on disk: never a success without `done.json` and the very files it names.

Causes of a failure are stable codes. The trainer's own: `nan adapter-never-moved world-size processes not-parallel
bundle-mismatch out-of-memory data-mismatch model-mismatch resume-mismatch disk-full error`; the supervisor's: `killed
no-record output-mismatch supervisor`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from finetui.bundles.manifest import digest_of, render
from finetui.core import events
from finetui.core.errors import Problem
from finetui.core.files import read_json
from finetui.core.messages import LANGUAGES, t
from finetui.core.text import one_line
from finetui.models.digests import digests
from finetui.models.fetch.space import in_words
from finetui.runs.folder import RunFolder
from finetui.runs.lighter import lighter_setting
from finetui.runs.removing import fullest_folder, largest_runs
from finetui.runs.state import FAILED, FINISHED, INTERRUPTED, STARTING, STOPPED, RunState

ADAPTER = "adapter_model.safetensors"
CAUSES = (*events.FAILURES, "killed", "no-record", "output-mismatch", "supervisor")
"""Every cause that has words of its own; an unknown one is shown as `error`."""

SAVED_EXIT_CODE = 75
"""What launch.sh ends with where the training was asked to end from wherever, and can be resumed."""
_LOG_TAIL_BYTES = 16_000
_CLOCK_S = 0.1
"""So much may the clock of a file be behind."""
_EXCEPTION = re.compile(r"^(?:\[rank\d+\]:\s*)?((?:[\w.]+\.)?\w*(?:Error|Exception|Interrupt)\b.*)$")
_KILLED = re.compile(r"Signal 9 \(SIGKILL\).*")
_SAID = re.compile(r"^process (\d+) failed: ([a-z-]+): (.*)$", re.MULTILINE)
"""How each process of the training ends its part of the log."""


@dataclass(frozen=True)
class Verdict:
    """How a run ended, and why where it failed."""

    status: str
    """`finished`, `failed` or `stopped`; of one that lives what it is."""
    cause: str | None = None
    """Stable code of the cause of a failure."""
    detail: str | None = None
    """Its particulars."""

    @classmethod
    def wrong_world(cls, locked: int, trained: int | None) -> Self:
        """Other many processes trained than the lock says: every loss would mean something else."""
        return cls(FAILED, "world-size", f"locked {locked}, trained {trained}")


def judge(run: RunFolder, state: RunState, exit_code: int | None, *, stop_asked: bool) -> Verdict:
    """How a run ended whose processes are gone; `exit_code` is None where nobody kept it."""
    if failed := _failure(run, state):
        said = Verdict(FAILED, str(failed["cause"]), str(failed["detail"]))
        if said.cause != "error":
            return said
        behind = _behind(run, state)
        return Verdict(STOPPED) if behind and behind.cause == "killed" and stop_asked else behind or said
    trained = run.world_size(state)
    if trained not in (None, state.world_size):
        return Verdict.wrong_world(state.world_size, trained)
    record = read_record(run)
    stopped_early = record is not None and record.get("stopped_early") and state.stop_after is None
    if stopped_early or exit_code == SAVED_EXIT_CODE or (stop_asked and (record is None or exit_code != 0)):
        return Verdict(STOPPED)
    if exit_code or (exit_code is None and record is None):
        if behind := _behind(run, state):
            return behind
        cause = "killed" if exit_code in (None, 137) else "error"
        return Verdict(FAILED, cause, last_words(run.log, state.log_from) or f"exit code {exit_code}")
    if state.node_rank:
        return Verdict(FINISHED)
    if record is None:
        return Verdict(FAILED, "no-record", last_words(run.log, state.log_from))
    return _held_against(run, record)


def standing(run: RunFolder, state: RunState | None = None) -> Verdict:
    """How a run stands: as its state says, but failed where that is finished and the result is not what was saved.

    Files that nobody has touched since the run ended are not read again: the supervisor has held them against the
    record then.
    """
    state = state or run.read()
    status = run.status(state)
    if status != FINISHED or state.node_rank:
        return Verdict(status, state.cause, state.detail)
    record = read_record(run)
    return Verdict(FAILED, "no-record") if record is None else _held_against(run, record, state.ended or 0.0)


def _failure(run: RunFolder, state: RunState) -> events.Event | None:
    """The trainer's own word on its failure in the last launch."""
    if not run.events.exists() or run.events.stat().st_size <= state.events_from:
        return None
    found = events.last(run.events, ["failed", "started"])
    return found if found is not None and found.name == "failed" else None


def _behind(run: RunFolder, state: RunState) -> Verdict | None:
    """What the last launch's log says of processes that have failed for a cause of their own, or were killed.

    The first process, which alone writes events, has often only to say that it has lost another one.
    """
    log = _tail(run.log, state.log_from)
    for number, cause, detail in _SAID.findall(log):
        if cause in events.FAILURES and cause != "error":
            return Verdict(FAILED, cause, f"process {number}: {detail}")
    killed = _KILLED.search(log)
    return Verdict(FAILED, "killed", one_line(killed[0])) if killed else None


def read_record(run: RunFolder) -> dict[str, Any] | None:
    """The trainer's own last record, or None where it wrote none that can be read."""
    try:
        record = read_json(run.done)
    except (FileNotFoundError, ValueError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("outputs"), dict) else None


def locked(run: RunFolder) -> dict[str, Any]:
    """The lock of the run's bundle; empty where that is no longer there."""
    try:
        lock = read_json(Path(run.read().bundle) / "lock.json")
    except (OSError, ValueError):
        return {}
    return lock if isinstance(lock, dict) else {}


def _held_against(run: RunFolder, record: dict[str, Any], since: float = 0.0) -> Verdict:
    """Finished, or failed with the names of files that are missing or are not what the trainer saved.

    Where it has saved none all of them are missing; what is older than `since` is taken as it is.
    """
    outputs: dict[str, str] = record["outputs"]
    differing = [name for name, digest in sorted(outputs.items()) if not _is_saved(run.output / name, digest, since)]
    if outputs and not differing:
        return Verdict(FINISHED)
    return Verdict(FAILED, "output-mismatch", ", ".join(differing or [run.output.name]))


def result(run: RunFolder) -> dict[str, Any]:
    """The contract of `run`: how far the run is or how it ended, with figures from its files."""
    state = run.read()
    stands = standing(run, state)
    status, record = stands.status, read_record(run)
    step = events.last(run.events, ["step"])
    last = {} if step is None else step.facts
    figures = record if record is not None and status == FINISHED else {}
    complete = status == FINISHED and not state.node_rank
    return {
        "run": state.run,
        "status": "running" if status == STARTING else status,
        "steps": figures.get("steps", last.get("step") or 0),
        "final_loss": finite(figures.get("final_loss", last.get("loss"))),
        "output": str(run.output) if complete else None,
        **_result_digest(run, record if complete else None),
        "world_size": run.world_size(state),
        "tokens_per_second": finite(figures.get("tokens_per_second", last.get("tokens_per_second"))),
        "resumed_from": _resumed_from(run),
        "then": [{"verb": verb, "exit_code": code} for verb, code in state.verbs_called],
        "on_finish_exit": state.on_finish_exit,
        "steps_total": state.steps_asked,
        "seconds": finite(figures.get("seconds")),
        "cause": stands.cause,
        "detail": stands.detail,
        "folder": str(run.path),
        "bundle": state.bundle,
        "model": state.model,
    }


def _resumed_from(run: RunFolder) -> int | None:
    """The step that the last launch went on from; None where it is the first."""
    started = events.last(run.events, ["started"])
    return None if started is None else started.facts.get("resumed_from")


def _result_digest(run: RunFolder, record: dict[str, Any] | None) -> dict[str, str | None]:
    """`adapter_sha256`, of the adapter's weights; for a whole model `output_sha256`, of the manifest of its files."""
    outputs: dict[str, str] = {} if record is None else record["outputs"]
    if outputs and ADAPTER not in outputs:
        return {"output_sha256": digest_of(render(outputs))}
    return {"adapter_sha256": outputs.get(ADAPTER)}


def problem(run: RunFolder, outcome: dict[str, Any]) -> Problem:
    """Why a run did not finish, in words, with the next command; `outcome` is its `result`."""
    status = outcome["status"]
    facts = {"run": run.name, "step": outcome["steps"], "steps": outcome["steps_total"], "bundle": outcome["bundle"]}
    if status == STOPPED and run.read().ticket and not run.events.exists():
        return Problem("runs.left-queue", facts)
    if status in (STOPPED, INTERRUPTED):
        return Problem(f"runs.{status}", facts)
    cause = outcome["cause"] if outcome["cause"] in CAUSES else "error"
    detail = one_line(outcome["detail"] or "—", 400)
    if cause == "disk-full":
        folder = fullest_folder(run)
        largest = largest_runs(run) if folder == run.path.parent else []
        cause = cause if largest else "disk-full-elsewhere"
        named = ", ".join(f"{name} ({in_words(held)})" for name, held in largest)
        facts |= {"folder": str(folder), "largest": named}
    elif cause == "out-of-memory":
        setting = lighter_setting(locked(run), run.read())
        cause = cause if setting else "out-of-memory-lightest"
        facts["setting"] = setting or ""
    return Problem(f"runs.cause-{cause}", {**facts, "detail": detail, "log": str(run.log)})


def problems_after(run: RunFolder) -> list[Problem]:
    """What of `--then` has failed or was not called, though the run itself is finished and is over."""
    state = run.read()
    facts = {"run": run.name, "log": str(run.then_log)}
    failed = [
        Problem("runs.then-failed", {**facts, "verb": verb, "exit_code": code, "words": last_error(run.then_log)})
        for verb, code in state.verbs_called
        if code != 0
    ]
    return failed or [Problem("runs.then-missing", {**facts, "verb": verb}) for verb in state.verbs_left]


def last_words(log: Path, since: int = 0) -> str:
    """The line of a training log that says most about its end: the last exception but torchrun's own, else the last.

    What stands before the byte `since` is passed over.
    """
    lines = [line.strip() for line in _tail(log, since).splitlines() if line.strip()]
    for line in reversed(lines):
        match = _EXCEPTION.match(line)
        if match and "ChildFailedError" not in line:
            return one_line(match[1], 400)
    return one_line(lines[-1], 400) if lines else ""


def last_error(log: Path) -> str:
    """What a command of finetui has called an error last in its log, in whichever language; else the last words."""
    lines = _tail(log).splitlines()
    signs = [t("errors.error", lang, text="") for lang in LANGUAGES]
    said = [line.removeprefix(sign) for line in lines for sign in signs if line.startswith(sign)]
    return one_line(said[-1], 400) if said else last_words(log)


def _tail(log: Path, since: int = 0) -> str:
    try:
        with log.open("rb") as stream:
            stream.seek(max(since, log.stat().st_size - _LOG_TAIL_BYTES))
            return stream.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def finite(value: object) -> float | None:
    """The number, or None where it is none that JSON can hold."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _is_saved(path: Path, digest: str, since: float) -> bool:
    try:
        found = path.stat()
        untouched = max(found.st_mtime, found.st_ctime) < since - _CLOCK_S
        return path.is_file() and (untouched or digests([path])[path] == digest)
    except (OSError, ValueError):  # gone, unreadable, or under a name that no file can have
        return False
