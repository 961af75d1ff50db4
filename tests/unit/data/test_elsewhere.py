"""What other tools would do with rows, held against what their loaders are known to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetui.cli.main import run
from finetui.data import inspect
from finetui.data.elsewhere import compare

pytestmark = pytest.mark.unit


def turns(*said: str, speaker: str = "from", content: str = "value") -> list[dict[str, str]]:
    return [{speaker: who, content: text} for who, _, text in (each.partition(":") for each in said)]


def told(tmp_path: Path, rows: list[Any], name: str = "data.json") -> dict[str, dict[str, Any]]:
    path = tmp_path / name
    lines = name.endswith("jsonl")
    path.write_text("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows), "utf-8")
    return {found.tool.name: found.to_json() for found in compare(inspect([path]).input.files)}


def codes(of: dict[str, Any]) -> dict[str, int]:
    return {reason["code"]: reason["count"] for reason in of["reasons"]}


GOOD = {"conversations": turns("human:Where is it?", "gpt:In Chengdu.")}


def test_a_clean_sharegpt_array_is_kept_by_the_two_that_speak_it_and_stops_the_third(tmp_path: Path) -> None:
    tools = told(tmp_path, [GOOD] * 5)
    assert tools["LLaMA-Factory"]["kept"] == tools["FastChat"]["kept"] == 5
    qwen = tools["Qwen finetune.py"]
    assert codes(qwen) == {"role-key-error": 5}
    assert qwen["first_stop"]["row"] == 1


def test_qwens_own_roles_empty_every_row_of_llamafactory(tmp_path: Path) -> None:
    tools = told(tmp_path, [{"conversations": turns("user:Hi?", "assistant:Hello.")}] * 4)
    assert tools["Qwen finetune.py"]["kept"] == 4
    assert tools["LLaMA-Factory"]["dropped"] == 4
    assert codes(tools["LLaMA-Factory"]) == {"unknown-tag": 4}


def test_an_assistant_that_begins_is_dropped_shortened_or_asserted(tmp_path: Path) -> None:
    begins = {"conversations": turns("gpt:Welcome.", "human:Hi.", "gpt:Hello.")}
    twice = {"conversations": turns("human:One?", "human:Two?", "gpt:Both.")}
    tools = told(tmp_path, [GOOD, begins, twice])
    assert codes(tools["LLaMA-Factory"]) == {"role-order": 2}
    fastchat = tools["FastChat"]
    assert codes(fastchat) == {"first-turn-dropped": 1, "order-assertion": 1}
    assert (fastchat["kept"], fastchat["changed"], fastchat["stops"]) == (1, 1, 1)
    assert fastchat["first_stop"]["row"] == 3


def test_a_conversation_that_ends_on_the_user_is_dropped_by_llamafactory_alone(tmp_path: Path) -> None:
    tools = told(tmp_path, [GOOD, {"conversations": turns("human:A?", "gpt:B.", "human:C?")}])
    assert codes(tools["LLaMA-Factory"]) == {"ends-on-user": 1}
    assert tools["FastChat"]["kept"] == 2


def test_columns_that_the_scripts_never_read_are_told(tmp_path: Path) -> None:
    tools = told(tmp_path, [{**GOOD, "system": "Be brief.", "tools": "[]"}])
    assert codes(tools["FastChat"]) == {"system-ignored": 1, "tools-ignored": 1}
    assert tools["LLaMA-Factory"]["kept"] == 1


def test_json_lines_stop_the_scripts_that_call_json_load(tmp_path: Path) -> None:
    tools = told(tmp_path, [GOOD, GOOD], "data.jsonl")
    assert codes(tools["FastChat"]) == codes(tools["Qwen finetune.py"]) == {"not-one-array": 2}
    assert tools["LLaMA-Factory"]["kept"] == 2


def test_a_separator_inside_a_text_masks_the_row(tmp_path: Path) -> None:
    tools = told(tmp_path, [{"conversations": turns("human:What is </s>?", "gpt:A stop token.")}])
    assert codes(tools["FastChat"]) == {"separator-in-text": 1}


def test_messages_under_the_documented_tags_lose_tools_thinking_and_marks(tmp_path: Path) -> None:
    said = turns("user:Weather?", "assistant:Sunny.", speaker="role", content="content")
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
    result = {"role": "tool", "content": "22"}
    rows = [
        {"messages": [said[0], {**said[1], "weight": 0}, said[0], said[1]]},
        {"messages": [said[0], {**said[1], "reasoning_content": "Hm."}]},
        {"messages": [said[0], call, result, said[1]]},
        {"messages": [{"role": "developer", "content": "Brief."}, *said]},
    ]
    factory = told(tmp_path, rows, "data.jsonl")["LLaMA-Factory"]
    assert codes(factory) == {"marks-ignored": 1, "thinking-ignored": 1, "unknown-tag": 2}
    assert (factory["changed"], factory["dropped"]) == (2, 2)


def test_alpaca_rows_without_a_text_answer_are_dropped_and_empty_ones_trained(tmp_path: Path) -> None:
    rows = [
        {"instruction": "A", "output": "B"},
        {"instruction": "A", "output": None},
        {"instruction": "A", "output": ""},
    ]
    tools = told(tmp_path, [*rows, {"instruction": 3, "output": "B"}])
    assert codes(tools["LLaMA-Factory"]) == {"no-answer": 1, "empty-answer": 1, "not-text": 1}
    assert codes(tools["FastChat"]) == {"no-reader": 4}


def test_every_count_sums_to_the_rows_and_the_command_shows_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps([GOOD, {"conversations": []}, "text", {"conversations": turns("x:1")}]))
    assert run(["inspect", str(path), "--other-tools", "--json"]) == 0
    for tool in json.loads(capsys.readouterr().out)["other_tools"]:
        assert tool["kept"] + tool["changed"] + tool["dropped"] + tool["stops"] == 4
    assert run(["inspect", str(path), "--other-tools", "--lang", "zh"]) == 0
    shown = capsys.readouterr().out
    assert "LLaMA-Factory" in shown
    assert "第 2 行" in shown
