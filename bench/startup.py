"""CPU seconds from the command to its help, finetui beside the command lines that are installed here.

    python bench/startup.py [ROUNDS]

The commands take turns in one run; the figure is the median of user + system time of the process tree. Byte code is
cached first (PYTHONDONTWRITEBYTECODE unset), as it is for a user.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "finetui --help": [str(BIN / "finetui"), "--help"],
    "finetui lock --help": [str(BIN / "finetui"), "lock", "--help"],
    "accelerate launch --help": [str(BIN / "accelerate"), "launch", "--help"],
    "trl sft --help": [str(BIN / "trl"), "sft", "--help"],
}


def cpu_seconds(command: list[str]) -> float:
    """User and system seconds of the command and its children.

    Raises CalledProcessError where it fails.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    present = {name: command for name, command in COMMANDS.items() if shutil.which(command[0])}
    seconds: dict[str, list[float]] = {name: [] for name in present}
    for command in present.values():
        cpu_seconds(command)
    for _ in range(rounds):
        for name, command in present.items():
            seconds[name].append(cpu_seconds(command))
    finetui = statistics.median(seconds["finetui --help"])
    for name, figures in seconds.items():
        median = statistics.median(figures)
        print(f"{name:<26} {median:6.3f} CPU s   {median / finetui:6.1f} x finetui --help")


if __name__ == "__main__":
    main()
