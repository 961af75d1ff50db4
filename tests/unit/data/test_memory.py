"""Memory stays flat whatever the size of the data; FINETUI_SOAK_GB says how large a file is made, 1 GB by default."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.soak

BYTES = int(float(os.environ.get("FINETUI_SOAK_GB", "1")) * 10**9)
LIMIT_MB = 400
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""
"""Run in a process of its own: a child is charged with what its parent held when it began."""


def rows(answer: int) -> Iterator[str]:
    """Rows of some bytes each, every thousandth one a repeat, up to `BYTES`."""
    text, written, number = "潮水每天涨落两次。" * (answer // 27 + 1), 0, 0
    while written < BYTES:
        number += 1
        row = f'{{"instruction": "问题{number - number % 1000 // 999}", "output": "{text}"}}'
        written += len(row) + 2 * len(text)
        yield row


def peak_of(source: Path, out: Path) -> int:
    """Largest resident set of `finetui convert`, MB."""
    command = [sys.executable, "-m", "finetui", "convert", str(source), "--out", str(out), "--json"]
    done = subprocess.run([sys.executable, "-c", PEAK, *command], check=True, capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.parametrize("answer", [20, 900], ids=["many short rows", "rows of a kilobyte"])
@pytest.mark.parametrize("container", ["jsonl", "array"])
def test_a_conversion_is_flat_in_memory(answer: int, container: str, tmp_path: Path) -> None:
    source, count = tmp_path / "x", 0
    with source.open("w", encoding="utf-8") as stream:
        stream.write("[\n" if container == "array" else "")
        for count, row in enumerate(rows(answer), 1):
            stream.write(",\n" if container == "array" and count > 1 else "")
            stream.write(row if container == "array" else f"{row}\n")
        stream.write("\n]\n" if container == "array" else "")
    peak = peak_of(source, tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    (duplicates,) = (problem for problem in report["problems"] if problem["code"] == "duplicate")
    print(f"{container}, {source.stat().st_size / 1e9:.2f} GB, {count} rows: {peak} MB")
    source.unlink()
    (tmp_path / "out" / "data.jsonl").unlink()
    assert report["rows"]["usable"] == count
    assert duplicates["count"] == count // 1000
    assert peak < LIMIT_MB
