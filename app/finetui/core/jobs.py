"""The only way to a worker: `python -m finetui.workers.NAME`, JSON in, JSON lines out.

A worker may live under another interpreter than finetui itself: `--python`, else `$FINETUI_PYTHON`, else `python` in
the `[site]` table of `site.toml`, else this one. It then reaches the workers and core by PYTHONPATH, and nothing else
of this installation. The worker's side of the wire is `worker_io`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Self

from finetui.core import home
from finetui.core.errors import BAD_INPUT, JOB_FAILED, MACHINE, FinetuiError, Problem
from finetui.core.text import one_line

Progress = Callable[[Mapping[str, Any]], None]
_PACKAGE = Path(__file__).parents[1]
_TAIL_BYTES = 4000
_LONGEST_LINE = 1 << 28
_running: set[Session] = set()


def interpreter(python: str | None = None) -> str:
    """The Python that runs workers and training.

    Raises FinetuiError (exit 3) where `site.toml` is not TOML, (exit 5) where the interpreter is not there.
    """
    chosen = python or os.environ.get("FINETUI_PYTHON") or _site_python()
    if chosen is None:
        return sys.executable
    found = shutil.which(Path(chosen).expanduser())
    if found is None:
        raise FinetuiError(Problem("jobs.no-interpreter", {"python": chosen}), MACHINE)
    return str(Path(found).absolute())


def worker_environment(python: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a worker: this one, no hub, and this package on the path of a foreign interpreter."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "PYTHONUNBUFFERED": "1"}
    environment["PYTHONSAFEPATH"] = "1"  # a json.py in the folder that the person is in is not ours to import
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if Path(python).absolute() != Path(sys.executable).absolute():
        environment["PYTHONPATH"] = str(_package_alone())
    environment.update(extra or {})
    return environment


def visible_gpus(gpus: str | None) -> dict[str, str]:
    """The variables that show a process these GPUs alone, numbered as nvidia-smi numbers them; none for all."""
    return {} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def run(
    name: str,
    request: Mapping[str, Any],
    *,
    python: str | None = None,
    gpus: str | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Run one worker to its end and return its result.

    Raises FinetuiError with the worker's own problems, or (exit 1) with its last words where it died.
    """
    with Session(name, python=python, gpus=gpus) as session:
        _running.add(session)
        try:
            return session.ask(request, on_progress)
        finally:
            _running.discard(session)


def kill_all() -> None:
    """End at once every worker that `run` waits for, in any thread; `run` then raises that it died."""
    for session in list(_running):
        session.kill()


class Session:
    """A worker that stays and answers one request after another (a chat engine keeps its model loaded)."""

    def __init__(self, name: str, *, python: str | None = None, gpus: str | None = None) -> None:
        self.name = name
        self._python = interpreter(python)
        extra = visible_gpus(gpus)
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the worker)
        self._process = subprocess.Popen(
            [self._python, "-m", f"finetui.workers.{name}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=worker_environment(self._python, extra),
            encoding="utf-8",
            errors="backslashreplace",
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    def send(self, request: Mapping[str, Any]) -> None:
        """Hand over one request, also while an answer is under way; `receive` or `ask` reads what comes of it."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # a dead worker is reported by the reader, with its last words
            self._process.stdin.write(json.dumps(request, ensure_ascii=True) + "\n")
            self._process.stdin.flush()

    def receive(self) -> Iterator[dict[str, Any]]:
        """The lines of one answer as they come, the last of them of type `result`.

        Raises FinetuiError with the worker's problems, or with its last words where it died or is no worker.
        """
        assert self._process.stdout is not None
        while line := self._process.stdout.readline(_LONGEST_LINE):
            message = self._message(line)
            if message["type"] == "error":
                problems = [Problem.from_wire(wire) for wire in message["problems"]]
                raise FinetuiError(problems, message.get("exit_code", BAD_INPUT))
            yield message
            if message["type"] == "result":
                return
        raise self._died()

    def ask(self, request: Mapping[str, Any], on_progress: Progress | None = None) -> dict[str, Any]:
        """Send one request and wait for its result."""
        self.send(request)
        for message in self.receive():
            if message["type"] == "result":
                result: dict[str, Any] = message["result"]
                return result
            if on_progress is not None:
                on_progress(message)
        raise self._died()

    def alive(self) -> bool:
        """Whether the worker lives."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End the worker and all that it started at once; `close` is still to be called. For other threads too."""
        if self._process.returncode is None:  # else its number may be another's by now
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the worker: end of input first, then SIGTERM, then SIGKILL to its whole session."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        for signal_number in (None, signal.SIGTERM, signal.SIGKILL):
            if signal_number is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal_number)
            try:
                self._process.wait(timeout=5)
                break
            except subprocess.TimeoutExpired:
                continue
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()

    def _message(self, line: str) -> dict[str, Any]:
        """What one line says.

        Raises FinetuiError (exit 5) where it is none of a worker's: the interpreter is some other program.
        """
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if isinstance(message, dict) and "type" in message:
            return message
        raise FinetuiError(Problem("jobs.no-worker", {"python": self._python, "words": one_line(line)}), MACHINE)

    def _died(self) -> FinetuiError:
        status = self._process.wait()
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - _TAIL_BYTES))
        words = self._errors.read().decode("utf-8", "replace").strip()
        if "No module named" in words:
            missing = words.rsplit("No module named", 1)[1].split("\n")[0].strip().strip("'\"")
            facts = {"python": self._python, "module": missing, "worker": self.name}
            return FinetuiError(Problem("jobs.missing-module", facts), MACHINE)
        last = words.splitlines()[-1] if words else ""
        told: dict[str, object] = {"worker": self.name, "status": status, "words": last, "python": self._python}
        return FinetuiError(Problem("jobs.died", told), JOB_FAILED)


def _site_python() -> str | None:
    path = home.home() / "site.toml"
    if not path.exists():
        return None
    try:
        text = path.read_text(encoding="utf-8")
        site = tomllib.loads(text).get("site", {})
        python = site.get("python") if isinstance(site, dict) else site
        if not isinstance(python, str | None):
            raise ValueError("python is no text")
    except (ValueError, RecursionError) as error:
        raise FinetuiError(Problem("jobs.bad-site", {"error": str(error)}, str(path))) from error
    return python


def _package_alone() -> Path:
    """A folder that holds this package and nothing else, to be put on a foreign interpreter's path."""
    shelf = home.folder("cache") / "pythonpath"
    shelf.mkdir(exist_ok=True)
    link = shelf / "finetui"
    if not link.is_symlink() or link.resolve() != _PACKAGE:
        fresh = shelf / f".finetui.{os.getpid()}"
        fresh.symlink_to(_PACKAGE)
        os.replace(fresh, link)
    return shelf
