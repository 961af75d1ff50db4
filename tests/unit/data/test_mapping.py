"""Columns that the user maps: every part, paths into rows, what becomes of them, and mistakes with the nearest name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetui.cli.main import run
from finetui.core.errors import USAGE, FinetuiError, render
from finetui.data import Reading, convert, inspect, iter_records
from finetui.data.mapping import parse_mapping
from finetui.data.mapping.parts import PARTS
from finetui.data.mapping.suggest import suggest
from tests.unit.data.write import chat, put, records

pytestmark = pytest.mark.unit


def mapped(tmp_path: Path, rows: list[Any], mapping: str, **more: Any) -> list[Any]:
    reading = Reading(mapping=parse_mapping(mapping), **more)
    conversion = convert([put(tmp_path / "rows.jsonl", rows)], tmp_path / "out", reading, accept_rejected=True)
    assert conversion.refusals() == []
    return records(tmp_path / "out")


def codes(tmp_path: Path, rows: list[Any], mapping: str) -> dict[str, int]:
    reading = Reading(mapping=parse_mapping(mapping))
    contract = inspect([put(tmp_path / "rows.jsonl", rows)], reading).to_json()
    assert contract["rows"]["usable"] + contract["rows"]["rejected"] == contract["rows"]["total"] == len(rows)
    return {problem["code"]: problem["count"] for problem in contract["problems"]}


def refused(tmp_path: Path, rows: list[Any], mapping: str) -> FinetuiError:
    with pytest.raises(FinetuiError) as caught:
        inspect([put(tmp_path / "rows.jsonl", rows)], Reading(mapping=parse_mapping(mapping)))
    return caught.value


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


TURNS = [{"data": {"id": 7, "turns": [{"q": "a", "a": "b", "s": "rule"}, {"q": "c", "a": "d"}]}}]

CHATS = [
    ({"q": "hi", "a": "hello"}, "user=q,assistant=a", chat("hi", "hello")),
    ({"q": "hi", "a": "hello", "n": 1}, "user=q,assistant=a", {**chat("hi", "hello"), "meta": {"n": 1}}),
    ({"x": "hi", "y": "ho", "z": "hello"}, "user=x+y,assistant=z", chat("hi\nho", "hello")),
    ({"x": "hi", "y": None, "z": "hello"}, "user=x + y,assistant=z", chat("hi", "hello")),
    ({"a.b": "hi", "c=d": "hello"}, "user=a.b,assistant=c=d", chat("hi", "hello")),
    ({"a,b": "hi", "c+d": "hello"}, "user=a,b,assistant=c+d", chat("hi", "hello")),
    ({"a[0]": "hi", "b": ["x", {"y": "hello"}]}, "user=a[0],assistant=b[1].y", chat("hi", "hello") | {}),
    ({"b": [{"y": "hi"}, {"y": "hello"}]}, "user=b[0].y,assistant=b[-1].y", chat("hi", "hello")),
    ({"row": '{"q": "hi", "a": "hello"}'}, "user=row.q,assistant=row.a", chat("hi", "hello")),
    ({"qs": ["a", "c"], "as": ["b", "d"]}, "user=qs[],assistant=as[]", chat("a", "b", "c", "d")),
    ({"qs": ["a", "c"], "as": ["b"]}, "user=qs[],assistant=as[]", chat("a", "b", "c")),
    ({"turns": [{"q": "a"}, {"r": "b"}]}, "user=turns[].q,assistant=turns[].r", chat("a", "b")),
    ({"talk": ["a", "b", "c", "d"]}, "messages=talk", chat("a", "b", "c", "d")),
    ({"talk": [{"role": "user", "content": "a"}, {"role": "bot", "content": "b"}]}, "messages=talk", chat("a", "b")),
    ({"talk": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}, "messages=talk[]", chat("a", "b")),
    ({"talk": [{"by": "user", "t": "a"}, {"by": "bot", "t": "b"}]}, "role=talk[].by,content=talk[].t", chat("a", "b")),
    ({"talk": [{"by": "user", "t": "a"}, {"by": "bot", "t": "b"}]}, "messages=talk,role=by,content=t", chat("a", "b")),
    (
        {"d": {"log": [{"m": {"by": "user"}, "t": {"x": "a"}}, {"m": {"by": "bot"}, "t": {"x": "b"}}]}},
        "role=d.log[].m.by,content=d.log[].t.x",
        chat("a", "b"),
    ),
    ({"talk": [{"role": "Q", "content": "a"}, {"role": "A", "content": "b"}]},
     "messages=talk,user_tag=Q,assistant_tag=A", chat("a", "b")),
    ({"p": [user("a")], "c": "b"}, "prompt=p,completion=c", chat("a", "b")),
    ({"p": "a", "c": [assistant("b")]}, "prompt=p,completion=c", chat("a", "b")),
    ({"q": "c", "a": "d", "old": [["a", "b"]]}, "user=q,assistant=a,history=old", chat("a", "b", "c", "d")),
]  # fmt: skip


@pytest.mark.parametrize(("row", "mapping", "record"), CHATS, ids=[mapping for _, mapping, _ in CHATS])
def test_chats(tmp_path: Path, row: Any, mapping: str, record: Any) -> None:
    (found,) = mapped(tmp_path, [row], mapping)
    if "meta" not in record:
        found.pop("meta", None)
    assert found == record


def test_system_tools_and_thinking(tmp_path: Path) -> None:
    tool = {"name": "look", "description": "Look.", "parameters": {"type": "object"}}
    row = {"q": "hi", "a": "hello", "s": "rule", "cot": "well", "f": json.dumps([tool])}
    (record,) = mapped(tmp_path, [row], "user=q,assistant=a,system=s,thinking=cot,tools=f")
    assert record == {
        "messages": [{"role": "system", "content": "rule"}, user("hi"), {**assistant("hello"), "thinking": "well"}],
        "tools": [{"type": "function", "function": tool}],
    }


def test_turns_in_a_list_with_what_stands_beside_it(tmp_path: Path) -> None:
    (record,) = mapped(tmp_path, TURNS, "user=data.turns[].q,assistant=data.turns[].a,system=data.turns[].s")
    assert record["messages"] == [{"role": "system", "content": "rule"}, *chat("a", "b", "c", "d")["messages"]]
    assert record["meta"] == {"data": {"id": 7}}


def test_text_preference_feedback_and_prompts(tmp_path: Path) -> None:
    row = {"t": "title", "b": "body", "good": "yes", "bad": "no", "fine": "true", "q": "ask"}
    assert mapped(tmp_path, [{"t": "title", "b": "body"}], "text=t+b") == [{"text": "title\nbody"}]
    (pair,) = mapped(tmp_path, [row], "prompt=q,chosen=good,rejected=bad")
    assert {key: pair[key] for key in ("prompt", "chosen", "rejected")} == {
        "prompt": [user("ask")],
        "chosen": [assistant("yes")],
        "rejected": [assistant("no")],
    }
    (rated,) = mapped(tmp_path, [row], "user=q,assistant=good,label=fine")
    assert (rated["prompt"], rated["completion"], rated["label"]) == ([user("ask")], [assistant("yes")], True)
    (asked,) = mapped(tmp_path, [row], "prompt=q")
    assert asked["prompt"] == [user("ask")]
    assert asked["meta"]["good"] == "yes"


@pytest.mark.parametrize(
    ("mapping", "format", "stage"),
    [
        ("user=q,assistant=a", "query-response", "sft"),
        ("prompt=q,completion=a", "prompt-completion", "sft"),
        ("text=q", "text", "pt"),
        ("prompt=q,chosen=a,rejected=b", "preference", "dpo"),
        ("user=q,assistant=a,label=l", "feedback", "kto"),
        ("user=q", "prompts", None),
        ("messages=m", "messages", "sft"),
    ],
)
def test_a_mapping_says_what_the_data_is(tmp_path: Path, mapping: str, format: str, stage: str | None) -> None:
    rows = [{"q": "ask", "a": "yes", "b": "no", "l": True, "m": [user("x"), assistant("y")]}]
    contract = inspect([put(tmp_path / "rows.jsonl", rows)], Reading(mapping=parse_mapping(mapping))).to_json()
    assert (contract["format"], contract["stage"], contract["rows"]["usable"]) == (format, stage, 1)
    assert contract["question"] is None
    assert contract["files"][0]["mapping"] == parse_mapping(mapping)
    assert mapping.split(",")[0] in " ".join(contract["evidence"])


def test_answers_that_are_whole_conversations_share_their_prompt(tmp_path: Path) -> None:
    good, bad = ([user("ask"), assistant(text)] for text in ("yes", "no"))
    record, _ = mapped(tmp_path, [{"g": good, "b": bad}] * 2, "chosen=g,rejected=b")
    assert record == {"prompt": [user("ask")], "chosen": [assistant("yes")], "rejected": [assistant("no")]}


def test_a_stage_picks_the_reading_that_serves_it(tmp_path: Path) -> None:
    row = {"q": "ask", "g": "yes", "b": "no"}
    (record,) = mapped(tmp_path, [row], "prompt=q,chosen=g,rejected=b", stage="sft")
    assert record["messages"] == chat("ask", "yes")["messages"]
    with pytest.raises(FinetuiError) as caught:
        mapped(tmp_path, [row], "user=q,assistant=g", stage="dpo")
    assert caught.value.problems[0].code == "data.wrong-stage"


def test_a_mapping_of_another_layout_than_was_asked_for_is_refused(tmp_path: Path) -> None:
    row = {"q": "ask", "a": "yes"}
    assert len(mapped(tmp_path, [row], "user=q,assistant=a", format="query-response")) == 1
    with pytest.raises(FinetuiError) as caught:
        mapped(tmp_path, [row], "user=q,assistant=a", format="messages")
    assert (caught.value.problems[0].code, caught.value.exit_code) == ("sources.map-format", USAGE)


def test_columns_beside_the_conversation_are_dropped_on_request(tmp_path: Path) -> None:
    rows = [{"q": "ask", "a": "yes", "id": 7}] * 2
    kept, *_ = mapped(tmp_path, rows, "user=q,assistant=a")
    dropped, *_ = mapped(tmp_path, rows, "user=q,assistant=a", keep_meta=False)
    assert (kept["meta"], "meta" in dropped) == ({"id": 7}, False)
    path = put(tmp_path / "plain.jsonl", [{"instruction": "ask", "output": "yes", "id": 7}])
    assert run(["convert", str(path), "--out", str(tmp_path / "bare"), "--no-meta", "--plain"]) == 0
    assert records(tmp_path / "bare") == [chat("ask", "yes")]


def test_a_row_problem_says_where_in_the_users_words(tmp_path: Path) -> None:
    rows: list[Any] = [
        {"q": "hi", "a": "hello"},
        {"q": "hi"},
        {"q": "hi", "a": None},
        {"q": "", "a": "x"},
        {"q": "hi", "a": " "},
        {"q": "hi", "a": 3},
        {"q": 3, "a": "x"},
        "text",
        {"q": "hi", "a": "hello", "image": "x.png"},
    ]
    expected = ("missing-key", "null-content", "empty-user", "empty-assistant", "not-an-object", "multimodal")
    found = codes(tmp_path, rows, "user=q,assistant=a")
    assert {code: found.get(code) for code in expected} == dict.fromkeys(expected, 1)
    contract = inspect([tmp_path / "rows.jsonl"], Reading(mapping=parse_mapping("user=q,assistant=a"))).to_json()
    assert contract["rows"]["usable"] == 1
    details = {found["code"]: found["examples"][0]["detail"] for found in contract["problems"]}
    assert details["missing-key"].startswith("a (columns: q)")


def test_lists_that_are_not_aligned_are_set_aside(tmp_path: Path) -> None:
    rows = [
        {"q": ["a", "b"], "a": ["c", "d"]},
        {"q": ["a", "b", "c"], "a": ["d"]},
        {"q": ["a"], "a": ["b", "c"]},
        {"q": [], "a": []},
        {"q": "a", "a": ["b"]},
        {"q": ["a", None], "a": ["b", "c"]},
    ]
    assert codes(tmp_path, rows, "user=q[],assistant=a[]") == {"wrong-type": 3, "no-assistant": 1, "null-content": 1}


def test_unknown_columns_get_the_nearest_and_what_is_there(tmp_path: Path) -> None:
    error = refused(tmp_path, [{"question": "hi", "answer": "x"}], "user=qestion,assistant=Anser")
    assert error.exit_code == USAGE
    assert [problem.code for problem in error.problems] == ["sources.unknown-column"] * 2
    assert [problem.facts["near"] for problem in error.problems] == ["question", "answer"]
    assert error.problems[0].facts["columns"] == "question, answer"
    assert error.problems[0].file == str(tmp_path / "rows.jsonl")


@pytest.mark.parametrize(
    ("path", "inside", "near"),
    [
        ("data.turn[].q", "data", "turns"),
        ("data.turns[].qq", "data.turns[]", "q"),
        ("data.turns[0].qq", "data.turns[0]", "q"),
        ("data.turns[9].q", "data.turns", "–"),
    ],
)
def test_a_step_that_leads_nowhere_is_named(tmp_path: Path, path: str, inside: str, near: str) -> None:
    (problem, *_) = refused(tmp_path, TURNS, f"user={path},assistant=data.turns[0].a").problems
    if problem.code == "sources.half-a-list":
        pytest.fail("the path was taken for one that leads somewhere")
    assert (problem.code, problem.facts["inside"], problem.facts["near"]) == ("sources.unknown-inside", inside, near)


@pytest.mark.parametrize(
    ("mapping", "code"),
    [
        ("assistant=a", "sources.part-wanting"),
        ("chosen=a,prompt=q", "sources.part-wanting"),
        ("label=l", "sources.part-wanting"),
        ("chosen=q,rejected=a,system=q", "sources.part-wanting"),
        ("system=q", "sources.part-wanting"),
        ("content=m[].content", "sources.part-wanting"),
        ("role=q,content=a", "sources.no-list"),
        ("user=q,assistant=m[].content", "sources.half-a-list"),
        ("text=q,assistant=a", "sources.parts-clash"),
        ("user=q,prompt=q,assistant=a", "sources.parts-clash"),
        ("messages=m,user=q", "sources.parts-clash"),
        ("user=q..a,assistant=a", "sources.bad-path"),
        ("user=[x],assistant=a", "sources.bad-path"),
        ("user=q+,assistant=a", "sources.bad-path"),
    ],
)
def test_parts_that_make_no_record_are_refused(tmp_path: Path, mapping: str, code: str) -> None:
    rows = [{"q": "hi", "a": "hello", "l": True, "m": [user("x"), assistant("y")]}]
    error = refused(tmp_path, rows, mapping)
    assert code in [problem.code for problem in error.problems]
    assert error.exit_code == USAGE
    for problem in error.problems:
        assert problem.message("zh")
        assert problem.expected("en")
        assert problem.next("en")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("user", "sources.no-pair"),
        ("=x", "sources.no-pair"),
        ("user=", "sources.no-pair"),
        ("", "sources.no-pair"),
        ("usr=x", "sources.unknown-part"),
        ("user=x,user=y", "sources.part-twice"),
    ],
)
def test_a_line_that_is_no_mapping_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, code: str
) -> None:
    path = put(tmp_path / "rows.jsonl", [{"x": "hi"}])
    assert run(["inspect", str(path), "--map", text, "--json"]) == USAGE
    assert json.loads(capsys.readouterr().out)["errors"][0]["code"] == code


def test_the_mapping_stands_in_the_report_and_in_the_sources_of_a_lock(tmp_path: Path) -> None:
    path, mapping = put(tmp_path / "rows.jsonl", [{"q": "hi", "a": "hello"}]), {"user": "q", "assistant": "a"}
    convert([path], tmp_path / "out", Reading(mapping=mapping))
    report = json.loads((tmp_path / "out" / "report.json").read_bytes())
    assert report["files"][0]["mapping"] == mapping
    found = iter_records([path], Reading(mapping=mapping))
    assert [record.record for record in found] == [chat("hi", "hello")]
    assert found.sources[0].to_json()["mapping"] == mapping


WORDS = st.sampled_from(
    ["a", "b", "role", "content", "from", "value", "user", "assistant", "true", "", " ", '{"a": 1}']
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | WORDS,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(WORDS, inside, max_size=3),
    max_leaves=8,
)
PATHS = st.sampled_from(
    ["a", "b", "q", "a.b", "a[]", "b[]", "a[].role", "a[].content", "a[].a", "a[].b", "a[0].b", "a+b"]
)
MAPPINGS = st.dictionaries(st.sampled_from(PARTS), PATHS, min_size=1, max_size=4)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.fixed_dictionaries({"a": VALUES, "b": VALUES, "q": VALUES}), min_size=1, max_size=4),
    mapping=MAPPINGS,
)
def test_any_rows_under_any_mapping_are_records_set_aside_or_refused(
    tmp_path: Path, rows: list[Any], mapping: dict[str, str]
) -> None:
    path, out = put(tmp_path / "rows.jsonl", rows), tmp_path / "out"
    try:
        counts = convert([path], out, Reading(mapping=mapping), accept_rejected=True).to_json()["rows"]
    except FinetuiError as error:
        render(error.problems, "zh")
        return
    assert counts["usable"] + counts["rejected"] == counts["total"] == len(rows)
    if counts["usable"]:
        convert([out / "data.jsonl"], tmp_path / "again", accept_rejected=True)
        assert records(tmp_path / "again") == records(out)


SUGGESTIONS = [
    ({"problem": "How?", "solution": "So."}, "user=problem,assistant=solution"),
    ({"my_input": "x", "my_output": "y", "my_system": "z"}, "user=my_input,assistant=my_output,system=my_system"),
    ({"Question": "How?", "Complex_CoT": "well", "Response": "So."}, None),
    ({"m": [{"toy_input": "x", "toy_output": "y"}]}, "user=m[].toy_input,assistant=m[].toy_output"),
    ({"log": [{"who": "user", "utt": "x"}, {"who": "bot", "utt": "y"}]}, "role=log[].who,content=log[].utt"),
    ({"toy_text": "A whole text."}, "text=toy_text"),
    ({"问题": "怎么做？", "回答": "这样做。"}, "user=问题,assistant=回答"),
    ({"id": "1", "log": '[{"role": "user", "content": "x"}, {"role": "gpt", "content": "y"}]'}, "messages=log"),
    ({"ask": "x", "better_answer": "y", "worse_answer": "z"}, "prompt=ask,chosen=better_answer,rejected=worse_answer"),
]


@pytest.mark.parametrize(("row", "line"), SUGGESTIONS, ids=[str(line) for _, line in SUGGESTIONS])
def test_the_line_that_is_likely_right_is_suggested_and_works(tmp_path: Path, row: Any, line: str | None) -> None:
    found = suggest([row, row])
    assert found
    assert found == line or (line is None and found == "user=Question,assistant=Response,thinking=Complex_CoT")
    assert len(mapped(tmp_path, [row], found)) == 1


def test_columns_of_unknown_names_go_by_their_length(tmp_path: Path) -> None:
    rows = [{"id": f"{n}" * 30, "aaa": f"short {n}", "flag": "yes", "bbb": f"a much longer text {n}"} for n in range(4)]
    assert suggest(rows) == "user=aaa,assistant=bbb"
    assert suggest([{"n": 1}]) is None
    assert suggest([{"column_1": str(number), "said": f"words {number}"} for number in range(3)]) == "text=said"
    assert suggest([{"column_1": str(number), "said": f"[{{'role': {number}}}]"} for number in range(3)]) is None
    assert suggest([]) is None


def test_rows_inside_one_object_are_not_suggested_as_one_conversation() -> None:
    rows = [{"instruction": f"ask {number}", "output": f"say {number}"} for number in range(9)]
    assert suggest([{"version": "1.0", "data": rows}]) is None


def test_inspect_names_the_command_that_maps_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = put(tmp_path / "rows.jsonl", [{"my_problem": "How?", "my_solution": "So."}] * 3)
    assert run(["inspect", str(path), "--json"]) == 0
    command = json.loads(capsys.readouterr().out)["next"]
    assert command == f"finetui inspect {path} --map user=my_problem,assistant=my_solution"
    assert run(["inspect", str(path), "--map", "user=my_problem,assistant=my_solution", "--json"]) == 0
    contract = json.loads(capsys.readouterr().out)
    assert (contract["next"], contract["rows"]["usable"]) == (None, 3)
