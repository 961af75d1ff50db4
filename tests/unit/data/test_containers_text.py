"""Tables of cells, plain text, objects of rows, and text in other encodings."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard

from finetui.core.errors import FinetuiError
from finetui.data import Reading, convert, inspect
from tests.unit.data.write import ALPACA, MESSAGES, SHAREGPT, chat, jsonl, put, records

pytestmark = pytest.mark.unit

CELLS = [
    {"instruction": "Say", "input": "", "output": 'one, "two"; three | four\tfive'},
    {"instruction": "翻译", "input": "早上好\n\n晚上好", "output": "Good morning"},
    {"instruction": "12345", "input": " kept ", "output": "007"},
]
CHINESE = [
    {"instruction": "请写一首关于春天的诗。", "output": "春天来了，花儿开了，我们都很高兴。"},
    {"instruction": "中国的首都是哪里？", "output": "中国的首都是北京。"},
]


def table(rows: list[dict[str, str]], delimiter: str = ",", *, quoting: int = csv.QUOTE_MINIMAL) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter, quoting=quoting)  # type: ignore[arg-type]
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def asked(row: dict[str, str]) -> list[dict[str, str]]:
    question = "\n".join(part for part in (row["instruction"], row.get("input", "")) if part)
    return chat(question, row["output"])["messages"]  # type: ignore[no-any-return]


def told(path: Path, content: bytes, reading: Reading | None = None) -> dict[str, Any]:
    """The one file of an inspection, with the counts and the problems."""
    contract = inspect([put(path, content)], reading or Reading()).to_json()
    return {**contract, **contract["files"][0], "usable": contract["rows"]["usable"]}


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_cells_are_text_as_they_stand(delimiter: str, pack: Any, tmp_path: Path) -> None:
    conversion = convert([put(tmp_path / "x.json", pack(table(CELLS, delimiter)))], tmp_path / "out")
    (file,) = conversion.to_json()["files"]
    assert file["container"] == ("tsv" if delimiter == "\t" else "csv")
    assert [record["messages"] for record in records(tmp_path / "out")] == [asked(row) for row in CELLS]


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_table_may_end_its_lines_in_any_way(ending: bytes, mark: bytes, tmp_path: Path) -> None:
    content = mark + ending.join([b"query,response", b"", b"a,b", b'"c","d"', b"e,f"])
    convert([put(tmp_path / "x", content)], tmp_path / "out")
    assert records(tmp_path / "out") == [chat("a", "b"), chat("c", "d"), chat("e", "f")]


def test_a_row_with_other_cells_than_columns_costs_only_itself(tmp_path: Path) -> None:
    content = b'query,response,lang\na,b,en\n"x\ny",z\nc,d,en,more\ne,f,en,\n\ng,"h,en\ni,j,en\n'
    conversion = convert([put(tmp_path / "x", content)], tmp_path / "out", accept_rejected=True)
    rejected = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_bytes().splitlines()]
    assert [(row["code"], row["row"], row["line"], row["raw"]) for row in rejected] == [
        ("missing-key", 2, 3, '"x\ny",z\n'),
        ("unparsable", 3, 5, "c,d,en,more\n"),
        ("unparsable", 5, 8, 'g,"h,en\n'),
    ]
    assert [content[row["byte"] :].startswith(row["raw"].encode()) for row in rejected] == [True] * 3
    assert [record["messages"][0]["content"] for record in records(tmp_path / "out")] == ["a", "e", "i"]
    assert (conversion.inspection.input.total, conversion.inspection.input.usable) == (6, 3)


def test_a_column_of_whole_conversations_alone_is_a_table(tmp_path: Path) -> None:
    content = table([{"messages": json.dumps(row["messages"])} for row in MESSAGES])
    contract = told(tmp_path / "x", content)
    assert (contract["container"], contract["columns"]) == ("csv", ["messages"])
    assert str(contract["next"]).endswith("--map messages=messages")
    done = convert([tmp_path / "x"], tmp_path / "out", Reading(mapping={"messages": "messages"}))
    assert done.to_json()["rows"]["usable"] == len(MESSAGES)
    assert told(tmp_path / "y", b"Conversations\nare long\nor short\n")["container"] == "text"


def test_a_cell_that_is_no_utf8_costs_its_row(tmp_path: Path) -> None:
    content = table(CELLS) + b'x,"a\n\xff",y\n' + b"p,q,r\n"
    inspection = inspect([put(tmp_path / "x", content)])
    assert inspection.input.tally.counts == {"encoding": 1}
    assert (inspection.input.total, inspection.input.usable) == (5, 4)


@pytest.mark.parametrize(
    ("content", "container", "columns"),
    [
        (b"sentence,sentiment\ngood,1\nbad,0\nfine,1\n", "csv", ["sentence", "sentiment"]),
        ("问题\t答案\n天空是什么颜色？\t蓝色\n草呢？\t绿色\n".encode(), "tsv", ["问题", "答案"]),
        (b"fix\t12\nadd\t7\nrename\t5\n", "tsv", ["column_1", "column_2"]),
        (b'"2","a title","a long text, with a comma"\n"1","b","c"\n"2","d","e"\n', "csv", ["column_1"]),
        (b",text,label\n0,good,1\n1,bad,0\n", "csv", ["column_1", "text", "label"]),
        (b"query, response\na, b\nc, d\n", "csv", ["query", "response"]),
        (b"text,text\na,b\n", "csv", ["text", "text_2"]),
        (b"text_3,text,text\na,b,c\n", "csv", ["text_3", "text", "text_3_3"]),
        (b'text\nhello\n"one, two"\n', "csv", ["text"]),
    ],
)
def test_columns_are_named_by_the_header_or_numbered(
    content: bytes, container: str, columns: list[str], tmp_path: Path
) -> None:
    found = told(tmp_path / "x", content)
    assert found["container"] == container
    assert set(columns) <= set(found["columns"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"fix\t12\nadd\t7\nrename\t5\n", "column_1, column_2"),
        ("请问中国的首都在哪里？\n".encode("gb18030"), "GB18030"),
        ("请问中国的首都在哪里？\n".encode("utf-16-le"), "UTF-16-LE"),
        (b"one line\nand another\n", "--text-by paragraph"),
    ],
)
def test_what_was_guessed_is_said(content: bytes, said: str, tmp_path: Path) -> None:
    assert any(said in sentence for sentence in told(tmp_path / "x", content)["evidence"])
    assert not any("encoding" in sentence for sentence in told(tmp_path / "y", table(CELLS))["evidence"])


@pytest.mark.parametrize(
    "text",
    [
        "A line of prose, and more.\nAnother one, with a comma; or two.\nThe third has none.\n",
        "Hello, world\nGoodbye, moon\nCome back, sun\n",
        "[INST] hi [/INST] hello\n[INST] and you? [/INST] fine\n",
        "[1] Smith, J. A study.\n[2] Jones, K. Another.\n",
        "{{user}} says hi\n{{user}} says no\n",
        "床前明月光，疑是地上霜。\n举头望明月，低头思故乡。\n",
        'He wrote {"a": 1} on the board.\n{"a": 1}\nAnd left.\nNobody knew why.\n',
        "one line",
    ],
)
def test_prose_is_text_not_a_table(text: str, tmp_path: Path) -> None:
    assert told(tmp_path / "x.csv", text.encode())["container"] == "text"


@pytest.mark.parametrize(
    "text", ["{'instruction': 'a', 'output': 'b'}\n" * 3, '{"a": 1,}\n' * 3, '[\n{"a": 1,},\n{"a": 2,}\n]']
)
def test_broken_json_is_not_taken_for_text(text: str, tmp_path: Path) -> None:
    found = told(tmp_path / "x.txt", text.encode())
    assert found["container"].startswith("json")
    assert found["rows"] > 0 == found["usable"]


@pytest.mark.parametrize("text", ['"alpha"\n"beta"\n"gamma"\n', "1\n2\n3\n"])
def test_a_list_of_words_is_not_text_to_learn(text: str, tmp_path: Path) -> None:
    assert told(tmp_path / "x", text.encode())["format"] == "not-training-data"


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_a_line_of_text_is_a_row(ending: str, tmp_path: Path) -> None:
    text = ending.join(["第一章", "", "  indented, with a comma ", "\u3000", "last"])
    conversion = convert([put(tmp_path / "x", text.encode())], tmp_path / "out")
    assert records(tmp_path / "out") == [{"text": "第一章"}, {"text": "  indented, with a comma "}, {"text": "last"}]
    assert conversion.inspection.stage == "pt"


def test_text_is_read_by_paragraphs_where_asked(tmp_path: Path) -> None:
    content = b"\n\none\ntwo\n \t\nthree\n\n\nfour\nfive"
    convert([put(tmp_path / "x", content)], tmp_path / "out", Reading(text_by="paragraph"))
    assert records(tmp_path / "out") == [{"text": "one\ntwo"}, {"text": "three"}, {"text": "four\nfive"}]


def test_a_line_of_text_that_is_no_utf8_costs_itself(tmp_path: Path) -> None:
    content = "été\n".encode() * 3 + b"a\xffb\n" + "à\n".encode()
    inspection = inspect([put(tmp_path / "x", content)])
    (problem,) = inspection.to_json()["problems"][:1]
    assert problem["code"] == "encoding"
    assert problem["examples"][0]["line"] == 4
    assert problem["examples"][0]["byte"] == 18


def test_text_that_looks_like_a_table_is_text_where_asked(tmp_path: Path) -> None:
    content = b"name,place\nAnn,Oslo\nBob,Rome\n"
    convert([put(tmp_path / "x", content)], tmp_path / "out", Reading(format="text"))
    assert [record["text"] for record in records(tmp_path / "out")] == content.decode().splitlines()


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_object_of_rows_is_as_many_rows(indent: int | None, pack: Any, tmp_path: Path) -> None:
    rows = {f"a/{number}.json": row for number, row in enumerate(SHAREGPT)}
    content = json.dumps(rows, indent=indent).encode()
    conversion = convert([put(tmp_path / "x", pack(content))], tmp_path / "out")
    assert conversion.to_json()["files"][0]["container"] == "json-keyed"
    assert [record["messages"] for record in records(tmp_path / "out")] == [
        chat("hi", "hello")["messages"],
        chat("{brace } in text", '"quoted"')["messages"],
    ]
    assert [record["meta"] for record in records(tmp_path / "out")] == [{"id": "a/0.json"}, {"id": "a/1.json"}]


def test_an_object_of_conversations_is_as_many_rows(tmp_path: Path) -> None:
    content = json.dumps({str(number): row["messages"] for number, row in enumerate(MESSAGES)}, indent=1).encode()
    convert([put(tmp_path / "x", content)], tmp_path / "out")
    assert records(tmp_path / "out") == MESSAGES


def test_a_bad_row_of_an_object_is_named_by_line_and_byte(tmp_path: Path) -> None:
    content = json.dumps({"a": ALPACA[0], "b": {**ALPACA[1], "output": 1}, "c": ALPACA[2]}, indent=1).encode()
    inspection = inspect([put(tmp_path / "x", content)])
    (example,) = inspection.to_json()["problems"][0]["examples"]
    start = content.index(b"{", content.index(b'"b"'))
    assert (example["row"], example["byte"]) == (2, start)
    assert example["line"] == content[:start].count(b"\n") + 1
    with pytest.raises(FinetuiError) as raised:
        inspect([put(tmp_path / "x", content[:-20])])
    assert raised.value.problems[0].code == "data.truncated-object"


def test_broken_rows_of_an_object_cost_only_themselves(tmp_path: Path) -> None:
    rows = [json.dumps(row, indent=1) for row in ALPACA * 2]
    rows[1] = rows[1].replace('"hello"', '"hel"lo"')  # a quote that is not escaped
    rows[3] = rows[3].replace("{", "{{", 1)  # a brace that is not closed
    content = "{" + ",\n".join(f'"row {number}": {row}' for number, row in enumerate(rows)) + "}"
    inspection = inspect([put(tmp_path / "x", content.encode())])
    (problem,) = (problem for problem in inspection.to_json()["problems"] if problem["code"] == "unparsable")
    assert [example["row"] for example in problem["examples"]] == [2, 4]
    assert (inspection.input.total, inspection.input.usable) == (6, 4)


@pytest.mark.parametrize(
    "value",
    [
        {"chosen": {"role": "assistant", "content": "a"}, "rejected": {"role": "assistant", "content": "b"}},
        {"one": {"file_name": "a.json"}, "two": {"file_name": "b.json"}},
    ],
)
def test_one_row_and_a_registry_are_no_objects_of_rows(value: Any, tmp_path: Path) -> None:
    assert told(tmp_path / "x", json.dumps(value, indent=1).encode())["container"] == "json-object"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "gb18030"])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("kind", ["jsonl", "array", "csv", "text"])
def test_text_in_another_encoding_is_the_same_text(encoding: str, ending: bytes, kind: str, tmp_path: Path) -> None:
    content = {
        "jsonl": jsonl(CHINESE),
        "array": json.dumps(CHINESE, ensure_ascii=False, indent=2).encode(),
        "csv": table(CHINESE).replace(b"\r\n", b"\n"),
        "text": "\n".join(row["output"] for row in CHINESE).encode(),
    }[kind]
    path = put(tmp_path / "x", content.replace(b"\n", ending).decode().encode(encoding))
    (file,) = convert([path], tmp_path / "out").to_json()["files"]
    assert file["encoding"] == {"utf-16": "utf-16-le"}.get(encoding, encoding)
    if kind == "text":
        assert records(tmp_path / "out") == [{"text": row["output"]} for row in CHINESE]
    else:
        assert [record["messages"] for record in records(tmp_path / "out")] == [asked(row) for row in CHINESE]


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16-le"])
def test_broken_text_in_another_encoding_costs_its_row(encoding: str, tmp_path: Path) -> None:
    good = jsonl(CHINESE * 20).decode()
    broken = {"gb18030": b"\xff\xff", "utf-16-le": b"\x00\xd8"}[encoding]
    row = '{"instruction": "请问', '好", "output": "好"}\n'
    content = good.encode(encoding) + row[0].encode(encoding) + broken + row[1].encode(encoding)
    inspection = inspect([put(tmp_path / "x", content)])
    (example,) = next(p for p in inspection.to_json()["problems"] if p["code"] == "encoding")["examples"]
    assert (example["row"], example["line"], example["byte"]) == (41, 41, None)
    assert (inspection.input.total, inspection.input.usable) == (41, 40)


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("latin-1", "Été à la plage, garçon très déçu ; où êtes-vous allés ?\n"),
        ("cp1251", "Столица России — Москва. Это предложение нужно для проверки.\n"),
        ("big5", "臺灣的首都是臺北。這是一個用來測試編碼的句子，請不要把它當成簡體中文。\n"),
        ("shift_jis", "日本の首都は東京です。これは文字コードを調べるための文章です。\n"),
        ("euc-jp", "日本の首都は東京です。これは文字コードを調べるための文章です。\n"),
        ("euc-kr", "대한민국의 수도는 서울이다. 한국어를 사용하는 사람들은 대부분 한반도에 산다.\n"),
    ],
)
def test_an_encoding_that_is_not_read_is_not_taken_for_chinese(encoding: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(FinetuiError) as raised:
        inspect([put(tmp_path / "x", text.encode(encoding) * 3)])
    assert [problem.code for problem in raised.value.problems] == ["data.not-utf8"]


def test_a_line_without_end_is_one_row_that_is_set_aside(tmp_path: Path) -> None:
    row = b'{"instruction": "a", "output": "b"}\n'
    path = tmp_path / "x"
    with path.open("wb") as stream:
        stream.write(row)
        stream.seek(70 << 20, io.SEEK_CUR)  # a hole: a line of zero bytes, beyond the longest row
        stream.write(b"\n" + row)
    inspection = inspect([path])
    (problem,) = (problem for problem in inspection.to_json()["problems"] if problem["code"] == "unparsable")
    assert (problem["count"], problem["examples"][0]["line"]) == (1, 2)
    assert (inspection.input.total, inspection.input.usable) == (3, 2)


def test_brackets_without_end_are_one_row_that_is_set_aside(tmp_path: Path) -> None:
    deep = b'{"instruction": ' + b"[" * 100_000 + b"]" * 100_000 + b', "output": "a"}'
    rows = [json.dumps(row).encode() for row in ALPACA]
    for content in (b"\n".join([*rows, deep]), b"[" + b",".join([*rows, deep]) + b"]"):
        inspection = inspect([put(tmp_path / "x", content)])
        assert inspection.input.tally.counts["unparsable"] == 1
        assert (inspection.input.total, inspection.input.usable) == (4, 3)
