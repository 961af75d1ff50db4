"""CPU seconds and resident memory of `finetui convert`, beside a bare loop and LLaMA-Factory's own loader.

    python bench/convert.py [--shapes belle,sharegpt,tools] [--share 1.0] [--rounds 5] [--llamafactory-python PATH]

The rows are made from a seed. The bare loop reads with orjson, builds the same records and writes them, without a
check, a count or a digest; its output must be byte for byte what finetui writes. The contenders take turns; a figure is
the median over the rounds of user + system time of the process tree, start included. LLaMA-Factory reads the same file
through `load_single_dataset` (its conversion to aligned rows, no tokenising), into an empty cache each time.
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
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

import convert_rows

BENCH = Path(__file__).parent


class Cost(NamedTuple):
    """What one run of a command took."""

    cpu: float
    """User and system seconds of the process tree."""
    peak: int
    """Largest resident set of a process of the tree, bytes."""


def cost(command: list[str], cache: Path) -> Cost:
    """Run a command to its end.

    Raises RuntimeError where it fails.
    """
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "DISABLE_VERSION_CHECK": "1"}
    with open(os.devnull, "wb") as nothing, tempfile.TemporaryFile() as said:
        actions = [(os.POSIX_SPAWN_DUP2, nothing.fileno(), 1), (os.POSIX_SPAWN_DUP2, said.fileno(), 2)]
        process = os.posix_spawn(command[0], command, environment, file_actions=actions)
        _, status, used = os.wait4(process, 0)
        if status:
            said.seek(0)
            raise RuntimeError(f"{' '.join(command)}\n{said.read().decode(errors='replace')[-2000:]}")
    return Cost(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def compare(shape: str, folder: Path, rows: int, rounds: int, rival: str | None) -> None:
    """Print the table of one shape."""
    source, out, bare = folder / f"{shape}.json", folder / "out", folder / "bare.jsonl"
    convert_rows.SHAPES[shape].write(source, rows)
    finetui = str(Path(sys.executable).parent / "finetui")
    commands = {
        "bare orjson loop": [sys.executable, str(BENCH / "convert_rows.py"), shape, str(source), str(bare)],
        "finetui convert": [finetui, "convert", str(source), "--out", str(out), "--json"],
        "finetui inspect": [finetui, "inspect", str(source), "--json"],
    }
    if rival:
        commands["LLaMA-Factory"] = [rival, str(BENCH / "convert_llamafactory.py"), shape, str(source)]
    taken: dict[str, list[Cost]] = {name: [] for name in commands}
    for turn in range(rounds):
        for name, command in commands.items():
            if name == "LLaMA-Factory" and turn > 2:
                continue
            cache = folder / "cache"
            taken[name].append(cost(command, cache))
            shutil.rmtree(cache, ignore_errors=True)
    same = _digest(bare) == _digest(out / "data.jsonl")
    report = json.loads((out / "report.json").read_text("utf-8"))
    print(f"\n{shape}: {report['rows']['total']} rows, {source.stat().st_size / 1e6:.0f} MB, same bytes: {same}")
    base = statistics.median(one.cpu for one in taken["bare orjson loop"])
    for name, costs in taken.items():
        cpu, peak = statistics.median(one.cpu for one in costs), max(one.peak for one in costs)
        print(f"{name:<18} {cpu:7.2f} CPU s  {cpu / base:6.2f} x bare  {rows / cpu:9.0f} rows/s  {peak / 1e6:6.0f} MB")


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def main() -> None:
    """Compare the shapes asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=",".join(convert_rows.SHAPES))
    parser.add_argument("--share", type=float, default=1.0, help="of the rows, for a quick look")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--llamafactory-python", metavar="PATH", help="interpreter of an environment that has it")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for shape in asked.shapes.split(","):
            rows = int(convert_rows.SHAPES[shape].rows * asked.share)
            compare(shape, Path(folder), rows, asked.rounds, asked.llamafactory_python)


if __name__ == "__main__":
    main()
