"""The rows of bench/convert.py, made from a seed, and the bare loop over each shape.

python bench/convert_rows.py SHAPE IN OUT
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

_COMMON = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去法学"
    "如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情明性知全三又关点正业外将"
    "两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教儿原东声提立及"
    "比员解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太量再感建务做接必场件计管期市直德资命山金指克许统"
)
_MARKS = "，，，，。。、：；？！"
_ASIDE = ("\n\n1. ", "\n2. ", "\n- ", "“", "”", " Python ", " 3.14 ", "2023年", "（", "）", "\n")
_TEXT = 400_000


class Shape(NamedTuple):
    """One kind of file."""

    write: Callable[[Path, int], None]
    bare: Callable[[Path, Path], None]


def chinese(chance: random.Random) -> str:
    """A long run of common characters with punctuation, list signs and a little Latin."""
    parts: list[str] = []
    while len(parts) < _TEXT:
        parts += chance.choices(_COMMON, k=chance.randint(3, 14))
        parts.append(chance.choice(_ASIDE) if chance.random() < 0.12 else chance.choice(_MARKS))
    return "".join(parts)


def cuts(seed: int) -> Callable[[int], str]:
    """A maker of texts of a given length, none like another."""
    chance = random.Random(seed)
    text, number = chinese(chance), iter(range(1 << 40))

    def cut(length: int) -> str:
        start = chance.randrange(len(text) - length)
        return f"{text[start : start + length]}{next(number)}"

    return cut


def write_belle(path: Path, rows: int) -> None:
    """JSON Lines of instruction, input (nearly always empty) and output, 930 bytes a row."""
    chance, cut = random.Random(1), cuts(2)
    with path.open("wb") as stream:
        for _ in range(rows):
            more = cut(chance.randint(10, 60)) if chance.random() < 0.1 else ""
            row = {"instruction": cut(chance.randint(12, 80)), "input": more, "output": cut(chance.randint(20, 476))}
            stream.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))


def write_sharegpt(path: Path, rows: int) -> None:
    """One JSON array of conversations of one to six exchanges."""
    chance, cut = random.Random(3), cuts(4)

    def row(number: int) -> dict[str, Any]:
        turns: list[dict[str, str]] = []
        for _ in range(chance.randint(1, 6)):
            turns.append({"from": "human", "value": cut(chance.randint(10, 120))})
            turns.append({"from": "gpt", "value": cut(chance.randint(40, 500))})
        return {"id": f"identity_{number}", "conversations": turns}

    _write_array(path, (row(number) for number in range(rows)))


def write_tools(path: Path, rows: int) -> None:
    """One JSON array of conversations with a call, its result, an answer, and two tools as JSON in a string."""
    chance, cut = random.Random(5), cuts(6)

    def row() -> dict[str, Any]:
        call = {"name": f"tool_{chance.randrange(40)}", "arguments": {"query": cut(12), "limit": chance.randrange(50)}}
        tools = [
            {
                "name": call["name"] if place == 0 else f"tool_{chance.randrange(40)}",
                "description": cut(40),
                "parameters": {
                    "type": "object",
                    "properties": {"query": {"type": "string", "description": cut(20)}, "limit": {"type": "integer"}},
                    "required": ["query"],
                },
            }
            for place in range(2)
        ]
        turns = [
            {"from": "human", "value": cut(chance.randint(10, 80))},
            {"from": "function_call", "value": orjson.dumps(call).decode()},
            {"from": "observation", "value": orjson.dumps({"found": [cut(60), cut(60)]}).decode()},
            {"from": "gpt", "value": cut(chance.randint(40, 300))},
        ]
        return {"conversations": turns, "tools": orjson.dumps(tools).decode()}

    _write_array(path, (row() for _ in range(rows)))


def _write_array(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    with path.open("wb") as stream:
        for number, row in enumerate(rows):
            stream.write(b",\n" if number else b"[\n")
            stream.write(orjson.dumps(row, option=orjson.OPT_INDENT_2))
        stream.write(b"\n]\n")


def bare_belle(source: Path, out: Path) -> None:
    """The loop that a person would write."""
    loads, dumps = orjson.loads, orjson.dumps
    with source.open("rb") as stream, out.open("wb") as written:
        for line in stream:
            row = loads(line)
            asked = f"{row['instruction']}\n{row['input']}" if row["input"] else row["instruction"]
            messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": row["output"]}]
            written.write(dumps({"messages": messages}) + b"\n")


def bare_sharegpt(source: Path, out: Path) -> None:
    """The whole array loaded, then turned."""
    roles = {"human": "user", "gpt": "assistant"}
    with out.open("wb") as written:
        for row in orjson.loads(source.read_bytes()):
            messages = [{"role": roles[turn["from"]], "content": turn["value"]} for turn in row["conversations"]]
            written.write(orjson.dumps({"messages": messages, "meta": {"id": row["id"]}}) + b"\n")


def bare_tools(source: Path, out: Path) -> None:
    """The same with calls and tools parsed."""
    roles = {"human": "user", "gpt": "assistant", "observation": "tool"}
    with out.open("wb") as written:
        for row in orjson.loads(source.read_bytes()):
            messages: list[dict[str, Any]] = []
            for turn in row["conversations"]:
                if turn["from"] == "function_call":
                    called = orjson.loads(turn["value"])
                    calls = [{"type": "function", "function": called}]
                    messages.append({"role": "assistant", "tool_calls": calls})
                else:
                    messages.append({"role": roles[turn["from"]], "content": turn["value"]})
            tools = [{"type": "function", "function": tool} for tool in orjson.loads(row["tools"])]
            written.write(orjson.dumps({"messages": messages, "tools": tools}) + b"\n")


SHAPES = {
    "belle": Shape(write_belle, bare_belle),
    "sharegpt": Shape(write_sharegpt, bare_sharegpt),
    "tools": Shape(write_tools, bare_tools),
}


if __name__ == "__main__":
    what, shape, source, out = sys.argv[1:]
    if what == "make":
        SHAPES[shape].write(Path(out), int(source))
    else:
        SHAPES[shape].bare(Path(source), Path(out))
