"""What is said of a run: the content of `state.json`, and the statuses that a run can have."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any, Self

from finetui.runs.processes import Identity

QUEUED, STARTING, RUNNING = "queued", "starting", "running"
FINISHED, FAILED, STOPPED, INTERRUPTED = "finished", "failed", "stopped", "interrupted"
LIVE = (QUEUED, STARTING, RUNNING)
"""What a run is before it has ended."""
STATUSES = (*LIVE, FINISHED, FAILED, STOPPED, INTERRUPTED)
_KINDS = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,), "None": (type(None),)}


@dataclass(frozen=True)
class RunState:
    """What the supervisor has said of a run."""

    run: str
    """The run's name, which is also its RUN_ID."""
    bundle: str
    """The bundle's folder."""
    bundle_id: str
    """Digest of the bundle's manifest."""
    bundle_name: str
    """The bundle's own name."""
    model: str
    """The base model's folder."""
    python: str
    """The interpreter that trains."""
    world_size: int
    """Training processes that the lock asks for."""
    steps_total: int
    """Optimizer steps of the whole run."""
    started: float
    """When it was started, in seconds since 1970."""
    resumed: float | None = None
    """When it was last resumed; None for never."""
    kind: str = "run"
    """`run` or `replay`."""
    status: str = STARTING
    """`queued starting running finished failed stopped`; readers add `interrupted` (see `RunFolder.status`)."""
    host: str = ""
    """Machine of the process that answers for the run: first its starter, then its supervisor."""
    pid: int = 0
    """Its process id."""
    pid_start: int = 0
    """Its start time in clock ticks since boot."""
    boot_id: str = ""
    """The kernel's id of that boot."""
    trainer_pid: int = 0
    """Process id of the script that keeps the trainer's exit code; 0 before the training was launched."""
    trainer_start: int = 0
    """Its start time in clock ticks since boot."""
    events_from: int = 0
    """Size of `events.jsonl` when the training was last launched: what stands before is of an earlier launch."""
    log_from: int = 0
    """The same for `train.log`."""
    stop_asked: bool = False
    """Whether the training was asked to save and end."""
    nodes: int = 1
    """Machines that share its processes."""
    node_rank: int = 0
    """The number of this one, from 0; only number 0 has events, checkpoints and result."""
    master: str = ""
    """HOST:PORT of number 0."""
    slurm: str = ""
    """Number of the job that Slurm runs it as; empty for a run of this machine."""
    ended: float | None = None
    """When it ended."""
    exit_code: int | None = None
    """What launch.sh ended with; None where nobody was left to hear it."""
    cause: str | None = None
    """Why it failed: a stable code (see `outcome`)."""
    detail: str | None = None
    """The cause's particulars, or the last words of the log."""
    gpus: str | None = None
    """The GPUs it was given, as CUDA_VISIBLE_DEVICES has them."""
    claims: str = ""
    """What is its own while it lives: UUIDs of GPUs, joined by commas, or `cpu` on a machine without any."""
    ticket: int = 0
    """Its number in the queue, from 1; 0 where it never had to wait."""
    stop_after: int | None = None
    """Stop after so many steps, the schedule unchanged; None for all."""
    resumes: bool = False
    """Whether it goes on from its newest complete checkpoint."""
    changes: str = ""
    """Settings of memory and speed that hold in place of the lock's, as a JSON object; empty for none."""
    track: str = ""
    """Trackers that its figures go to, joined by commas."""
    price: float | None = None
    """What one GPU costs for an hour, in any currency; None where nobody said."""
    then: str = ""
    """Verbs to be called once it has finished, joined by commas."""
    then_exits: str = ""
    """Exit codes of those that were called, joined by commas."""
    on_finish: str | None = None
    """Shell command to be run once it has ended in whatever way."""
    on_finish_exit: int | None = None
    """What that ended with."""

    @property
    def identity(self) -> Identity:
        """The process that answers for the run."""
        return Identity(self.host, self.pid, self.pid_start, self.boot_id)

    @property
    def trainer(self) -> Identity:
        """The process that all of the training descends from; one that never lived before the launch."""
        return Identity(self.host, self.trainer_pid, self.trainer_start, self.boot_id)

    def held_by(self, identity: Identity) -> RunState:
        """The same with another process answering for it."""
        return replace(self, **asdict(identity))

    def again(self) -> RunState:
        """The state of a run that is started once more in its folder; what is to follow its end has to be said anew."""
        past: dict[str, Any] = {field.name: field.default for field in fields(self) if field.name in _OF_ONE_LAUNCH}
        return replace(self, **past)

    @property
    def processes_here(self) -> int:
        """Training processes on this machine."""
        return self.world_size // self.nodes

    @property
    def steps_asked(self) -> int:
        """Steps that this run is to do."""
        return self.steps_total if self.stop_after is None else min(self.stop_after, self.steps_total)

    @property
    def verbs_left(self) -> list[str]:
        """Verbs of `then` that are still to be called: none once one of them, or the run itself, has failed."""
        if self.status in (FAILED, STOPPED):
            return []
        verbs, exits = _words(self.then), _words(self.then_exits)
        return [] if set(exits) - {"0"} else verbs[len(exits) :]

    @property
    def last_call(self) -> bool:
        """Whether nothing is left of it but the command of `on_finish`, which has not ended yet."""
        return self.has_more and not self.verbs_left

    @property
    def has_more(self) -> bool:
        """Whether something is still to be called once it has ended."""
        return bool(self.verbs_left) or (self.on_finish is not None and self.on_finish_exit is None)

    @property
    def verbs_called(self) -> list[tuple[str, int]]:
        """Each verb of `then` that was called, with its exit code."""
        return [(verb, int(code)) for verb, code in zip(_words(self.then), _words(self.then_exits), strict=False)]

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """The inverse of `asdict`; keys of a later version are passed over.

        Raises ValueError where it is no object, a fact is missing, or is of another type.
        """
        if not isinstance(value, dict):
            raise ValueError("it is no JSON object")
        known = {field.name: str(field.type) for field in fields(cls)}
        if missing := [field.name for field in fields(cls) if field.default is MISSING and field.name not in value]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        state = cls(**{key: item for key, item in value.items() if key in known})
        for name, kinds in known.items():
            if type(getattr(state, name)) not in [kind for word in kinds.split(" | ") for kind in _KINDS[word]]:
                raise ValueError(f"{name} is no {kinds}")
        if state.status not in STATUSES:
            raise ValueError(f"no status {state.status}")
        if not isinstance(json.loads(state.changes or "{}"), dict):
            raise ValueError(f"no changes {state.changes}")
        if not all(code.lstrip("-").isdecimal() for code in _words(state.then_exits)):
            raise ValueError(f"no exit codes {state.then_exits}")
        return state


_OF_ONE_LAUNCH = frozenset({"status", "trainer_pid", "trainer_start", "stop_asked", "ended", "exit_code", "cause"})
_OF_ONE_LAUNCH |= {"detail", "ticket", "then", "then_exits", "on_finish", "on_finish_exit"}
"""Fields that say something of the last launch only."""


def _words(joined: str) -> list[str]:
    return [word for word in joined.split(",") if word]
