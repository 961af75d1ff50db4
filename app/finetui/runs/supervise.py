"""The supervisor: `python -m finetui.runs.supervise RUN_DIR READY_FD`, alone in its session, until its trainer ends.

It starts `launch.sh` of the bundle, samples what the run uses, hands on a stop, ends what is left over, and writes
down how the run ended. It says "running" on READY_FD, a pipe to its starter, once that is true.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetui.core import jobs
from finetui.core.errors import FinetuiError
from finetui.runs import processes
from finetui.runs.folder import FAILED, FINISHED, RUNNING, RunFolder, RunState
from finetui.runs.outcome import Verdict, judge, world_size_trained

SAMPLE_S = 10.0
"""Between two samples, each of which is also a heartbeat."""
UNTIL_WORLD_S = 0.5
"""Between two looks for the trainer's world size, until it has said it."""
PATIENCE_S = 600.0
"""A trainer that was asked to stop and has not ended after so long is killed, whoever asked."""


class Supervisor:
    """The life of one run, from the start of its trainer to the last word in `state.json`."""

    def __init__(self, run: RunFolder, sample_s: float = SAMPLE_S) -> None:
        self._run = run
        self._state = run.read()
        self._sample_s = sample_s
        self._stops_asked = 0
        self._stop_asked_at = 0.0
        self._wrong_world: int | None = None
        self._world_seen = False
        self._wake, wake_writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(wake_writer, False)
        signal.set_wakeup_fd(wake_writer)
        signal.signal(signal.SIGTERM, lambda *_: None)  # arrives as a byte on the wake-up pipe
        for ignored in (signal.SIGHUP, signal.SIGINT):  # the trainer inherits this: no terminal ends it
            signal.signal(ignored, signal.SIG_IGN)

    def live(self, say_running: Callable[[], None]) -> None:
        """Run the trainer to its end and write down how it ended; whatever goes wrong here ends the run as failed."""
        self._state = self._state.held_by(processes.Identity.of(os.getpid()))
        try:
            with self._run.log.open("ab") as log:
                child = subprocess.Popen(
                    ["bash", str(Path(self._state.bundle) / "launch.sh")],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self._run.path,
                    env=launch_environment(self._run, self._state),
                )
            self._note("supervisor", pid=os.getpid(), trainer_pid=child.pid)
            self._set(status=RUNNING)
            say_running()
            exit_code = self._attend(child)
            left_over = processes.kill_run(self._state.run, [os.getpid()])
            self._note("exit", exit_code=exit_code, killed=left_over)
            self._conclude(exit_code)
        except BaseException as error:
            processes.kill_run(self._state.run, [os.getpid()])
            self._set(status=FAILED, ended=time.time(), cause="supervisor", detail=f"{type(error).__name__}: {error}")
            raise

    def _attend(self, child: subprocess.Popen[bytes]) -> int:
        """Wait for the trainer's end: sampling, and passing on every stop."""
        handle = os.pidfd_open(child.pid)
        poller = select.poll()
        poller.register(handle, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        next_sample = time.monotonic()
        while child.poll() is None:
            if time.monotonic() >= next_sample:
                next_sample = time.monotonic() + self._sample_s
                self._sample()
            self._check_world()
            if self._stops_asked and time.monotonic() - self._stop_asked_at > PATIENCE_S:
                processes.kill_run(self._state.run, [os.getpid()])
            rest = max(0.0, next_sample - time.monotonic())
            poller.poll((rest if self._world_seen else min(rest, UNTIL_WORLD_S)) * 1000)
            for _ in range(self._signals()):
                self._stop()
        os.close(handle)
        return child.returncode

    def _signals(self) -> int:
        with contextlib.suppress(BlockingIOError):
            return os.read(self._wake, 64).count(signal.SIGTERM)
        return 0

    def _stop(self) -> None:
        """The first time ask the trainer to save and end; the second time end everything."""
        self._stops_asked += 1
        self._stop_asked_at = time.monotonic()
        if self._stops_asked > 1:
            self._note("stop", killed=processes.kill_run(self._state.run, [os.getpid()]))
            return
        asked = processes.trainers(self._state.run) or processes.of_run(self._state.run, [os.getpid()])
        for pid in asked:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        self._note("stop", asked=asked)

    def _sample(self) -> None:
        members = processes.of_run(self._state.run, [os.getpid()])
        free = shutil.disk_usage(self._run.path).free
        self._note("sample", resident_bytes=processes.resident_bytes(members), disk_free_bytes=free)

    def _check_world(self) -> None:
        """End a training of another number of processes than the lock's as soon as the trainer has said it."""
        if not self._world_seen and (size := world_size_trained(self._run)) is not None:
            self._world_seen = True
            if size != self._state.world_size:
                self._wrong_world = size
                processes.kill_run(self._state.run, [os.getpid()])

    def _conclude(self, exit_code: int) -> None:
        if self._wrong_world is not None:
            verdict = Verdict.wrong_world(self._state.world_size, self._wrong_world)
        else:
            verdict = judge(self._run, self._state, exit_code, stop_asked=self._stops_asked > 0)
        if verdict.status == FINISHED:
            self._leave_evidence()
        self._note("ended", status=verdict.status, cause=verdict.cause, detail=verdict.detail)
        self._set(
            status=verdict.status,
            ended=time.time(),
            exit_code=exit_code,
            cause=verdict.cause,
            detail=verdict.detail,
        )

    def _leave_evidence(self) -> None:
        """Fill the bundle's evidence from its first full run; a bundle that cannot be written stays as it is."""
        from finetui.bundles import evidence

        if self._state.kind != "run" or self._state.stop_after is not None:
            return
        try:
            if evidence.write(Path(self._state.bundle), self._run.path) is not None:
                self._note("evidence", bundle=self._state.bundle)
        except (OSError, FinetuiError) as error:
            self._note("warning", code="evidence-not-written", text=str(error))

    def _note(self, event: str, **facts: Any) -> None:
        line = {"v": 1, "event": event, "time": time.time(), "step": None, **facts}
        with self._run.supervisor_events.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, ensure_ascii=True) + "\n")

    def _set(self, **changes: Any) -> None:
        self._state = replace(self._state, **changes)
        self._run.write(self._state)


def launch_environment(run: RunFolder, state: RunState) -> dict[str, str]:
    """What `launch.sh` reads: model, output folder, interpreter, events, the run's tag, and GPUs where chosen."""
    environment = {
        **os.environ,
        "MODEL": state.model,
        "OUT": str(run.path),
        "PYTHON": state.python,
        "FINETUI_EVENTS": str(run.events),
        processes.RUN_ID: state.run,
        "PYTHONUNBUFFERED": "1",
    }
    for name in ("DATA", "FINETUI_STOP_AFTER"):  # whoever starts a run has no say in these
        environment.pop(name, None)
    environment |= jobs.visible_gpus(state.gpus)
    if state.stop_after is not None:
        environment["FINETUI_STOP_AFTER"] = str(state.stop_after)
    return environment


def main() -> None:
    """Leave the starter's session, take the run's lock, and supervise it."""
    run, ready = RunFolder(Path(sys.argv[1])), int(sys.argv[2])
    if os.fork():
        os._exit(0)  # the starter has nobody to wait for, and the supervisor becomes nobody's zombie
    os.setsid()
    os.set_inheritable(ready, False)
    with run.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: another one lives
        Supervisor(run).live(lambda: _tell_starter(ready))


def _tell_starter(ready: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # the starter was killed meanwhile: its run goes on
        os.write(ready, b"running")
    os.close(ready)


if __name__ == "__main__":
    main()
