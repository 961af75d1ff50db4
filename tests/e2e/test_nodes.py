"""One run on two machines: two network namespaces with a cable between them, each with a home of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.shell import Shell
from tests.tiny import make_tiny_model

pytestmark = pytest.mark.soak

NAMES = ("finetui-test-a", "finetui-test-b")
ADDRESSES = ("10.213.7.1", "10.213.7.2")
SETTINGS = ("nproc_per_node=2", "parallelism=ddp", "max_steps=12", "per_device_train_batch_size=1")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for two processes, on a tiny model beside it."""
    root = tmp_path_factory.mktemp("one")
    make_tiny_model(root / "tiny")
    turns = ([{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n + 1}."}] for n in range(24))
    (root / "data.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in turns))
    words = [word for setting in SETTINGS for word in ("--set", setting)]
    what = ("--model", str(root / "tiny"), "--data", "data.jsonl", "--recipe", "cpu-demo")
    Shell(root)("lock", *what, *words, "--out", "two.bundle")
    return root / "two.bundle"


@pytest.fixture(scope="module")
def machines() -> Iterator[tuple[str, ...]]:
    """Two network namespaces, joined by a pair of virtual interfaces."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and the command ip")

    def ip(*words: str, check: bool = True) -> None:
        subprocess.run(["ip", *words], check=check, capture_output=True)

    for name in NAMES:
        ip("netns", "del", name, check=False)
    try:
        for name in NAMES:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip(
            "link",
            "add",
            "finetui-a",
            "netns",
            NAMES[0],
            "type",
            "veth",
            "peer",
            "name",
            "finetui-b",
            "netns",
            NAMES[1],
        )
        for name, end, address in zip(NAMES, ("finetui-a", "finetui-b"), ADDRESSES, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", end)
            ip("-n", name, "link", "set", end, "up")
        yield NAMES
    finally:
        for name in NAMES:
            ip("netns", "del", name, check=False)


def start(machine: str, home: Path, bundle: Path, *words: str) -> subprocess.Popen[str]:
    """Start `finetui run` on a machine."""
    command = [sys.executable, "-m", "finetui", "run", str(bundle), "--model", str(bundle.parent / "tiny"), *words]
    return subprocess.Popen(
        ["ip", "netns", "exec", machine, *command, "--json"],
        env={**os.environ, "FINETUI_HOME": str(home), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def together(machines: tuple[str, ...], root: Path, bundles: list[Path]) -> list[tuple[int, dict[str, Any], str]]:
    """Run on both machines at once; gives exit code, contract and words of each."""
    place = ["--nodes", "2", "--master", f"{ADDRESSES[0]}:29511"]
    running = [
        start(machine, root / f"home-{number}", bundle, *place, "--node-rank", str(number))
        for number, (machine, bundle) in enumerate(zip(machines, bundles, strict=True))
    ]
    said = [process.communicate(timeout=300) for process in running]
    return [(process.returncode, json.loads(out), err) for process, (out, err) in zip(running, said, strict=True)]


def test_two_machines_give_what_one_gives(machines: tuple[str, ...], bundle: Path, tmp_path: Path) -> None:
    alone = Shell(bundle.parent)("run", str(bundle), "--model", str(bundle.parent / "tiny"))
    first, second = together(machines, tmp_path, [bundle, bundle])
    for code, outcome, words in (first, second):
        assert (code, outcome["status"]) == (0, "finished"), words
    assert first[1]["world_size"] == 2
    assert first[1]["adapter_sha256"] == alone["adapter_sha256"]
    assert second[1]["output"] is None
    assert "machine 1 of 2" in second[2]


def test_two_machines_with_two_bundles_train_nothing(machines: tuple[str, ...], bundle: Path, tmp_path: Path) -> None:
    root = tmp_path / "other"
    root.mkdir()
    shutil.copytree(bundle.parent / "tiny", root / "tiny")
    shutil.copyfile(bundle.parent / "data.jsonl", root / "data.jsonl")
    words = [word for setting in (*SETTINGS, "seed=8") for word in ("--set", setting)]
    what = ("--model", str(root / "tiny"), "--data", "data.jsonl", "--recipe", "cpu-demo")
    Shell(root)("lock", *what, *words, "--out", "two.bundle")
    trust = [line for line in (root / "home" / "cache").rglob("*") if line.is_file()]
    assert trust, "a bundle that was locked here is known"
    shutil.copytree(root / "home" / "cache", tmp_path / "home-1" / "cache")
    first, second = together(machines, tmp_path, [bundle, root / "two.bundle"])
    assert (first[0], first[1]["cause"]) == (1, "bundle-mismatch")
    assert first[1]["steps"] == 0
    assert "the machines hold other bundles" in first[2]
    assert second[0] == 1
    assert "bundle-mismatch" in second[2]
