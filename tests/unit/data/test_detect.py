"""Which layout rows have: how sure that is, why, what else they could be, and what is asked where that is a guess."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetui.cli.main import run
from finetui.core.errors import FinetuiError
from finetui.data import Inspection, Reading, convert, inspect
from tests.unit.data.write import ALPACA, MESSAGES, SHAREGPT, chat, put, records

pytestmark = pytest.mark.unit

RENDERED = "### Human: {0}\n### Assistant: answer {0}"


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def seen(rows: list[Any], tmp_path: Path, **reading: Any) -> Inspection:
    return inspect([put(tmp_path / "x", rows)], Reading(**reading))


def options(inspection: Inspection) -> dict[str, list[str]]:
    """What is asked: each value with the flags that choose it, the default first."""
    asked = inspection.to_json()["question"]
    if asked is None:
        return {}
    assert asked["default"] == asked["options"][0]["value"]
    assert all(option["label"] for option in asked["options"])
    return {option["value"]: option["flags"] for option in asked["options"]}


def others(inspection: Inspection) -> list[str]:
    return [other["format"] for other in inspection.to_json()["alternatives"]]


def said(inspection: Inspection) -> str:
    return " | ".join(inspection.to_json()["evidence"])


# ---- evidence and confidence


def test_evidence_says_what_was_seen_in_how_many_rows(tmp_path: Path) -> None:
    rows = [SHAREGPT[0] | {"id": number} for number in range(1200)]
    assert seen(rows, tmp_path).to_json()["evidence"] == [
        "1 000 of 1 000 sampled rows have `conversations`, whose items carry `from`/`value`; speakers: human, gpt"
    ]


def test_rows_of_one_shape_are_certain(tmp_path: Path) -> None:
    for rows in (ALPACA, SHAREGPT, MESSAGES):
        inspection = seen(rows, tmp_path)
        assert (inspection.confidence, others(inspection), options(inspection)) == (1.0, [], {})


def test_confidence_is_the_share_of_rows_that_have_the_shape(tmp_path: Path) -> None:
    other = [{"messages": 3}, {"other": 1}]
    inspection = seen([*MESSAGES, *MESSAGES, *other], tmp_path)
    assert inspection.confidence == 0.75
    assert "6 of 8 sampled rows become records; the others: wrong-type × 1, missing-key × 1" in said(inspection)


def test_what_a_row_holds_does_not_make_its_shape_doubtful(tmp_path: Path) -> None:
    empty = {"messages": [user("a"), answer("")]}
    image = {"messages": [user("a"), answer("b")], "images": ["x.png"]}
    inspection = seen([empty, image], tmp_path)
    assert (inspection.format, inspection.confidence, inspection.input.usable) == ("messages", 1.0, 0)


def test_rows_that_cannot_be_read_lower_the_confidence(tmp_path: Path) -> None:
    lines = [json.dumps(row).encode() for row in MESSAGES] + [b'{"messages": [']
    inspection = inspect([put(tmp_path / "x", b"\n".join(lines))])
    assert inspection.confidence == 0.75


def test_two_readings_that_are_as_likely_share_the_confidence(tmp_path: Path) -> None:
    rows = [{"question": str(number), "answer": "yes"} for number in range(4)]
    contract = seen(rows, tmp_path).to_json()
    assert (contract["confidence"], contract["alternatives"][0]["confidence"]) == (0.5, 0.5)


def test_the_sample_is_spread_so_that_its_head_does_not_decide(tmp_path: Path) -> None:
    head = [{"prompt": "a", "completion": "b"}] * 50
    inspection = seen([*head, *[SHAREGPT[0] | {"id": number} for number in range(2000)]], tmp_path)
    assert (inspection.format, others(inspection)) == ("sharegpt", ["prompt-completion"])


def test_files_that_are_alike_are_told_once(tmp_path: Path) -> None:
    paths = [put(tmp_path / f"{number}.jsonl", [*ALPACA, {"messages": 1}]) for number in range(3)]
    contract = inspect(paths).to_json()
    assert contract["format"] == "alpaca"
    assert contract["evidence"] == [
        "3 of 4 sampled rows have the columns instruction, input, output",
        "3 of 4 sampled rows become records; the others: missing-key × 1",
        "the figures are of the first file; 2 more are alpaca too",
    ]


# ---- the ambiguous pairs: each is decided by its tie-break, told, and the other reading offered


def test_text_without_markers_is_text_and_says_that_all_of_it_is_trained(tmp_path: Path) -> None:
    inspection = seen([{"text": "plain words", "url": "u"}] * 3, tmp_path)
    assert (inspection.format, inspection.stage, inspection.confidence) == ("text", "pt", 1.0)
    assert "every token of the text is trained on" in said(inspection)
    assert options(inspection) == {}


def test_text_with_markers_in_most_rows_is_a_rendered_chat(tmp_path: Path) -> None:
    texts = [{"text": RENDERED.format(number)} for number in range(19)]
    inspection = seen([*texts, {"text": "plain words"}], tmp_path)
    assert (inspection.format, inspection.stage, inspection.input.usable) == ("flat-chat", "sft", 19)
    assert others(inspection) == ["text"]
    assert options(inspection) == {}


def test_text_with_markers_in_some_rows_is_text_and_asks(tmp_path: Path) -> None:
    texts = [{"text": RENDERED.format(number)} for number in range(8)]
    inspection = seen([*texts, {"text": "plain words"}, {"text": "more words"}], tmp_path)
    assert (inspection.format, inspection.input.usable) == ("text", 10)
    assert "8 of 10 sampled texts carry turn markers" in said(inspection)
    assert options(inspection) == {"text": ["--stage", "pt"], "flat-chat": ["--stage", "sft"]}
    assert 0.5 < inspection.confidence < 0.6


def test_text_beside_the_columns_it_was_made_of_is_ignored(tmp_path: Path) -> None:
    rows = [{**row, "text": "Below is an instruction …"} for row in ALPACA]
    inspection = seen(rows, tmp_path)
    assert (inspection.format, others(inspection), options(inspection)) == ("alpaca", ["text"], {})
    assert "`text` stands beside instruction and output and is ignored" in said(inspection)


@pytest.mark.parametrize(
    ("row", "cue"),
    [
        ({"subject": "law", "input": "Which?\nA. x\nB. y", "output": "A"}, "are a single letter"),
        ({"question": "Which?", "A": "x", "B": "y", "C": "z", "D": "w", "answer": "the first"}, "columns A, B, C, D"),
        ({"question": "Which?", "choices": ["x", "y"], "answer": "the first"}, "columns choices"),
    ],
)
def test_an_evaluation_set_is_read_with_a_warning(row: Any, cue: str, tmp_path: Path) -> None:
    inspection = seen([row | {"id": number} for number in range(4)], tmp_path)
    assert (inspection.format, inspection.input.usable) == ("query-response", 4)
    assert "this looks like an evaluation set" in said(inspection)
    assert cue in said(inspection)
    assert "not-training-data" in others(inspection)


def test_the_context_of_dolly_is_part_of_the_question(tmp_path: Path) -> None:
    row = {"instruction": "a", "context": "b", "response": "c", "category": "d"}
    conversion = convert([put(tmp_path / "x", [row])], tmp_path / "out")
    (other,) = conversion.to_json()["alternatives"]
    assert records(tmp_path / "out") == [{**chat("a\nb", "c"), "meta": {"category": "d"}}]
    assert "`context` is part of the question" in said(conversion.inspection)
    assert other["flags"] == ["--map", "system=context,user=instruction,assistant=response"]


def test_the_flags_of_an_alternative_take_it(tmp_path: Path, capfd: pytest.CaptureFixture[str], home: Path) -> None:
    row = {"instruction": "a", "context": "b", "response": "c"}
    path = put(tmp_path / "x", [row])
    assert run(["inspect", str(path), "--json"]) == 0
    (other,) = json.loads(capfd.readouterr().out)["alternatives"]
    assert run(["convert", str(path), "--out", str(tmp_path / "out"), *other["flags"]]) == 0
    (record,) = records(tmp_path / "out")
    assert [message["role"] for message in record["messages"]] == ["system", "user", "assistant"]


def test_lists_beside_a_prompt_are_followed_and_a_prompt_that_differs_is_told(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a", "chosen": [user("a"), answer("b")], "rejected": [user("a"), answer("c")]},
        {"prompt": "d", "chosen": [user("e"), answer("f")], "rejected": [user("e"), answer("g")]},
    ]
    conversion = convert([put(tmp_path / "x", rows)], tmp_path / "out")
    assert [record["prompt"] for record in records(tmp_path / "out")] == [[user("a")], [user("e")]]
    assert "in 1 of 2 sampled rows `prompt` is not what `chosen` begins with" in said(conversion.inspection)


def test_two_chats_that_begin_alike_are_a_pair(tmp_path: Path) -> None:
    rows = [{"chosen": [user("a"), answer("b")], "rejected": [user("a"), answer("c")]}] * 2
    inspection = seen(rows, tmp_path)
    assert (inspection.format, inspection.stage, inspection.confidence) == ("preference", "dpo", 1.0)
    assert "in 2 of 2 sampled rows both answers begin with the same question" in said(inspection)
    assert others(inspection) == ["messages"]
    assert options(inspection) == {}


def test_two_chats_that_begin_differently_are_asked_about(tmp_path: Path) -> None:
    rows = [{"chosen": [user("a"), answer("b")], "rejected": [user("d"), answer("c")]}] * 2
    inspection = seen(rows, tmp_path)
    assert (inspection.format, inspection.input.usable) == ("preference", 0)
    assert options(inspection) == {"preference": ["--stage", "dpo"], "messages": ["--stage", "sft"]}


def test_a_label_is_a_rating_by_its_type_over_all_rows(tmp_path: Path) -> None:
    row = {"prompt": "a", "completion": "b"}
    assert seen([{**row, "label": True}, {**row, "label": False}, {**row, "label": 1}], tmp_path).format == "feedback"
    assert seen([{**row, "label": True}, {**row, "label": 2}, {**row, "label": 3}], tmp_path).format != "feedback"
    for label in (7, 0.5, "sports", ["x"]):
        inspection = seen([{**row, "label": label}], tmp_path)
        assert (inspection.format, inspection.stage) == ("prompt-completion", "sft")
        assert "`label` holds" in said(inspection)
        assert options(inspection) == {}


@pytest.mark.parametrize("label", [int, str])
def test_a_label_of_0_and_1_is_a_class_and_asked_about(label: Callable[[int], Any], tmp_path: Path) -> None:
    rows = [{"prompt": "a", "completion": "b", "label": label(number)} for number in (0, 1, 1)]
    inspection = seen(rows, tmp_path)
    assert (inspection.format, others(inspection)) == ("prompt-completion", ["feedback"])
    assert options(inspection) == {"class": ["--stage", "sft"], "feedback": ["--format", "feedback"]}
    assert seen(rows, tmp_path, format="feedback").input.usable == 3


def test_questions_and_answers_are_asked_about_with_their_lengths(tmp_path: Path) -> None:
    rows = [{"question": f"q{number}", "answer": "x" * 10 * number} for number in range(1, 4)]
    inspection = seen(rows, tmp_path)
    asked = inspection.to_json()["question"]["text"]
    assert (inspection.format, inspection.stage) == ("query-response", "sft")
    assert "answers of 10 to 30 characters, half of them under 20; 3 different ones in 3 rows" in asked
    assert options(inspection) == {"sft": ["--stage", "sft"], "prompts": ["--format", "prompts"]}


def test_answers_can_be_kept_as_references(tmp_path: Path) -> None:
    convert([put(tmp_path / "x", [{"question": "q", "answer": "18"}])], tmp_path / "out", Reading(format="prompts"))
    assert records(tmp_path / "out") == [{"prompt": [user("q")], "meta": {"answer": "18"}}]


def test_long_answers_leave_less_doubt_than_short_ones(tmp_path: Path) -> None:
    short = seen([{"question": "q", "answer": "x"}], tmp_path).confidence
    long = seen([{"question": "q", "answer": "x" * 900}], tmp_path).confidence
    assert short < long < 1


def test_what_stands_beside_a_prompt_is_a_reference_and_asked_about(tmp_path: Path) -> None:
    inspection = seen([{"prompt": "q", "solution": "x" * 300}], tmp_path)
    assert (inspection.format, inspection.stage) == ("prompts", None)
    assert "beside the prompt: solution, taken for what a reward is computed from" in said(inspection)
    assert options(inspection) == {
        "prompts": ["--format", "prompts"],
        "sft": ["--map", "user=prompt,assistant=solution"],
    }


@pytest.mark.parametrize(
    "turns",
    [
        [user("a"), user("a2"), answer("b")],
        [user("a"), {"role": "system", "content": "s"}, answer("b")],
        [answer("b"), user("a"), answer("c")],
    ],
)
def test_an_odd_order_of_turns_is_kept_and_told(turns: list[Any], tmp_path: Path) -> None:
    conversion = convert([put(tmp_path / "x", [{"messages": turns}])], tmp_path / "out")
    assert records(tmp_path / "out") == [{"messages": turns}]
    assert conversion.inspection.input.tally.counts == {"bad-alternation": 1}


def test_tool_arguments_as_text_are_parsed_and_told(tmp_path: Path) -> None:
    def row(arguments: Any) -> dict[str, Any]:
        call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
        return {"messages": [user("a"), {"role": "assistant", "tool_calls": [call]}, answer("b")]}

    inspection = seen([row({"x": 1}), row('{"x": 1}'), row(json.dumps('{"x": 1}'))], tmp_path)
    assert "in 2 sampled calls and are parsed; 1 of them are encoded twice" in said(inspection)
    assert (inspection.input.usable, inspection.input.repaired) == (3, 1)


@pytest.mark.parametrize(
    ("history", "shape"),
    [
        ([["q", "r"]], "as pairs"),
        ([{"user": "q", "assistant": "r"}], "as objects"),
        ([user("q"), answer("r")], "as messages"),
        ({"user": ["q"], "assistant": ["r"]}, "as two lists"),
        (["q", "r"], "as texts by turns"),
    ],
)
def test_a_history_is_told_by_its_shape(history: Any, shape: str, tmp_path: Path) -> None:
    row = {"instruction": "a", "output": "b", "history": history}
    conversion = convert([put(tmp_path / "x", [row])], tmp_path / "out")
    assert records(tmp_path / "out") == [chat("q", "r", "a", "b")]
    assert f"`history` holds earlier turns {shape}" in said(conversion.inspection)


def test_cells_of_a_table_are_text_whatever_they_look_like(tmp_path: Path) -> None:
    path = put(tmp_path / "x", b"instruction,input,output\n1,,2\n3.50,007,true\n")
    convert([path], tmp_path / "out")
    assert records(tmp_path / "out") == [chat("1", "2"), chat("3.50\n007", "true")]


# ---- what the user decides


def test_a_stage_takes_the_reading_that_serves_it(tmp_path: Path) -> None:
    texts = [{"text": RENDERED.format(number)} for number in range(3)]
    assert [seen(texts, tmp_path, stage=stage).format for stage in ("sft", "pt")] == ["flat-chat", "text"]
    pairs = [{"prompt": "a", "chosen": "b", "rejected": "c"}]
    assert [seen(pairs, tmp_path, stage=stage).stage for stage in ("dpo", "rm", "orpo", "sft")] == [
        "dpo",
        "rm",
        "orpo",
        "sft",
    ]


def test_what_was_converted_as_text_stays_text(tmp_path: Path) -> None:
    texts = [{"text": RENDERED.format(number)} for number in range(3)]
    first = convert([put(tmp_path / "x", texts)], tmp_path / "out", Reading(stage="pt"))
    again = convert([tmp_path / "out"], tmp_path / "again")
    assert (again.inspection.format, again.inspection.stage, again.sha256) == ("text", "pt", first.sha256)
    assert inspect([tmp_path / "out"], Reading(stage="sft")).format == "flat-chat"


def test_text_with_some_markers_can_be_read_for_sft(tmp_path: Path) -> None:
    rows = [*({"text": RENDERED.format(number)} for number in range(6)), *({"text": f"words {n}"} for n in range(4))]
    inspection = seen(rows, tmp_path, stage="sft")
    assert (inspection.format, inspection.input.usable, options(inspection)) == ("flat-chat", 6, {})


@pytest.mark.parametrize(
    ("rows", "stage"),
    [
        (MESSAGES, "dpo"),
        (MESSAGES, "pt"),
        (ALPACA, "kto"),
        ([{"text": "words"}], "sft"),
        ([{"prompt": "a"}], "sft"),
        ([{"prompt": "a", "completion": "b", "label": True}], "dpo"),
    ],
)
def test_a_stage_that_nothing_serves_is_refused_saying_what_it_serves(
    rows: list[Any], stage: str, tmp_path: Path
) -> None:
    with pytest.raises(FinetuiError) as raised:
        seen(rows, tmp_path, stage=stage)
    (problem,) = raised.value.problems
    assert raised.value.exit_code == 3
    assert stage in problem.message()
    assert problem.facts["serves"]


def test_a_stage_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FinetuiError) as raised:
        seen(MESSAGES, tmp_path, stage="rlhf")
    assert raised.value.exit_code == 2
    assert "sft" in str(raised.value.problems[0].expected())


def test_what_was_decided_is_told_and_not_asked_again(tmp_path: Path) -> None:
    rows = [{"question": "q", "answer": "a"}]
    for reading in (
        {"format": "query-response"},
        {"stage": "sft"},
        {"mapping": {"user": "question", "assistant": "answer"}},
    ):
        inspection = seen(rows, tmp_path, **reading)
        assert (inspection.format, options(inspection), others(inspection)) == ("query-response", {}, [])
        assert inspection.confidence == 1.0


def test_a_mapped_table_has_the_layout_of_its_parts(tmp_path: Path) -> None:
    rows = [{"problem": "a", "solution": "b"}]
    assert seen(rows, tmp_path).format == "table"
    mapped = seen(rows, tmp_path, mapping={"user": "problem", "assistant": "solution"})
    assert (mapped.format, mapped.stage, mapped.input.usable) == ("query-response", "sft", 1)
    prompts = seen(rows, tmp_path, mapping={"prompt": "problem"})
    assert (prompts.format, prompts.stage) == ("prompts", None)


# ---- what is shown


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_people_see_the_other_reading_and_the_question(
    lang: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], home: Path
) -> None:
    path = put(tmp_path / "x", [{"question": "q", "answer": "a"}])
    assert run(["inspect", str(path), "--plain", "--lang", lang]) == 0
    shown = "".join(capfd.readouterr().out.split())
    assert "--formatprompts" in shown
    assert {"en": "answerstolearn", "zh": "要学习的回答"}[lang] in shown
    assert "prompts(50%)" in shown


def test_the_contract_is_json_in_english(tmp_path: Path, capfd: pytest.CaptureFixture[str], home: Path) -> None:
    path = put(tmp_path / "x", [{"question": "q", "answer": "a"}])
    assert run(["inspect", str(path), "--json", "--lang", "zh"]) == 0
    contract = json.loads(capfd.readouterr().out)
    assert set(contract) >= {
        *("format", "stage", "confidence", "evidence", "alternatives", "question", "files", "rows", "problems")
    }
    assert set(contract["question"]) == {"id", "text", "options", "default"}
    assert all(set(option) == {"value", "label", "flags"} for option in contract["question"]["options"])
    assert all({"format", "confidence", "why"} <= set(other) for other in contract["alternatives"])
    assert json.dumps(contract, ensure_ascii=False).isascii()
