"""The app in a terminal: how soon it stands there, what watching a run costs, how quickly a key is answered.

    python bench/terminal.py [ROUNDS [HARLEQUIN]]

All in one run, through real pseudo-terminals of 80 × 24. The start is held against the smallest Textual app there is
and against harlequin (the path of its command, from a virtual environment of its own), in turns; the run that is
watched takes so many steps a second; keys are answered while a niced training takes both cores. Byte code is cached
(PYTHONDONTWRITEBYTECODE unset), as it is for a user.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import pty
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finetui.runs.folder import RunFolder
from finetui.runs.processes import Identity
from finetui.runs.state import RunState

MINIMAL = """
from textual.app import App
from textual.widgets import Static

class Minimal(App):
    def compose(self):
        yield Static("hello")

Minimal().run()
"""
TRAINING = """
import torch
torch.set_num_threads(2)
model = torch.nn.Sequential(*[torch.nn.Linear(512, 512) for _ in range(8)])
optimizer = torch.optim.AdamW(model.parameters())
print("trains", flush=True)
while True:
    optimizer.zero_grad()
    model(torch.randn(256, 512)).square().mean().backward()
    optimizer.step()
"""
FINETUI = (str(Path(sys.executable).parent / "finetui"),)
TOTAL = 100_000
WATCHED_S = 20.0
STEPS_A_SECOND = (1, 10)
KEYS = 40
MILLION = 1_000_000


@dataclass(frozen=True)
class First:
    """A start, up to the first text."""

    wall_s: float
    cpu_s: float


class Window:
    """A command in a terminal of its own."""

    def __init__(self, command: tuple[str, ...], home: Path) -> None:
        self.began = time.perf_counter()
        self.received = b""
        self.pid, self._screen = pty.fork()
        if self.pid == 0:
            for name in ("PYTHONDONTWRITEBYTECODE", "SSH_TTY", "NO_COLOR", "COLORTERM", "LC_ALL"):
                os.environ.pop(name, None)
            home.mkdir(parents=True, exist_ok=True)
            os.environ.update(TERM="xterm-256color", LANG="C.UTF-8", HOME=str(home), FINETUI_HOME=str(home))
            os.environ.pop("OMP_NUM_THREADS", None)
            os.execv(command[0], command)
        fcntl.ioctl(self._screen, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

    def read_until(self, words: bytes, since: int = 0) -> float:
        """When these words came, after those bytes."""
        while words not in self.received[since:]:
            self.read(60.0)
        return time.perf_counter()

    def read(self, seconds: float) -> None:
        """Take what comes within so many seconds, once something has."""
        if select.select([self._screen], [], [], seconds)[0]:
            self.received += os.read(self._screen, 1 << 16)

    def read_for(self, seconds: float) -> None:
        """Take all that comes for so long."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            self.read(left)

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._screen, keys)

    def cpu_s(self) -> float:
        """User and system seconds so far."""
        after_name = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End it."""
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)
        os.close(self._screen)


@contextmanager
def window(command: tuple[str, ...], home: Path) -> Iterator[Window]:
    """A window that is closed in the end."""
    opened = Window(command, home)
    try:
        yield opened
    finally:
        opened.close()


def start(command: tuple[str, ...], words: bytes, home: Path) -> First:
    """From exec to the first text."""
    with window(command, home) as opened:
        return First(opened.read_until(words) - opened.began, opened.cpu_s())


def starts(rounds: int, scratch: Path, harlequin: str | None) -> None:
    """All in turns; the first round fills the caches."""
    minimal = scratch / "minimal.py"
    minimal.write_text(MINIMAL)
    commands: dict[str, tuple[tuple[str, ...], bytes]] = {
        "minimal": ((sys.executable, str(minimal)), b"hello"),
        "finetui": (FINETUI, b"Runs"),
    }
    if harlequin:
        commands["harlequin"] = ((harlequin,), b"Catalog")
    found: dict[str, list[First]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, (command, words) in commands.items():
            first = start(command, words, scratch / name)
            if turn:
                found[name].append(first)
    for what in ("wall_s", "cpu_s"):
        middle = {name: statistics.median(getattr(each, what) for each in firsts) for name, firsts in found.items()}
        shown = "   ".join(f"{name} {1000 * seconds:5.0f} ms" for name, seconds in middle.items())
        ratios = ", ".join(f"{middle['finetui'] / middle[name]:.2f} x {name}" for name in middle if name != "finetui")
        print(f"exec to first text, {what[:-2]:4}   {shown}   finetui is {ratios}")


def make_run(home: Path, steps: int) -> RunFolder:
    """A run that seems to live as long as this process, with so many steps behind it."""
    run, me = RunFolder(home / "runs" / "20260101-000000-bench"), Identity.of(os.getpid())
    run.path.mkdir(parents=True)
    run.write(
        RunState(
            run=run.name,
            bundle=str(home),
            bundle_id="0" * 64,
            bundle_name="bench",
            model=str(home),
            python=sys.executable,
            world_size=1,
            steps_total=max(TOTAL, steps),
            started=time.time(),
            status="running",
            host=me.host,
            pid=me.pid,
            pid_start=me.pid_start,
            boot_id=me.boot_id,
        )
    )
    with run.events.open("w", encoding="utf-8") as stream:
        facts = {"world_size": 1, "python": "3", "packages": {}, "device": "cpu", "steps": TOTAL, "rows": 10}
        stream.write(line("started", None, 0.0, **facts))
        stream.writelines(step(number) for number in range(1, steps + 1))
    return run


def line(name: str, number: int | None, at: float, **facts: Any) -> str:
    """A line of an event file."""
    return json.dumps({"v": 1, "event": name, "time": 1e9 + at, "step": number, **facts}) + "\n"


def step(number: int) -> str:
    """A step of half a second."""
    loss = 0.5 + 2 / math.sqrt(number) + 0.05 * math.sin(number)
    figures = {"loss": loss, "learning_rate": 1e-4, "grad_norm": 1.0 + loss, "trained_tokens": 100, "tokens": 200}
    rest = {"tokens_per_second": 400 + loss, "batch_digest": "00", "epoch": number / TOTAL, "memory_bytes": 1 << 30}
    return line("step", number, number / 2, **figures, **rest)


def sample(number: int) -> str:
    """What a supervisor writes of the machine."""
    gpu = {"index": 0, "use_percent": 90 + number % 10, "memory_bytes": 18 << 30, "total_bytes": 24 << 30}
    gpu |= {"temperature_c": 60 + number % 5, "power_w": 250 + number % 20, "throttled": False}
    held = {"resident_bytes": 2 << 30, "ram_free_bytes": 8 << 30, "cpu_percent": 150, "disk_free_bytes": 64 << 30}
    return line("sample", None, number / 2, **held, gpus=[gpu])


def watching(home: Path, rate: int) -> None:
    """Bytes and processor time of a monitor while a run takes steps."""
    run, begun, over = make_run(home, 500), threading.Event(), threading.Event()

    def train() -> None:
        with run.events.open("a", encoding="utf-8") as events, run.supervisor_events.open("a") as samples:
            number = 500
            while not over.wait(1 / rate):
                number += 1
                events.write(step(number))
                events.flush()
                if number % (5 * rate) == 0:
                    samples.write(sample(number))
                    samples.flush()
                begun.set()

    threading.Thread(target=train, daemon=True).start()
    with window(FINETUI, home) as opened:
        begun.wait()
        opened.read_until(b"000000-bench")
        opened.type(b"\r")
        opened.read_until(b"smoothed")
        opened.read_for(3.0)
        received, used, since = len(opened.received), opened.cpu_s(), time.perf_counter()
        opened.read_for(WATCHED_S)
        seconds = time.perf_counter() - since
        rate_kb = (len(opened.received) - received) / seconds / 1000
        share = 100 * (opened.cpu_s() - used) / seconds
    over.set()
    print(f"monitor at {rate:2} steps a second       {rate_kb:4.1f} kB/s   {share:4.1f} % of a core")


def answers(home: Path) -> None:
    """From a key to what it draws, while every core has niced work; a pane that is opened and closed."""
    training = subprocess.Popen(["nice", "-n", "10", sys.executable, "-c", TRAINING], stdout=subprocess.PIPE)
    try:
        assert training.stdout is not None
        assert training.stdout.readline() == b"trains\n"
        with window(FINETUI, home) as opened:
            opened.read_until(b"Runs")
            opened.read_for(3.0)
            seconds = []
            for turn in range(KEYS):
                since, began = len(opened.received), time.perf_counter()
                opened.type(b"\x1bOB" if turn % 2 else b"\x1bOA")
                opened.read(5.0)
                seconds.append(time.perf_counter() - began if len(opened.received) > since else math.inf)
                opened.read_for(0.2)
    finally:
        training.kill()
        training.wait()
    print(f"key to paint, cores busy        {1000 * statistics.median(seconds):4.0f} ms (median of {KEYS})")


def million(home: Path, rounds: int) -> None:
    """From a key to the picture of a run of a million steps, that lives and that has ended."""
    run = make_run(home, MILLION)
    for status in ("running", "stopped"):
        run.write(replace(run.read(), status=status))
        found = []
        for _ in range(rounds):
            with window(FINETUI, home) as opened:
                opened.read_until(b"000000-bench")
                opened.read_for(1.0)
                used, began = opened.cpu_s(), time.perf_counter()
                opened.type(b"\r")
                found.append(First(opened.read_until(b"smoothed") - began, opened.cpu_s() - used))
        wall, cpu = (statistics.median(getattr(each, what) for each in found) for what in ("wall_s", "cpu_s"))
        print(f"a million steps, {status:7}   opened in {1000 * wall:4.0f} ms, {1000 * cpu:4.0f} ms of them CPU")


def main() -> None:
    """Print the figures."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    print(f"load before: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        starts(rounds, root, sys.argv[2] if len(sys.argv) > 2 else None)
        for rate in STEPS_A_SECOND:
            watching(root / f"watched-{rate}", rate)
        many = root / "many"
        for number in range(30):
            make_run(many / str(number), 1).path.rename(_place(many, number))
        answers(many)
        million(root / "million", rounds)
    print(f"load after: {os.getloadavg()[0]:.1f}")


def _place(home: Path, number: int) -> Path:
    (home / "runs").mkdir(parents=True, exist_ok=True)
    return home / "runs" / f"20260101-0000{number:02}-bench"


if __name__ == "__main__":
    main()
