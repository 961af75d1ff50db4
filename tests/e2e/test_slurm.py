"""A real Slurm of two nodes on this machine: a run is submitted, followed, preempted, queued again, and stopped."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.shell import Shell
from tests.tiny import make_tiny_model

pytestmark = pytest.mark.soak

STEPS = 150
SETTINGS = ("nproc_per_node=2", "parallelism=ddp", f"max_steps={STEPS}", "per_device_train_batch_size=1")
CONF = """
ClusterName=finetui-test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=17000
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=2,bf_interval=2
KillWait=30
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd-%n.log
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port=17001 CPUs=4 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port=17002 CPUs=4 State=UNKNOWN
PartitionName=spare Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=n1,n2 MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=off
"""


def wait_until(true: Callable[[], object], what: str, seconds: float = 240) -> None:
    """Poll until it holds."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.3)


def slurm(*words: str) -> str:
    """A command of Slurm, which has to work."""
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """slurmctld and two slurmd; gives the folder of their logs."""
    missing = [name for name in ("slurmctld", "slurmd", "sbatch", "munged") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"a Slurm of our own needs root and {', '.join(missing) or 'nothing more'}")
    root = tmp_path_factory.mktemp("slurm")
    conf = root / "slurm.conf"
    conf.write_text(CONF.format(host=socket.gethostname(), root=root))
    os.environ["SLURM_CONF"] = str(conf)
    subprocess.run(["install", "-d", "-o", "munge", "-g", "munge", "-m", "755", "/run/munge"], check=True)
    if not Path("/run/munge/munge.socket.2").exists():
        subprocess.run(["su", "-s", "/bin/sh", "munge", "-c", "/usr/sbin/munged"], check=True)
    daemons = [subprocess.Popen(["slurmctld", "-D", "-f", str(conf), "-c"], stderr=subprocess.DEVNULL)]
    for node in ("n1", "n2"):
        command = ["slurmd", "-D", "-N", node, "-f", str(conf), "-c"]
        daemons.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
    try:
        wait_until(lambda: "idle" in _quietly("sinfo", "--noheader", "--format=%T", "--nodes=n1,n2"), "idle nodes", 60)
        yield root
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            daemon.wait(30)
        del os.environ["SLURM_CONF"]


def _quietly(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60).stdout.strip()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, cluster: Path) -> Shell:
    """A home with a bundle for two processes, and a site that names the partition that can be preempted."""
    root = tmp_path_factory.mktemp("user")
    make_tiny_model(root / "tiny")
    turns = ([{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n + 1}."}] for n in range(24))
    (root / "data.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in turns))
    shell = Shell(root)
    (root / "home").mkdir(exist_ok=True)
    site = f'[slurm]\npartition = "spare"\npython = "{sys.executable}"\npreamble = "export FINETUI_SITE=told"\n'
    (root / "home" / "site.toml").write_text(site)
    words = [word for setting in SETTINGS for word in ("--set", setting)]
    what = ("--model", str(root / "tiny"), "--data", "data.jsonl", "--recipe", "cpu-demo")
    shell("lock", *what, *words, "--out", "b.bundle")
    return shell


@pytest.fixture(scope="module")
def alone(place: Shell) -> dict[str, Any]:
    """The same bundle, trained without Slurm."""
    return place("run", "b.bundle", "--model", "tiny")


def submit(place: Shell) -> tuple[Path, str]:
    """A run on two nodes; gives its folder and the job's number."""
    run = place("run", "b.bundle", "--model", "tiny", "--slurm", "--nodes", "2", "--detach")
    assert run["status"] in ("queued", "running")
    folder = Path(run["folder"])
    return folder, json.loads((folder / "state.json").read_text())["slurm"]


def steps(folder: Path) -> int:
    """How many steps the run has done."""
    path = folder / "events.jsonl"
    return path.read_text().count('"event": "step"') if path.exists() else 0


def state(job: str) -> str:
    """squeue's word."""
    return _quietly("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T")


def test_a_preempted_job_is_queued_again_and_ends_as_the_uninterrupted_one(
    place: Shell, alone: dict[str, Any], cluster: Path
) -> None:
    folder, job = submit(place)
    wait_until(lambda: steps(folder) >= 5, "five steps")
    seen = [state(job)]
    urgent = slurm(
        "sbatch", "--parsable", "--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 3"
    )

    def changed(word: str) -> bool:
        now = state(job)
        if now and now != seen[-1]:
            seen.append(now)
        return now.startswith(word)

    wait_until(lambda: changed("PENDING"), "the job in the queue again")
    saved = steps(folder)
    assert 5 <= saved < STEPS
    done = place("watch", folder.name)
    assert (done["status"], done["adapter_sha256"]) == ("finished", alone["adapter_sha256"])
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    resumed = [event["resumed_from"] for event in events if event.get("resumed_from")]
    assert len(resumed) == 1
    assert 5 <= resumed[0] < STEPS
    assert "saved, and queued again" in (folder / "train.log").read_text() or "PREEMPTED" in seen
    print(f"states {seen} → {state(job)}; urgent {state(urgent)}; saved at step {resumed[0]} of {STEPS}")


def test_before_the_time_limit_it_saves_and_is_queued_again(place: Shell, alone: dict[str, Any], cluster: Path) -> None:
    folder, job = submit(place)
    wait_until(lambda: steps(folder) >= 3, "three steps")
    slurm("scancel", "--signal=USR1", job)  # what Slurm sends before the limit
    done = place("watch", folder.name)
    assert (done["status"], done["adapter_sha256"]) == ("finished", alone["adapter_sha256"])
    assert (folder / "train.log").read_text().count("saved, and queued again") == 1


def test_stop_saves_and_resume_submits_again(place: Shell, alone: dict[str, Any], cluster: Path) -> None:
    folder, job = submit(place)
    wait_until(lambda: steps(folder) >= 3, "three steps")
    stopped = place("stop", folder.name)
    assert (stopped["status"], stopped["checkpoint"] is not None) == ("stopped", True)
    assert state(job) not in ("RUNNING", "PENDING")
    resumed = place("resume", folder.name)
    assert (resumed["status"], resumed["adapter_sha256"]) == ("finished", alone["adapter_sha256"])
    assert resumed["resumed_from"] >= 3


def test_the_exported_script_is_taken(place: Shell, cluster: Path) -> None:
    written = place("export", "b.bundle", "--to", "slurm", "--nodes", "2", "--model", "tiny", "--out", "job.sbatch")
    told = subprocess.run(
        ["sbatch", "--test-only", str(place.root / written["out"])], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    assert "to start at" in told.stderr
