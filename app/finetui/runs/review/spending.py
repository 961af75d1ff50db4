"""What the time of a run went to, gathered from its events."""

from __future__ import annotations

from finetui.core.events import Event
from finetui.runs.outcome import SAVED_EXIT_CODE

STARTING, TRAINING, EVALUATING, SAVING = "starting", "training", "evaluating", "saving"
IDLE, AWAY = "idle", "away"
PHASES = (STARTING, TRAINING, EVALUATING, SAVING, IDLE, AWAY)
"""What a second of a run can go to: all before the first step of a launch; steps; evaluations; checkpoints and the end
of a training that ends by itself, finished or stopped; idle, where the run has the machine and no step comes of it (the
queue, what was lost with a trainer that fell, what follows the run's end); away, where no process of the run lives,
between an end and the resume: whoever has the machine then, it is not the run."""
_ENDS = {
    "queued": IDLE,
    "supervisor": IDLE,
    "started": STARTING,
    "model_loaded": STARTING,
    "step": TRAINING,
    "evaluation": EVALUATING,
    "checkpoint": SAVING,
    "best": SAVING,
    "finished": SAVING,
    "failed": TRAINING,
    "exit": IDLE,
    "ended": IDLE,
    "report": IDLE,
    "then": IDLE,
    "on_finish": IDLE,
}
"""The events that end a stretch of time, and what that went to."""
_WORK = frozenset(name for name, phase in _ENDS.items() if phase != IDLE) | {"supervisor"}
"""Those after which a trainer is at work."""


class Spending:
    """The seconds of one run; a clock that is set back loses what it takes."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._since = 0.0
        self._heard = 0.0
        self._last = ""
        self._supervised = False
        self._before_first_step = True

    def take(self, event: Event) -> None:
        """Add an event, in the order in which they happened."""
        heard, self._heard = self._heard, event.time
        if event.name not in _ENDS:
            return
        if not self._last:
            heard = self._since = event.time
        if self._comes_back(event):
            self._spend(IDLE, heard)
            self._spend(AWAY, event.time)
        self._spend(self._phase_before(event), event.time)
        if event.name in ("supervisor", "started", "step"):
            self._before_first_step = event.name != "step"
            self._supervised = event.name == "supervisor"
        self._last = event.name

    @property
    def phase(self) -> str:
        """What a run that lives is doing, as far as its events tell."""
        if self._last not in _WORK:
            return IDLE
        return STARTING if self._before_first_step else TRAINING

    def until(self, now: float | None = None) -> dict[str, float]:
        """The seconds of each phase until `now` where the run lives, else until it was last heard of."""
        found = dict(self._seconds)
        if self._last:
            end, phase = (self._heard, IDLE) if now is None else (now, self.phase)
            found[phase] += max(0.0, end - self._since)
        return found

    def _comes_back(self, event: Event) -> bool:
        """Whether a launch begins, after another one of which nothing was heard any more."""
        if event.name == "started":  # of a job that Slurm has queued again there is no other word
            return not self._supervised
        return event.name in ("queued", "supervisor") and self._last != "queued"

    def _phase_before(self, event: Event) -> str:
        phase = _ENDS[event.name]
        if event.name == "exit" and event["exit_code"] in (0, SAVED_EXIT_CODE):
            return SAVING
        return STARTING if phase == TRAINING and self._before_first_step else phase

    def _spend(self, phase: str, until: float) -> None:
        self._seconds[phase] += max(0.0, until - self._since)
        self._since = until
