"""A connection that is cut while somebody watches over ssh: the run goes on, and whoever comes back sees its end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from finetui.runs import processes
from finetui.runs.folder import RunFolder, find_run, list_runs
from finetui.runs.launch import start
from finetui.runs.outcome import result
from tests.e2e.loopback import SSHD, Login, Sshd, sshd
from tests.unit.runs.support import wait_until
from tests.workers.test_runs import _leave_nothing_running, make_bundle, run_to_end  # noqa: F401 (fixtures)

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not Path(SSHD).exists(), reason="there is no sshd on this machine"),
]
STEPS = 300


def kill_session(server: Sshd, login: Login) -> None:
    """As when the other machine's sshd is restarted, or somebody ends the session there."""
    for pid in reversed(server.sessions()):
        os.kill(pid, signal.SIGKILL)
    login.end()


CUTS: dict[str, Callable[[Sshd, Login], None]] = {
    "the session is killed": kill_session,
    "the window is closed": lambda _, login: login.close_window(),
    "the client is killed": lambda _, login: login.die(),
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    """A loopback sshd."""
    with sshd(tmp_path / "sshd") as listening:
        yield listening


@pytest.mark.parametrize("command", ["run", "watch"])
@pytest.mark.parametrize("cut", CUTS)
def test_a_run_outlives_the_connection_that_it_was_started_or_is_watched_over(
    make_bundle: Callable[..., Path],  # noqa: F811
    server: Sshd,
    cut: str,
    command: str,
) -> None:
    bundle = make_bundle(f"max_steps={STEPS}", "save_steps=0", "lora_dropout=0.1")
    login = server.login("run", bundle) if command == "run" else server.login("watch", start(bundle).name)
    login.read_until("tokens/s")
    [run] = list_runs()
    served = server.served()
    training = processes.trainers(run.path)

    CUTS[cut](server, login)
    gone = time.monotonic()
    wait_until(lambda: not [pid for pid in served if processes.start_time(pid) is not None], "the terminal's end")
    empty_after, steps = time.monotonic() - gone, result(run)["steps"]

    assert 0 < steps < STEPS
    assert processes.trainers(run.path) == training
    back = server.login("watch", run.name, "--plain")
    code = back.end()
    outcome = result(run)
    print(f"{command}, {cut}: at step {steps}, the terminal empty after {empty_after:.1f} s; {outcome['status']}")
    assert code == 0, back.text
    assert f"step {STEPS} of {STEPS}" in back.text
    assert (outcome["status"], outcome["steps"], processes.of_run(run.path)) == ("finished", STEPS, [])
    assert outcome["adapter_sha256"] == result(unbroken(bundle))["adapter_sha256"]


def unbroken(bundle: Path) -> RunFolder:
    """The same training, started here, that nobody has hung up on."""
    return run_to_end(bundle, kind="replay")


def test_a_client_that_is_frozen_holds_nothing_up(
    make_bundle: Callable[..., Path],  # noqa: F811
    server: Sshd,
) -> None:
    """As when a network is gone and nobody has said so: what is shown piles up, and nobody takes it."""
    login = server.login("run", make_bundle(f"max_steps={STEPS}", "save_steps=0"))
    login.read_until("tokens/s")
    os.kill(login.pid, signal.SIGSTOP)
    run = find_run("last")

    back = server.login("watch", run.name, "--plain")

    assert back.end() == 0, back.text
    assert result(run)["status"] == "finished"
    login.die()
