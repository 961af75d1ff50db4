"""The demo's way, step by step, by the same calls that the commands make: there is no shortcut for it anywhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from finetui.chat.engine import ChatEngine, resolve
from finetui.chat.said import conversation
from finetui.chat.settings import Sampling
from finetui.core import home, jobs
from finetui.core.errors import JOB_FAILED, FinetuiError, Problem
from finetui.data import conversion, inspection
from finetui.demo.scoring import DATA, Question, Reply, Score, load_questions, score
from finetui.merging import merge_reference
from finetui.models.find import find_model
from finetui.runs.folder import RunFolder
from finetui.runs.launch import start
from finetui.runs.outcome import problem, result
from finetui.runs.state import FINISHED
from finetui.wizard import Draft, lock

MODEL = "demo"
RECIPE = "cpu-demo"
STEPS = ("model", "inspect", "convert", "lock", "run", "merge", "chat-base", "chat-tuned")
"""The steps in their order."""
_ANSWER_TOKENS = 48
_BATCH = 25


class Show(Protocol):
    """Where the demo says how far it is."""

    def begin(self, step: str) -> None:
        """A step begins."""

    def end(self, step: str, seconds: float, facts: Mapping[str, object]) -> None:
        """A step has ended, with what came of it."""

    def progress(self, facts: Mapping[str, Any]) -> None:
        """How far the job of a step is."""

    def follow(self, run: RunFolder) -> None:
        """Show a run until it ends."""


@dataclass
class Demo:
    """What has been made so far, and in the end the score."""

    model: Path | None = None
    """Folder of the base model."""
    data: Path | None = None
    """The converted data."""
    bundle: Path | None = None
    """The locked bundle."""
    run: RunFolder | None = None
    """The run."""
    merged: Path | None = None
    """Folder of the merged model."""
    questions: list[Question] = field(default_factory=lambda: load_questions("questions"))
    """Held-out questions on the company."""
    general: list[Question] = field(default_factory=lambda: load_questions("general"))
    """General questions."""
    base: list[Reply] = field(default_factory=list)
    """The base's replies, first to `questions`, then to `general`."""
    tuned: list[Reply] = field(default_factory=list)
    """The merged model's replies in the same order."""
    seconds: float = 0.0
    """The whole time."""

    def score(self) -> Score:
        """The score, once both models have answered."""
        cut = len(self.questions)
        base, tuned = self.base, self.tuned
        return score(self.questions, base[:cut], tuned[:cut], self.general, base[cut:], tuned[cut:])

    def made(self) -> list[str]:
        """Everything that is there already, as paths."""
        run = self.run.path if self.run else None
        return [str(path) for path in (self.model, self.data, self.bundle, run, self.merged) if path]

    def to_json(self) -> dict[str, Any]:
        """The contract of `finetui demo --json`."""
        return {
            **self.score().to_json(),
            "model": str(self.model),
            "bundle": str(self.bundle),
            "run": self.run.name if self.run else None,
            "run_folder": str(self.run.path) if self.run else None,
            "merged": str(self.merged),
            "seconds": round(self.seconds, 1),
        }


def play(show: Show, *, python: str | None = None, clock: Callable[[], float] = time.monotonic) -> Demo:
    """Walk the whole way.

    Raises FinetuiError with the step that failed and what is there already, before the problems of the step itself.
    """
    demo = Demo()
    actions: dict[str, Callable[[], Mapping[str, object]]] = {
        "model": lambda: _get_model(demo, show, python),
        "inspect": _inspect,
        "convert": lambda: _convert(demo),
        "lock": lambda: _lock(demo, python),
        "run": lambda: _run(demo, show, python),
        "merge": lambda: _merge(demo, show, python),
        "chat-base": lambda: _chat(demo, str(demo.model), demo.base, show, python),
        "chat-tuned": lambda: _chat(demo, str(demo.merged), demo.tuned, show, python),
    }
    begun = clock()
    for step in STEPS:
        show.begin(step)
        step_begun = clock()
        with played(step, demo):
            facts = actions[step]()
        show.end(step, clock() - step_begun, facts)
    demo.seconds = clock() - begun
    return demo


@contextmanager
def played(step: str, demo: Demo) -> Iterator[None]:
    """Put the step, and what has been kept, before the problems of a step that fails."""
    try:
        yield
    except FinetuiError as error:
        kept = ", ".join(demo.made()) or "–"
        first = Problem("demo.failed", {"number": STEPS.index(step) + 1, "of": len(STEPS), "step": step, "kept": kept})
        raise FinetuiError([first, *error.problems], error.exit_code) from error


def _get_model(demo: Demo, show: Show, python: str | None) -> Mapping[str, object]:
    jobs.run("environment", {}, python=python)  # what is missing is said before anything is fetched
    demo.model = find_model(MODEL, show.progress)
    return {"folder": str(demo.model)}


def _inspect() -> Mapping[str, object]:
    found = inspection.inspect([DATA])
    _refuse(found.refusals())
    return {"format": found.format, "rows": found.to_json()["rows"]["usable"]}


def _convert(demo: Demo) -> Mapping[str, object]:
    made = conversion.convert([DATA], home.folder("drafts") / MODEL)
    _refuse(made.refusals())
    demo.data = made.out / "data.jsonl"
    return {"file": str(demo.data)}


def _lock(demo: Demo, python: str | None) -> Mapping[str, object]:
    locked = lock(Draft((str(demo.data),), MODEL, RECIPE, _free_bundle(), python=python))
    demo.bundle = locked.path
    return {"bundle": str(locked.path), "id": locked.id[:12]}


def _run(demo: Demo, show: Show, python: str | None) -> Mapping[str, object]:
    assert demo.bundle is not None
    demo.run = start(demo.bundle, python=python)
    show.follow(demo.run)
    outcome = result(demo.run)
    if outcome["status"] != FINISHED:
        raise FinetuiError(problem(demo.run, outcome), JOB_FAILED)
    return {"run": demo.run.name, "steps": outcome["steps"], "loss": f"{outcome['final_loss']:.4f}"}


def _merge(demo: Demo, show: Show, python: str | None) -> Mapping[str, object]:
    assert demo.run is not None
    merged = merge_reference(demo.run.name, python=python, on_progress=show.progress)
    demo.merged = Path(merged.out)
    if not merged.is_good:
        raise FinetuiError(Problem("demo.merge-differs", {"out": merged.out, "run": demo.run.name}), JOB_FAILED)
    agreement = "–" if merged.top1_agreement is None else f"{100 * merged.top1_agreement:.1f}"
    return {"folder": merged.out, "agreement": agreement}


def _chat(demo: Demo, reference: str, replies: list[Reply], show: Show, python: str | None) -> Mapping[str, object]:
    """Ask the base itself, or the merged model itself: each is loaded alone, from its own folder."""
    asked = [*demo.questions, *demo.general]
    with ChatEngine(resolve(reference), python=python) as engine:
        answers = engine.ask_batch(
            [conversation(question.text) for question in asked],
            sampling=Sampling(max_new_tokens=_ANSWER_TOKENS),
            batch_size=_BATCH,
            on_progress=show.progress,
        )
    replies.extend(Reply(answer.text, answer.stop_reason == "stop") for answer in answers)
    right = sum(question.accepts(reply.text) for question, reply in zip(demo.questions, replies, strict=False))
    return {"right": right, "questions": len(demo.questions)}


def _free_bundle() -> Path:
    """The first of demo.bundle, demo-2.bundle, … that is not there: a bundle is never written over."""
    folder = home.folder("bundles")
    names = (f"{MODEL}.bundle" if number == 1 else f"{MODEL}-{number}.bundle" for number in count(1))
    return next(folder / name for name in names if not (folder / name).exists())


def _refuse(problems: Sequence[Problem]) -> None:
    if problems:
        raise FinetuiError(problems)
