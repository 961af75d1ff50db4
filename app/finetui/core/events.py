"""The events of a run: what each one holds (schema version 1), and how the growing files are read.

The trainer writes `events.jsonl`, the supervisor `supervisor.jsonl` beside it; each line is one JSON object with `v`,
`event`, `time` (seconds since 1970), `step` (or null) and the event's own facts. An event keeps its line and gives the
facts when asked, so that a million of them fit in memory.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

VERSION = 1
TRAINER_FILE = "events.jsonl"
SUPERVISOR_FILE = "supervisor.jsonl"
FAILURES = (
    "nan",
    "adapter-never-moved",
    "world-size",
    "processes",
    "not-parallel",
    "bundle-mismatch",
    "out-of-memory",
    "data-mismatch",
    "model-mismatch",
    "resume-mismatch",
    "disk-full",
    "error",
)
"""The causes that the trainer gives in `failed`."""

_NUMBER = (int, float)
SCHEMA: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "started": {
        "world_size": (int,),
        "python": (str,),
        "packages": (dict,),
        "device": (str,),
        "steps": (int,),
        "rows": (int,),
    },
    "model_loaded": {"parameters": (int,), "trainable_parameters": (int,), "seconds": _NUMBER},
    "step": {
        "loss": _NUMBER,
        "learning_rate": _NUMBER,
        "grad_norm": (*_NUMBER, type(None)),
        "trained_tokens": (int,),
        "tokens": (int,),
        "tokens_per_second": _NUMBER,
        "batch_digest": (str,),
        "epoch": _NUMBER,
        "memory_bytes": (int,),
    },
    "evaluation": {"loss": _NUMBER},
    "checkpoint": {"path": (str,)},
    "best": {"loss": _NUMBER, "path": (str,)},
    "warning": {"code": (str,), "text": (str,)},
    "finished": {
        "steps": (int,),
        "final_loss": _NUMBER,
        "seconds": _NUMBER,
        "tokens_per_second": _NUMBER,
        "output_digests": (dict,),
    },
    "failed": {"cause": (str,), "detail": (str,)},
}
"""The trainer's events: the facts of each, and the types they come in."""
OPTIONAL: Mapping[str, Mapping[str, tuple[type, ...]]] = {"started": {"resumed_from": (int,), "changes": (dict,)}}
"""Facts that an event may have beside those: of a training that goes on, the step that its checkpoint had reached (0
where there was none), and the settings of memory and speed that hold in place of the lock's.
"""
SUPERVISOR_EVENTS = frozenset(
    [
        "queued",
        "supervisor",
        "adopted",
        "sample",
        "stop",
        "exit",
        "evidence",
        "warning",
        "ended",
        "report",
        "then",
        "on_finish",
    ]
)
"""The supervisor's events, whose facts are its own."""

_KNOWN = frozenset(SCHEMA) | SUPERVISOR_EVENTS
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Event:
    """One line of an event file."""

    name: str
    """What happened: a key of SCHEMA, or one of SUPERVISOR_EVENTS."""
    time: float
    """When, in seconds since 1970."""
    line: bytes = field(repr=False)
    """The line as it was written."""

    @property
    def facts(self) -> dict[str, Any]:
        """The whole line as a dictionary, `event`, `time` and `step` among it."""
        facts: dict[str, Any] = orjson.loads(self.line)
        return facts

    @property
    def step(self) -> int | None:
        """The optimizer step it belongs to, from 1; None before training."""
        step: int | None = self.facts.get("step")
        return step

    def __getitem__(self, fact: str) -> Any:
        return self.facts[fact]


def parse(line: bytes) -> Event | None:
    """The event of one whole line, or None where it is none of this schema."""
    try:
        facts = orjson.loads(line)
        name, time, version = facts["event"], facts["time"], facts["v"]
    except (ValueError, TypeError, KeyError):
        return None
    if version != VERSION or not isinstance(name, str) or name not in _KNOWN or not isinstance(time, _NUMBER):
        return None
    return Event(name, float(time), line) if _is_whole(name, facts) else None


def _is_whole(name: str, facts: Mapping[str, Any]) -> bool:
    """Whether every fact of the schema is there in its type (null for a number that was not finite), or more."""
    for key, kinds in SCHEMA.get(name, {}).items():
        if key not in facts or type(facts[key]) not in (*kinds, *((type(None),) if float in kinds else ())):
            return False
    return type(facts.get("step")) in ((int,) if name == "step" else (int, type(None)))


def conforms(facts: Mapping[str, Any]) -> list[str]:
    """What is wrong with a trainer's event by the schema; empty where it fits exactly."""
    name = str(facts.get("event"))
    if name not in SCHEMA:
        return [f"no event {name}"]
    wanted = {"v": (int,), "event": (str,), "time": _NUMBER, "step": (int, type(None)), **SCHEMA[name]}
    wrong = [f"{name}.{key} is missing" for key in wanted if key not in facts]
    known = {**wanted, **OPTIONAL.get(name, {})}
    wrong += [f"{name}.{key} is not in the schema" for key in facts if key not in known]
    return wrong + [
        f"{name}.{key} is {type(facts[key]).__name__}"
        for key, kinds in known.items()
        if key in facts and type(facts[key]) not in kinds
    ]


class Tail:
    """One growing event file, read from where the last reading ended."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self.offset = offset
        """Where the next reading begins: after the last whole line."""
        self.skipped = 0
        """Whole lines so far that were no events of this schema."""

    def read(self) -> list[Event]:
        """The events that were added; a half last line waits for its rest, a file not there yet holds none."""
        return list(self.events())

    def events(self) -> Iterator[Event]:
        """The same one by one."""
        try:
            stream = self.path.open("rb")
        except FileNotFoundError:
            return
        with stream:
            stream.seek(self.offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                self.offset += len(line)
                event = parse(line)
                if event is None:
                    self.skipped += 1
                else:
                    yield event


class Reader:
    """Both event files of a run folder, merged by time."""

    def __init__(self, folder: Path) -> None:
        self._tails = (Tail(folder / TRAINER_FILE), Tail(folder / SUPERVISOR_FILE))

    @property
    def skipped(self) -> int:
        """Lines of both files that were no events of this schema."""
        return sum(tail.skipped for tail in self._tails)

    def glance(self, *, rare: bool = True) -> list[Event]:
        """What a picture needs of all that is there already (see `overview`); `read` goes on after it."""
        from finetui.core.overview import overview

        found = []
        for tail in self._tails:
            seen = overview(tail.path, rare=rare)
            tail.offset = seen.offset
            found.append(seen.events)
        return list(heapq.merge(*found, key=lambda event: event.time))

    def read(self) -> list[Event]:
        """What was added to either file since the last reading, oldest first."""
        return list(heapq.merge(*(tail.read() for tail in self._tails), key=lambda event: event.time))


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The facts of every event in one file, from its beginning."""
    return (event.facts for event in Tail(path).events())


def steps(path: Path) -> list[dict[str, Any]]:
    """The facts of every optimizer step that counts, in order.

    A training that goes on takes the steps after its checkpoint once more: those of the launch before are left out.
    """
    found: dict[int, dict[str, Any]] = {}
    for event in Tail(path).events():
        if event.name == "started":
            reached = event.facts.get("resumed_from") or 0
            found = {step: facts for step, facts in found.items() if step <= reached}
        elif event.name == "step":
            facts = event.facts
            found[facts["step"]] = facts
    return [found[step] for step in sorted(found)]


def last(path: Path, names: Iterable[str]) -> Event | None:
    """The last event of these names in a file, found from its end."""
    wanted = frozenset(names)
    signs = [f'"{name}"'.encode() for name in wanted]
    for lines in _lines_backwards(path):
        if not any(sign in lines for sign in signs):  # a hundredth of the time that parsing them takes
            continue
        for line in reversed(lines.split(b"\n")):
            event = parse(line)
            if event is not None and event.name in wanted:
                return event
    return None


def version(path: Path) -> int:
    """The schema version that a file begins with; ours where nothing of it can be read yet."""
    try:
        with path.open("rb") as stream:
            said = orjson.loads(stream.readline())["v"]
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return VERSION
    return said if isinstance(said, int) else VERSION


def _lines_backwards(path: Path) -> Iterator[bytes]:
    """The whole lines of a file by the block, the last block first."""
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        return
    with stream:
        end = stream.seek(0, os.SEEK_END)
        rest: bytes | None = None  # the beginning of the lines already given; None before any line end was seen
        while end > 0:
            start = max(0, end - _BLOCK)
            stream.seek(start)
            block = stream.read(end - start)
            if rest is None:  # after the last line end: nothing, or half a line
                block = block[: block.rfind(b"\n") + 1]
            if block:
                block += rest or b""
                whole = block.find(b"\n") + 1 if start else 0
                rest = block[:whole]
                yield block[whole:]
            end = start
