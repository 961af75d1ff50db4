"""A folder of LLaMA-Factory by the names of its datasets: every key of an entry is honoured, every mistake is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetui.core.errors import BAD_INPUT, USAGE, FinetuiError
from finetui.data import convert, inspect
from finetui.data.sources.find import find_files
from tests.unit.data.write import ALPACA, SHAREGPT, chat, put, records

pytestmark = pytest.mark.unit

QUESTIONS = [{"question": "How many?", "more": "In all.", "answer": "Three", "told": "Be brief", "score": 1}]


def registry(folder: Path, **entries: Any) -> Path:
    (folder / "dataset_info.json").write_text(json.dumps(entries), encoding="utf-8")
    return folder


def converted(tmp_path: Path, *names: str) -> list[Any]:
    conversion = convert([f"{tmp_path}:{','.join(names)}"], tmp_path / "out")
    assert conversion.refusals() == []
    return records(tmp_path / "out")


def refused(spec: str) -> FinetuiError:
    with pytest.raises(FinetuiError) as caught:
        inspect([spec])
    return caught.value


def test_an_entry_without_columns_is_detected(tmp_path: Path) -> None:
    put(tmp_path / "rows.json", ALPACA)
    assert converted(registry(tmp_path, mine={"file_name": "rows.json"}), "mine")[1] == chat("Say hello", "hello")


def test_columns_of_the_alpaca_formatting(tmp_path: Path) -> None:
    put(tmp_path / "rows.json", QUESTIONS)
    columns = {"prompt": "question", "query": "more", "response": "answer", "system": "told"}
    (record,) = converted(registry(tmp_path, mine={"file_name": "rows.json", "columns": columns}), "mine")
    assert record == {
        "messages": [
            {"role": "system", "content": "Be brief"},
            {"role": "user", "content": "How many?\nIn all."},
            {"role": "assistant", "content": "Three"},
        ],
        "meta": {"score": 1},
    }


def test_a_column_that_is_not_named_is_left_out_and_kept_beside(tmp_path: Path) -> None:
    put(tmp_path / "rows.json", ALPACA)
    entry = {"file_name": "rows.json", "columns": {"prompt": "instruction", "response": "output"}}
    first, *_ = converted(registry(tmp_path, mine=entry), "mine")
    assert first == {**chat("Add", "3"), "meta": {"input": "1 and 2"}}
    assert any("beside it: input" in said for said in inspect([f"{tmp_path}:mine"]).to_json()["evidence"])


def test_history_and_a_question_alone(tmp_path: Path) -> None:
    put(tmp_path / "turns.json", [{"q": "and now?", "a": "later", "old": [["hi", "hello"]]}])
    put(tmp_path / "texts.json", [{"body": "A text to be learned whole."}])
    turns = {"file_name": "turns.json", "columns": {"prompt": "q", "response": "a", "history": "old"}}
    texts = {"file_name": "texts.json", "columns": {"prompt": "body"}}
    registry(tmp_path, turns=turns, texts=texts)
    assert converted(tmp_path, "turns") == [chat("hi", "hello", "and now?", "later")]
    assert converted(tmp_path, "texts") == [{"text": "A text to be learned whole."}]


def test_tags_say_who_speaks_and_where(tmp_path: Path) -> None:
    turns = [{"who": "S", "said": "rule"}, {"who": "Q", "said": "hi"}, {"who": "A", "said": "hello"}]
    put(tmp_path / "rows.json", [{"talk": turns, "functions": '[{"name": "look", "parameters": {}}]'}])
    tags = {"role_tag": "who", "content_tag": "said", "user_tag": "Q", "assistant_tag": "A", "system_tag": "S"}
    columns = {"messages": "talk", "tools": "functions"}
    entry = {"file_name": "rows.json", "formatting": "sharegpt", "columns": columns, "tags": tags}
    (record,) = converted(registry(tmp_path, mine=entry), "mine")
    assert record["messages"] == [{"role": "system", "content": "rule"}, *chat("hi", "hello")["messages"]]
    assert record["tools"][0]["function"]["name"] == "look"


def test_tags_without_columns_keep_the_default_column(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    put(tmp_path / "rows.json", [{"conversations": turns}])
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    entry = {"file_name": "rows.json", "formatting": "sharegpt", "tags": tags}
    assert converted(registry(tmp_path, mine=entry), "mine") == [chat("hi", "hello")]


def test_a_tool_call_under_its_tag(tmp_path: Path) -> None:
    call = {"name": "look", "arguments": {"at": "x"}}
    turns = [
        {"from": "human", "value": "look"},
        {"from": "call", "value": json.dumps(call)},
        {"from": "result", "value": "seen"},
        {"from": "gpt", "value": "done"},
    ]
    put(tmp_path / "rows.json", [{"conversations": turns}])
    tags = {"role_tag": "from", "content_tag": "value", "function_tag": "call", "observation_tag": "result"}
    entry = {"file_name": "rows.json", "formatting": "sharegpt", "tags": tags}
    (record,) = converted(registry(tmp_path, mine=entry), "mine")
    assert [message["role"] for message in record["messages"]] == ["user", "assistant", "tool", "assistant"]
    assert record["messages"][1]["tool_calls"][0]["function"] == call


def test_ranking_with_texts_and_with_turns(tmp_path: Path) -> None:
    put(tmp_path / "texts.json", [{"ask": "q", "good": "yes", "bad": "no"}])
    turns = [{"from": "human", "value": "q"}]
    good, bad = ({"from": "gpt", "value": text} for text in ("yes", "no"))
    put(tmp_path / "turns.json", [{"conversations": turns, "good": good, "bad": bad}])
    columns = {"chosen": "good", "rejected": "bad"}
    registry(
        tmp_path,
        texts={"file_name": "texts.json", "ranking": True, "columns": {"prompt": "ask", **columns}},
        turns={
            "file_name": "turns.json",
            "ranking": True,
            "formatting": "sharegpt",
            "columns": {"messages": "conversations", **columns},
        },
    )
    expected = {
        "prompt": [{"role": "user", "content": "q"}],
        "chosen": [{"role": "assistant", "content": "yes"}],
        "rejected": [{"role": "assistant", "content": "no"}],
    }
    assert converted(tmp_path, "texts") == converted(tmp_path, "turns") == [expected]
    assert inspect([f"{tmp_path}:texts,turns"]).to_json()["stage"] == "dpo"


def test_kto_tag(tmp_path: Path) -> None:
    put(tmp_path / "rows.json", [{"ask": "q", "said": "a", "fine": True}, {"ask": "q", "said": "b", "fine": False}])
    columns = {"prompt": "ask", "response": "said", "kto_tag": "fine"}
    rows = converted(registry(tmp_path, mine={"file_name": "rows.json", "columns": columns}), "mine")
    assert [row["label"] for row in rows] == [True, False]
    assert rows[0]["completion"] == [{"role": "assistant", "content": "a"}]


def test_media_columns_set_rows_aside(tmp_path: Path) -> None:
    put(tmp_path / "rows.json", [{"q": "what?", "a": "a cat", "pics": ["cat.png"]}, {"q": "hi", "a": "ho", "pics": []}])
    entry = {"file_name": "rows.json", "columns": {"prompt": "q", "response": "a", "images": "pics"}}
    contract = inspect([f"{registry(tmp_path, mine=entry)}:mine"]).to_json()
    assert [(found["code"], found["count"]) for found in contract["problems"]] == [("multimodal", 1)]


def test_datasets_of_different_layouts_go_together(tmp_path: Path) -> None:
    put(tmp_path / "a.json", ALPACA)
    put(tmp_path / "b.json", SHAREGPT)
    registry(tmp_path, a={"file_name": "a.json"}, b={"file_name": "b.json", "formatting": "sharegpt"})
    assert len(converted(tmp_path, "a", "b")) == 5
    assert len(converted(tmp_path, "a", "b@2")) == 7
    contract = inspect([f"{tmp_path}:a,b@2"]).to_json()
    assert (contract["format"], contract["stage"], contract["rows"]["usable"]) == (None, "sft", 5)
    assert [file["weight"] for file in contract["files"]] == [1.0, 2.0]
    assert [file["dataset"] for file in contract["files"]] == [f"{tmp_path}:a", f"{tmp_path}:b"]


def test_datasets_for_different_stages_do_not(tmp_path: Path) -> None:
    put(tmp_path / "a.json", ALPACA)
    put(tmp_path / "t.json", [{"text": f"A text to be learned whole, number {number}."} for number in range(5)])
    registry(tmp_path, a={"file_name": "a.json"}, t={"file_name": "t.json", "columns": {"prompt": "text"}})
    conversion = convert([f"{tmp_path}:a,t"], tmp_path / "out")
    assert [problem.code for problem in conversion.refusals()] == ["data.mixed-formats"]


def test_a_folder_as_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    put(tmp_path / "many" / "a.json", ALPACA)
    put(tmp_path / "many" / "b.json", ALPACA)
    registry(tmp_path, mine={"file_name": "many"}, other={"file_name": "x.json"})
    assert len(converted(tmp_path, "mine")) == 6


def test_the_folder_alone_asks_which(tmp_path: Path) -> None:
    put(tmp_path / "rows.json", ALPACA)
    absent = {"file_name": "absent.json"}
    registry(tmp_path, mine={"file_name": "rows.json"}, other=absent)
    error = refused(str(tmp_path))
    assert [problem.code for problem in error.problems] == ["sources.which-dataset"]
    assert error.exit_code == USAGE
    assert "mine" in (error.problems[0].expected("en") or "")
    assert error.problems[0].next("en") == f"finetui inspect {tmp_path}:mine"
    registry(tmp_path, mine={"file_name": "rows.json"})
    assert inspect([tmp_path]).to_json()["rows"]["usable"] == 3


def test_what_the_user_says_outweighs_the_entry(tmp_path: Path) -> None:
    from finetui.data import Reading

    put(tmp_path / "rows.json", [{"q": "hi", "a": "hello", "b": "HELLO"}])
    registry(tmp_path, mine={"file_name": "rows.json", "columns": {"prompt": "q", "response": "a"}})
    convert([f"{tmp_path}:mine"], tmp_path / "out", Reading(mapping={"user": "q", "assistant": "b"}))
    assert records(tmp_path / "out")[0]["messages"] == chat("hi", "HELLO")["messages"]


@pytest.mark.parametrize(
    ("entry", "codes"),
    [
        ({"file_name": "absent.json"}, ["sources.entry-absent-file"]),
        ({"columns": {"prompt": "q"}}, ["sources.entry-no-source"]),
        ("text", ["sources.entry-no-source"]),
        ({"hf_hub_url": "nobody/nothing"}, ["sources.entry-not-fetched"]),
        ({"script_url": "load"}, ["sources.entry-elsewhere"]),
        ({"cloud_file_name": "s3://x/y.json"}, ["sources.entry-elsewhere"]),
        ({"file_name": "rows.json", "formatting": "vicuna"}, ["sources.entry-formatting"]),
        ({"file_name": "rows.json", "columns": ["q"]}, ["sources.entry-table"]),
        ({"file_name": "rows.json", "columns": {"prompt": 3}}, ["sources.entry-table"]),
        ({"file_name": "rows.json", "columns": {"response": "a"}}, ["sources.entry-no-column"]),
        ({"file_name": "rows.json", "columns": {"question": "q", "prompt": "q"}}, ["sources.entry-unknown-key"]),
        ({"file_name": "rows.json", "columns": {"prompt": "qq", "response": "a"}}, ["sources.entry-column"]),
        ({"file_name": "rows.json", "ranking": True, "columns": {"prompt": "q"}}, ["sources.entry-no-column"] * 2),
        (
            {"file_name": "rows.json", "formatting": "sharegpt", "columns": {"tools": "a"}, "tags": {"user": "x"}},
            ["sources.entry-unknown-key", "sources.entry-no-column"],
        ),
        ({"file_name": "rows.json", "split": "train[:10%]"}, ["sources.entry-split-slice"]),
    ],
)
def test_every_mistake_of_an_entry_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: Any, codes: list[str]
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    put(tmp_path / "rows.json", [{"q": "hi", "a": "hello"}])
    registry(tmp_path, mine=entry, other={"file_name": "rows.json"})
    error = refused(f"{tmp_path}:mine")
    assert [problem.code for problem in error.problems] == codes
    assert error.exit_code == BAD_INPUT
    for problem in error.problems:
        assert problem.file == str(tmp_path / "dataset_info.json")
        assert "mine" in problem.message("en")
        assert "mine" in problem.message("zh")
        assert problem.expected("en")
        assert problem.next("zh")


def test_a_name_that_is_not_there_gets_the_nearest(tmp_path: Path) -> None:
    put(tmp_path / "rows.json", ALPACA)
    registry(tmp_path, alpaca_zh={"file_name": "rows.json"}, identity={"file_name": "rows.json"})
    error = refused(f"{tmp_path}:alpaca_hz,idntity")
    assert error.exit_code == USAGE
    assert [problem.facts["near"] for problem in error.problems] == ["alpaca_zh", "identity"]


def test_a_registry_that_is_no_json_is_told(tmp_path: Path) -> None:
    put(tmp_path / "rows.json", ALPACA)
    (tmp_path / "dataset_info.json").write_text('{"mine": {"file_name": "rows.json"},}', encoding="utf-8")
    assert [problem.code for problem in refused(f"{tmp_path}:mine").problems] == ["sources.broken-dataset"]


def test_a_hub_dataset_of_an_entry_is_taken_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "cache" / "datasets--owner--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    put(snapshot / "train.jsonl", ALPACA)
    put(snapshot / "test.jsonl", ALPACA[:1])
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    hub = {"hf_hub_url": "owner/name"}
    folder = registry(tmp_path / "data", all=hub, held={**hub, "split": "test"}, local={**hub, "file_name": "x.json"})
    totals = [inspect([f"{folder}:{name}"]).to_json()["rows"]["total"] for name in ("all", "held", "local")]
    assert totals == [3, 1, 3]


def test_the_entry_of_a_hub_dataset_that_is_not_fetched_falls_back_to_its_file(tmp_path: Path) -> None:
    put(tmp_path / "rows.json", ALPACA)
    registry(tmp_path, mine={"hf_hub_url": "nobody/nothing-of-the-kind", "file_name": "rows.json"})
    ((found,), _) = find_files([f"{tmp_path}:mine"])
    assert found.file.path == tmp_path / "rows.json"
