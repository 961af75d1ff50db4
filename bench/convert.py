"""CPU seconds and resident memory of `finetui convert`, beside a bare loop and LLaMA-Factory's own loader.

    python bench/convert.py [--shapes belle,sharegpt,tools] [--share 1.0] [--rounds 5] [--llamafactory-python PATH]

The rows are made from a seed. The bare loop reads with orjson, builds the same records and writes them, without a
check, a count or a digest; its output must be byte for byte what finetui writes. The contenders take turns; a figure is
the median over the rounds of user + system time of the process tree, start included. LLaMA-Factory reads the same file
through its loader to aligned rows, without tokenising, into an empty cache each time: once in one process, which is its
default, and once with 16 workers, as its example configurations have it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

BENCH = Path(__file__).parent
ROWS = {"belle": 500_000, "sharegpt": 100_000, "tools": 100_000}
RIVAL_ROUNDS = 3
BARE = "bare orjson loop"


@dataclass
class Contender:
    """A command, and what its runs took."""

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    rounds: int = 1000
    cpu: list[float] = field(default_factory=list)
    """User and system seconds of the process tree."""
    peak: list[int] = field(default_factory=list)
    """Largest resident set of a process of the tree, bytes."""

    def run(self, cache: Path) -> None:
        """Run to the end with an empty cache.

        Raises RuntimeError where the command fails.
        """
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "DISABLE_VERSION_CHECK": "1", **self.environment}
        with Path(os.devnull).open("wb") as nothing, tempfile.TemporaryFile() as said:
            actions = [(os.POSIX_SPAWN_DUP2, nothing.fileno(), 1), (os.POSIX_SPAWN_DUP2, said.fileno(), 2)]
            process = os.posix_spawn(self.command[0], self.command, environment, file_actions=actions)
            _, status, used = os.wait4(process, 0)
            if status:
                said.seek(0)
                raise RuntimeError(f"{self.command}\n{said.read().decode(errors='replace')[-2000:]}")
        self.cpu.append(used.ru_utime + used.ru_stime)
        self.peak.append(used.ru_maxrss * 1024)
        shutil.rmtree(cache, ignore_errors=True)


def compare(shape: str, folder: Path, rows: int, rounds: int, rival: str | None) -> None:
    """Print the table of one shape."""
    source, out, bare = folder / f"{shape}.json", folder / "out", folder / "bare.jsonl"
    own, finetui = str(BENCH / "convert_rows.py"), str(Path(sys.executable).parent / "finetui")
    Contender([sys.executable, own, "make", shape, str(rows), str(source)]).run(folder / "cache")
    contenders = {
        BARE: Contender([sys.executable, own, "loop", shape, str(source), str(bare)]),
        "finetui convert": Contender([finetui, "convert", str(source), "--out", str(out), "--json"]),
        "finetui inspect": Contender([finetui, "inspect", str(source), "--json"]),
    }
    if rival:
        command = [rival, str(BENCH / "convert_llamafactory.py"), shape, str(source)]
        for workers in ("1", "16"):
            name = f"LLaMA-Factory, {workers}"
            contenders[name] = Contender(command, {"WORKERS": workers}, min(rounds, RIVAL_ROUNDS))
    for turn in range(rounds):
        for contender in contenders.values():
            if turn < contender.rounds:
                contender.run(folder / "cache")
    same = _digest(bare) == _digest(out / "data.jsonl")
    report = json.loads((out / "report.json").read_text("utf-8"))
    print(f"\n{shape}: {report['rows']['total']} rows, {source.stat().st_size / 1e6:.0f} MB, same bytes: {same}")
    base = statistics.median(contenders[BARE].cpu)
    for name, contender in contenders.items():
        cpu, peak = statistics.median(contender.cpu), max(contender.peak)
        spread = f"{min(contender.cpu):.2f}-{max(contender.cpu):.2f}"
        speed = f"{cpu / base:6.2f} x bare  {rows / cpu:9.0f} rows/s"
        print(f"{name:<18} {cpu:7.2f} CPU s ({spread:>11})  {speed}  {peak / 1e6:6.0f} MB", flush=True)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def main() -> None:
    """Compare the shapes asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=",".join(ROWS))
    parser.add_argument("--share", type=float, default=1.0, help="of the rows, for a quick look")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--llamafactory-python", metavar="PATH", help="interpreter of an environment that has it")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for shape in asked.shapes.split(","):
            compare(shape, Path(folder), int(ROWS[shape] * asked.share), asked.rounds, asked.llamafactory_python)


if __name__ == "__main__":
    main()
