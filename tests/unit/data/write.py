"""Small files for the data tests, in each container."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import zstandard

ALPACA = [
    {"instruction": "Add", "input": "1 and 2", "output": "3"},
    {"instruction": "Say hello", "input": "", "output": "hello"},
    {"instruction": "翻译：早上好", "output": "Good morning"},
]
SHAREGPT = [
    {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]},
    {"conversations": [{"from": "human", "value": "{brace } in text"}, {"from": "gpt", "value": '"quoted"'}]},
]
MESSAGES = [
    {
        "messages": [
            {"role": "user", "content": f"question {number}"},
            {"role": "assistant", "content": f"answer {number}"},
        ]
    }
    for number in range(3)
]


def jsonl(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


CONTAINERS = {
    "json-array": lambda rows: json.dumps(rows).encode(),
    "json-array, indented": lambda rows: json.dumps(rows, indent=2, ensure_ascii=False).encode(),
    "json-array, one row a line": lambda rows: b"[" + b",\n".join(json.dumps(row).encode() for row in rows) + b"]\n",
    "json-array, CRLF": lambda rows: json.dumps(rows, indent=1).encode().replace(b"\n", b"\r\n"),
    "json-array, BOM": lambda rows: b"\xef\xbb\xbf" + json.dumps(rows, indent=1).encode(),
    "jsonl": jsonl,
    "jsonl, CRLF": lambda rows: jsonl(rows).replace(b"\n", b"\r\n"),
    "jsonl, BOM": lambda rows: b"\xef\xbb\xbf" + jsonl(rows),
    "jsonl, blank lines": lambda rows: b"\n \n" + jsonl(rows).replace(b"\n", b"\n\n"),
    "jsonl, no last newline": lambda rows: jsonl(rows).rstrip(),
    "json-objects": lambda rows: b"\n".join(json.dumps(row, indent=2).encode() for row in rows),
    "jsonl, carriage returns": lambda rows: jsonl(rows).replace(b"\n", b"\r"),
    "jsonl, gzip": lambda rows: gzip.compress(jsonl(rows)),
    "jsonl, zstd": lambda rows: zstandard.compress(jsonl(rows)),
    "json-array, gzip": lambda rows: gzip.compress(json.dumps(rows, indent=2).encode()),
}


def put(path: Path, content: bytes | list[Any]) -> Path:
    """Write bytes as they are, rows as JSON Lines."""
    path.write_bytes(content if isinstance(content, bytes) else jsonl(content))
    return path


def records(out: Path) -> list[Any]:
    return [json.loads(line) for line in (out / "data.jsonl").read_text(encoding="utf-8").splitlines()]


def chat(*said: str) -> dict[str, Any]:
    """A record of alternating user and assistant turns."""
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[place % 2], "content": text} for place, text in enumerate(said)]}
