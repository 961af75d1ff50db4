"""The supervisor: `python -m finetui.runs.supervise start RUN_DIR READY_FD`, alone in its session, to the run's end.

It waits in the queue where the run has to, starts `launch.sh` of the bundle, samples what the run uses, hands on a
stop, ends what is left over, writes down how the run ended, and calls what was to follow. What it has to say to its
starter goes to READY_FD, a pipe, as one JSON object: `{"said": "running"}`, or `queued`, or `held` where the run has a
supervisor already.

`attach RUN_DIR READY_FD` takes over a run whose supervisor was killed while its trainer goes on; `conclude RUN_DIR` is
called by the trainer's own script where that ends and nobody is there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from finetui.core import home
from finetui.runs import nodes, processes
from finetui.runs.folder import RunFolder
from finetui.runs.journal import Journal
from finetui.runs.sampling import Sampler
from finetui.runs.state import FAILED, FINISHED, LIVE, QUEUED, RUNNING, STOPPED, RunState
from finetui.runs.tracking import Trackers
from finetui.runs.waiting import NOW, STOP, Waiter

Say = Callable[[str], None]
SAMPLE_S = 10.0
"""Between two samples, each of which is also a heartbeat."""
MEMBERS_S = 60.0
"""Between two looks for the processes that are sampled: looking through all of the system's costs the most."""
UNTIL_WORLD_S = 0.5
"""Between two looks for the trainer's world size, until it has said it."""
PATIENCE_S = 600.0
"""A trainer that was asked to stop and has not ended after so long is killed, whoever asked."""
KEEP_EXIT = Path(__file__).with_name("keep_exit.sh")


class Supervisor:
    """The life of one run, from the start of its trainer to the last word in `state.json`."""

    def __init__(self, run: RunFolder, sample_s: float = SAMPLE_S) -> None:
        self._run = run
        self._journal = Journal(run)
        self._waiter = Waiter()
        self._sample_s = sample_s
        self._child: subprocess.Popen[bytes] | None = None
        self._stops_asked = 0
        self._stop_asked_at = 0.0
        self._wrong_world: int | None = None
        self._world_seen = False
        self._members: list[int] = []
        self._members_until = 0.0
        self._sampler = Sampler(run, self._state)
        self._trackers = Trackers(self._journal)
        processes.adopt_orphans()

    @property
    def _state(self) -> RunState:
        return self._journal.state

    def start(self, say: Say) -> None:
        """Wait for the run's turn, launch its trainer, and see it to its end."""

        def begin() -> bool:
            self._journal.set(**asdict(processes.Identity.of(os.getpid())))
            if self._state.status == QUEUED and not self._wait_turn(say):
                return False
            self._launch()
            self._trackers.start()
            say("running")
            return True

        self._see_through(begin)

    def attach(self, say: Say) -> None:
        """See a run to its end whose trainer was launched by another supervisor; one that has ended is left alone."""

        def begin() -> bool:
            self._stops_asked = int(self._state.stop_asked)
            self._stop_asked_at = time.monotonic()
            self._journal.set(**asdict(processes.Identity.of(os.getpid())), status=RUNNING)
            self._journal.note("adopted", pid=os.getpid())
            self._trackers.start()
            say("running")
            return True

        if self._state.status in LIVE:
            self._see_through(begin)

    def _see_through(self, begin: Callable[[], bool]) -> None:
        """To the end and beyond; whatever goes wrong here ends the run as failed."""
        from finetui.runs.after import call_what_follows

        try:
            if not begin():
                self._journal.note("ended", status=STOPPED, cause=None, detail=None)
                self._journal.set(status=STOPPED, ended=time.time())
                return
            exit_code = self._attend()
            self._journal.note("exit", exit_code=exit_code, killed=self._kill())
            self._conclude(exit_code)
        except BaseException as error:
            self._kill()
            detail = f"{type(error).__name__}: {error}"
            try:
                self._journal.set(status=FAILED, ended=time.time(), cause="supervisor", detail=detail)
            finally:
                call_what_follows(self._journal, self._waiter)
            raise
        call_what_follows(self._journal, self._waiter)

    def _wait_turn(self, say: Say) -> bool:
        from finetui.runs.queue import wait_turn

        return wait_turn(self._journal, self._waiter, lambda: say("queued"))

    def _launch(self) -> None:
        state, run = self._state, self._run
        run.exit_record.unlink(missing_ok=True)
        run.keep_spare()
        events_from, log_from = (path.stat().st_size if path.exists() else 0 for path in (run.events, run.log))
        launch = Path(state.bundle) / "launch.sh"
        command = ["bash", str(KEEP_EXIT), str(run.path), str(launch), str(state.pid), str(state.pid_start)]
        with run.log.open("ab") as log:
            self._child = subprocess.Popen(
                [*command, sys.executable],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=run.path,
                env=launch_environment(run, state),
            )
        pid = self._child.pid
        self._journal.note("supervisor", pid=os.getpid(), trainer_pid=pid)
        self._journal.set(
            status=RUNNING,
            trainer_pid=pid,
            trainer_start=processes.start_time(pid) or 0,
            events_from=events_from,
            log_from=log_from,
        )

    def _attend(self) -> int | None:
        """Wait for the trainer's end; gives what launch.sh ended with, None where nobody kept it."""
        while (leader := self._leader()) is not None:
            self._watch(leader)
        return self._exit_code()

    def _leader(self) -> processes.Identity | None:
        """Whose end is the training's: the script that keeps the exit code, else whoever is left of the training."""
        trainer = self._state.trainer
        if trainer.pid != os.getpid() and trainer.is_alive():
            return trainer
        if self._exit_code() is not None:
            return None
        found = map(processes.Identity.find, processes.of_run(self._run.path, [os.getpid()]))
        return next(filter(None, found), None)

    def _exit_code(self) -> int | None:
        code = None if self._child is None else self._child.poll()
        return self._run.exit_code() if code is None or code < 0 else code

    def _watch(self, leader: processes.Identity) -> None:
        """Until it ends: sample, and pass on every stop."""
        next_sample = time.monotonic()
        while leader.is_alive():
            if time.monotonic() >= next_sample:
                next_sample = time.monotonic() + self._sample_s
                self._sample()
                processes.bury(leader.pid)
            self._check_world()
            if self._stops_asked and time.monotonic() - self._stop_asked_at > PATIENCE_S:
                self._kill()
            rest = next_sample - time.monotonic()
            came = self._waiter.wait([leader.pid], rest if self._world_seen else min(rest, UNTIL_WORLD_S))
            for number in came:
                self._stop(now=number == NOW)

    def _stop(self, *, now: bool) -> None:
        """The first time ask the trainer to save and end; the second time, or `now`, end everything."""
        self._stops_asked += 1
        self._stop_asked_at = time.monotonic()
        self._journal.set_if_room(stop_asked=True)
        if now or self._stops_asked > 1:
            self._journal.note("stop", killed=self._kill())
            return
        asked = processes.trainers(self._run.path) or processes.of_run(self._run.path, [os.getpid()])
        processes.send(asked, STOP)
        self._journal.note("stop", asked=asked)

    def _kill(self) -> list[int]:
        """End all that lives of the run but this process and the trackers, which have still to hear of it."""

        def left() -> list[int]:
            found, tracking = processes.everything_else(self._run.path), set(self._trackers.pids)
            return [pid for pid in found if pid not in tracking]

        return processes.kill_all(left)

    def _sample(self) -> None:
        if time.monotonic() >= self._members_until:
            self._members = processes.descendants([os.getpid(), self._state.trainer_pid or os.getpid()])
            self._members_until = time.monotonic() + (MEMBERS_S if self._world_seen else self._sample_s)
        self._journal.note("sample", **self._sampler.take(self._members))
        self._trackers.check()

    def _check_world(self) -> None:
        """End a training of another number of processes than the lock's as soon as the trainer has said it."""
        if not self._world_seen and (size := self._run.world_size(self._state)) is not None:
            self._world_seen = True
            if size != self._state.world_size:
                self._wrong_world = size
                self._kill()

    def _conclude(self, exit_code: int | None) -> None:
        from finetui.runs.outcome import Verdict, judge

        if self._wrong_world is not None:
            verdict = Verdict.wrong_world(self._state.world_size, self._wrong_world)
        else:
            verdict = judge(self._run, self._state, exit_code, stop_asked=self._stops_asked > 0)
        if verdict.status == FINISHED:
            self._leave_evidence()
        self._journal.note("ended", status=verdict.status, cause=verdict.cause, detail=verdict.detail)
        self._journal.set(
            status=verdict.status,
            ended=time.time(),
            exit_code=exit_code,
            cause=verdict.cause,
            detail=verdict.detail,
        )
        self._trackers.finish(kill=self._stops_asked > 0)
        self._run.spare.unlink(missing_ok=True)

    def _leave_evidence(self) -> None:
        """Fill the bundle's evidence from its first full run; a bundle that cannot be written stays as it is."""
        from finetui.bundles import evidence
        from finetui.core.errors import FinetuiError

        if self._state.kind != "run" or self._state.stop_after is not None or self._state.node_rank:
            return
        try:
            if evidence.write(Path(self._state.bundle), self._run.path) is not None:
                self._journal.note("evidence", bundle=self._state.bundle)
        except (OSError, FinetuiError) as error:
            self._journal.note("warning", code="evidence-not-written", text=str(error))


def launch_environment(run: RunFolder, state: RunState) -> dict[str, str]:
    """What `launch.sh` reads: model, output folder, interpreter, events, the run's tag, and GPUs where chosen."""
    from finetui.core import jobs

    environment = {
        **os.environ,
        "MODEL": state.model,
        "OUT": str(run.path),
        "PYTHON": state.python,
        "FINETUI_EVENTS": str(run.events),
        "FINETUI_HOME": str(home.home().absolute()),
        **processes.tags(run.path),
        "PYTHONUNBUFFERED": "1",
    }
    # Whoever starts a run has no say in these.
    for name in ("DATA", "FINETUI_STOP_AFTER", "FINETUI_RESUME", "FINETUI_CHANGES", "NNODES", "NODE_RANK", "MASTER"):
        environment.pop(name, None)
    environment |= jobs.visible_gpus(state.gpus)
    if state.stop_after is not None:
        environment["FINETUI_STOP_AFTER"] = str(state.stop_after)
    if state.resumes:
        environment["FINETUI_RESUME"] = "newest"
    if state.changes:
        environment["FINETUI_CHANGES"] = state.changes
    environment |= nodes.environment(state.nodes, state.node_rank, state.master)
    return environment


def main() -> None:
    """Leave the starter's session, take the run's lock, and supervise it."""
    mode, run = sys.argv[1], RunFolder(Path(sys.argv[2]))
    say: Say = _nothing
    if mode != "conclude":
        ready = int(sys.argv[3])
        if os.fork():
            os._exit(0)  # the starter has nobody to wait for, and the supervisor becomes nobody's zombie
        os.setsid()
        os.set_inheritable(ready, False)
        say = _Starter(ready)
    with run.lock.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("held")
            return
        lock.truncate(0)
        lock.write(json.dumps({"pid": os.getpid(), "since": time.time()}))
        lock.flush()
        supervisor = Supervisor(run)
        supervisor.start(say) if mode == "start" else supervisor.attach(say)


class _Starter:
    """Whoever has started this process, and waits for its first word."""

    def __init__(self, ready: int) -> None:
        self._ready: int | None = ready

    def __call__(self, word: str) -> None:
        """Say it, once."""
        if self._ready is None:
            return
        with contextlib.suppress(BrokenPipeError):  # the starter was killed meanwhile: its run goes on
            os.write(self._ready, json.dumps({"said": word}).encode())
        os.close(self._ready)
        self._ready = None


def _nothing(_: str) -> None:
    """Nobody waits for a word."""


if __name__ == "__main__":
    main()
