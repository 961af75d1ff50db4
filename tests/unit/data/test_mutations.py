"""Whatever the bytes, the answer is an inspection or an error in words, never a traceback."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetui.core.errors import FinetuiError
from finetui.data import Reading, convert, inspect
from finetui.data.detection.choice import STAGES
from finetui.data.formats import CONVERTED
from tests.unit.data.write import ALPACA, CONTAINERS, MESSAGES, SHAREGPT, put

pytestmark = pytest.mark.unit

TOOLS = [
    {
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": '{"x": 1}'}}]},
            {"role": "tool", "content": "b", "tool_call_id": "1"},
            {"role": "assistant", "content": "c", "weight": 0},
        ],
        "tools": [{"name": "f", "parameters": {}}],
    }
]
TREE: list[Any] = [
    {"message_id": "q", "parent_id": None, "text": "a", "role": "prompter", "replies": []},
    {"message_id": "a", "parent_id": "q", "text": "b", "role": "assistant"},
    {"text": "a", "role": "prompter", "replies": [{"text": "b", "role": "assistant", "replies": []}]},
]
BLOCKS: list[Any] = [
    {"role": "user", "content": [{"type": "text", "value": "a"}]},
    {"role": "assistant", "content": [{"type": "tool_call", "value": '{"name": "f"}'}], "loss_weight": 0.0},
]
SEEDS: list[list[Any]] = [
    *(ALPACA, SHAREGPT, MESSAGES, TOOLS, TREE, [{"messages": BLOCKS}]),
    [{**ALPACA[0], "history": [["q", "r"]], "system": "s"}],
    [{"query": "a", "response": "b", "history": {"user": ["c"], "assistant": ["d"]}}],
    [{"prompt": [{"role": "user", "content": "a"}], "completion": {"from": "gpt", "value": "b"}}],
    [{"instruction": "a", "context": "b", "response": "c"}],
    [{"instruction": "a", "instances": [{"input": "b", "output": "c"}, {"input": "", "output": "d"}]}],
    [{"conversation": [{"human": "a", "assistant": "b"}], "system": "s"}, {"input": ["a"], "output": ["b"]}],
    [{"text": "### Human: a ### Assistant: b"}, {"text": "<|im_start|>user\na<|im_end|><|im_start|>assistant\nb"}],
    [{"instruction": "Human: a\nAssistant:", "input": "", "output": "b"}],
    [{"text": "a page", "url": "b"}, {"messages": [{"role": "pretrain", "content": "a"}]}],
    [{"prompt": "a", "chosen": "b", "rejected": "c"}, {"chosen": "a b", "rejected": "a c"}],
    [{"chosen": MESSAGES[0]["messages"], "rejected": [MESSAGES[0]["messages"][0], {"from": "gpt", "value": "c"}]}],
    [{"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}],
    [{"instruction": "a", "input": "b", "output": ["c", "d"]}],
    [{"messages": MESSAGES[0]["messages"], "label": True}, {"prompt": "a", "completion": "b", "label": "false"}],
    [{"prompt": "a", "answer": "b"}, {"prompt": [{"role": "user", "content": "a"}], "reward_model": {"x": 1}}],
    [{"input_ids": [1, 2], "labels": [-100, 2], "attention_mask": [1, True]}],
    [{"prompt": "a", "completions": ["b", "c"], "labels": [True, 0]}],
    [{"segments": [{"label": True, "text": "a"}, {"label": False, "text": "b"}]}],
    [{"question": "a", "answer": "b", "subject": "c", "choices": ["d"]}, {"toy_input": "a", "toy_output": "b"}],
]
READINGS = [
    *(Reading(), Reading(), Reading(), Reading(keep_meta=False)),
    *(Reading(stage=stage) for stage in STAGES),
    *(Reading(format=format) for format in CONVERTED),
]
NASTY: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        1.5,
        2**70,
        "",
        " ",
        "\x1b[2J\x00",
        "\ud83d",
        "{",
        "[[",
        [],
        {},
        [[]],
        [{}],
        {"a": {}},
        "a" * 5000,
    ]
)


def nested(depth: int) -> Any:
    value: Any = "deep"
    for _ in range(depth):
        value = [value]
    return value


@st.composite
def mutated_rows(draw: st.DrawFn) -> list[Any]:
    """Rows of one layout with values swapped, keys dropped or added, anywhere in them."""
    rows = json.loads(json.dumps(draw(st.sampled_from(SEEDS)) * 2))
    for _ in range(draw(st.integers(1, 4))):
        at: Any = rows
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(at[key], (dict, list)) and at[key] and draw(st.integers(0, 3)):
                at = at[key]
                continue
            change = draw(st.sampled_from(["set", "drop", "nest"]))
            if change == "drop":
                del at[key]
            else:
                at[key] = deepcopy(draw(NASTY)) if change == "set" else nested(draw(st.sampled_from([5, 300, 900])))
            break
    return rows


@st.composite
def mutated_bytes(draw: st.DrawFn) -> bytes:
    """A file in some container, cut, with bytes changed, doubled or put in."""
    rows = draw(mutated_rows())
    content: bytes = CONTAINERS[draw(st.sampled_from(sorted(CONTAINERS)))](json.loads(_writable(rows)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(content)))
        match draw(st.sampled_from(["cut", "put", "change", "double", "drop"])):
            case "cut":
                content = content[:at]
            case "put":
                content = content[:at] + draw(st.binary(min_size=1, max_size=6)) + content[at:]
            case "change":
                signs = draw(
                    st.sampled_from([b"{", b"}", b'"', b"\\", b"[", b"]", b",", b"\0", b"\xff", b"\n", b"NaN"])
                )
                content = content[:at] + signs + content[at + 1 :]
            case "double":
                content += content[at:]
            case "drop":
                content = content[:at] + content[at + draw(st.integers(1, 9)) :]
    return content


def _writable(rows: list[Any]) -> str:
    """The rows without lone surrogates, which some containers of the tests cannot be written with."""
    return json.dumps(rows).replace("\\ud83d", "\\u0000")


def assert_told(error: FinetuiError) -> None:
    assert error.exit_code == 3
    assert all(problem.message("en") and problem.message("zh") for problem in error.problems)


def assert_answered(content: bytes, folder: Path, reading: Reading = READINGS[0]) -> None:
    (folder / "x").write_bytes(content)
    try:
        conversion = convert([folder / "x"], folder / "out", reading)
    except FinetuiError as error:
        assert_told(error)
        return
    contract = conversion.to_json()
    counts = contract["rows"]
    assert counts["usable"] + counts["rejected"] == counts["total"]
    assert json.loads(json.dumps(contract)) == contract
    if conversion.sha256 is not None:
        written = [json.loads(line) for line in (folder / "out" / "data.jsonl").read_bytes().splitlines()]
        rejected = [json.loads(line) for line in (folder / "out" / "rejected.jsonl").read_bytes().splitlines()]
        assert (len(written), len(rejected)) == (counts["usable"], counts["rejected"])
        if written:
            again = convert([folder / "out"], folder / "again")
            assert again.sha256 == conversion.sha256
    assert 0 <= contract["confidence"] <= 1
    assert all(sentence.text("zh") for sentence in conversion.inspection.evidence())


@settings(
    max_examples=250, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=mutated_bytes())
def test_mutated_files_never_end_in_a_traceback(content: bytes, tmp_path: Path) -> None:
    assert_answered(content, tmp_path)


@settings(
    max_examples=250, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=mutated_rows(), reading=st.sampled_from(READINGS))
def test_mutated_rows_are_used_or_set_aside(rows: list[Any], reading: Reading, tmp_path: Path) -> None:
    assert_answered("".join(json.dumps(row) + "\n" for row in rows).encode() or b" ", tmp_path, reading)


@pytest.mark.soak
@settings(max_examples=20_000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=mutated_bytes(), reading=st.sampled_from(READINGS))
def test_twenty_thousand_mutated_files(content: bytes, reading: Reading, tmp_path: Path) -> None:
    assert_answered(content, tmp_path, reading)


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=400))
def test_any_bytes_at_all_are_answered(content: bytes, tmp_path: Path) -> None:
    assert_answered(content, tmp_path)


@pytest.mark.parametrize("speaker", [("role", "content", "user", "assistant"), ("from", "value", "human", "gpt")])
@pytest.mark.parametrize("column", ["messages", "conversations", "conversation"])
def test_a_column_that_is_a_list_in_most_rows_only(tmp_path: Path, speaker: tuple[str, ...], column: str) -> None:
    who, said, user, assistant = speaker
    turns = [{who: user, said: "a"}, {who: assistant, said: "b"}]
    rows: list[Any] = [{column: turns}, {column: turns}, {column: 5, "dialogue": turns}, {column: True}]
    contract = inspect([put(tmp_path / "rows.jsonl", rows)]).to_json()
    assert (contract["rows"]["usable"], contract["rows"]["rejected"]) == (2, 2)
