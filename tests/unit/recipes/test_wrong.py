"""Wrong recipes: every error of a file is told at once, in its line, with what was expected and what to do."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetui.cli.main import run
from finetui.core.errors import FinetuiError, Problem, render
from finetui.recipes.recipe import catalogue, load_recipe
from finetui.recipes.source import read_source

pytestmark = pytest.mark.unit

WRONG = Path(__file__).with_name("wrong")
ERRORS = {
    "01-typos": """
        4 recipes.bad-header
        6 recipes.unknown-header
        9 knobs.meant
        10 knobs.unknown-near
        11 knobs.bad-value
        11 recipes.wrong-table
        13 recipes.unknown-table-near
        14 knobs.bad-value
        15 knobs.unknown-near
    """,
    "02-not-quite-toml": """
        3 recipes.unquoted
        4 recipes.not-toml
        7 recipes.not-toml
        8 recipes.unquoted
        9 knobs.bad-value
        12 recipes.not-toml
        13 knobs.bad-value
    """,
    "03-llamafactory": """
        - recipes.no-key
        2 recipes.outside
        3 knobs.other-term
        4 knobs.other-term
        5 knobs.other-name
        6 knobs.other-name
        7 knobs.other-term
        8 knobs.other-term
        9 knobs.other-term
        10 knobs.other-name
        11 knobs.other-term
        12 knobs.other-term
        13 knobs.other-term
        14 knobs.other-term
        15 knobs.other-term
        16 recipes.outside
        17 knobs.other-name
    """,
    "04-axolotl": """
        5 recipes.other-word
        6 knobs.other-term
        9 knobs.other-name
        10 knobs.other-term
        11 knobs.other-term
        14 knobs.other-name
        15 knobs.other-name
        16 knobs.other-name
        17 knobs.other-term
        20 knobs.other-name
        21 knobs.other-name
        22 knobs.other-name
        23 knobs.other-term
        24 knobs.other-term
    """,
    "05-trl-and-swift": """
        4 recipes.other-word
        8 knobs.other-term
        9 knobs.other-term
        12 knobs.other-name
        13 knobs.other-term
        16 knobs.other-name
        17 knobs.other-name
        18 knobs.other-term
        19 knobs.other-term
        20 knobs.other-term
    """,
    "06-full-with-adapter": """
        8 recipes.not-of-method
        9 recipes.not-of-method
        12 knobs.bad-value
        12 recipes.not-of-method
        15 recipes.not-of-stage
    """,
    "07-lora-with-the-rest": """
        8 recipes.not-of-method
        9 recipes.not-of-stage
        10 recipes.not-of-stage
        11 knobs.bad-value
        11 recipes.not-of-stage
    """,
    "08-packed-preferences": """
        7 recipes.not-of-stage
        10 recipes.not-of-stage
        11 recipes.not-of-method
    """,
    "09-extends-nothing": """
        4 recipes.not-found-near
        8 recipes.not-of-method
        11 knobs.bad-value
        12 knobs.unknown-near
    """,
    "10-extends-a-wrong-one": """
        7 knobs.bad-value
        8 knobs.meant
        01-typos.toml:4 recipes.bad-header
        01-typos.toml:6 recipes.unknown-header
        01-typos.toml:9 knobs.meant
        01-typos.toml:10 knobs.unknown-near
        01-typos.toml:11 knobs.bad-value
        01-typos.toml:11 recipes.wrong-table
        01-typos.toml:13 recipes.unknown-table-near
        01-typos.toml:14 knobs.bad-value
        01-typos.toml:15 knobs.unknown-near
    """,
    "11-circle": """
        4 recipes.circle
        7 knobs.bad-value
        8 knobs.other-term
    """,
    "12-no-header": """
        - recipes.no-key
        - recipes.no-key
        4 recipes.wrong-table
        6 recipes.unknown-table
        7 knobs.other-name
    """,
    "13-header": """
        3 recipes.no-text
        4 recipes.no-text
        5 recipes.other-word
        6 recipes.bad-header
        7 recipes.wrong-table
    """,
    "14-ranges": """
        8 knobs.bad-value
        9 knobs.bad-value
        10 knobs.bad-value
        13 knobs.bad-value
        14 knobs.bad-value
        17 knobs.bad-value
        18 knobs.bad-value
        19 knobs.bad-value
        20 knobs.bad-value
        21 knobs.bad-value
        22 knobs.bad-value
        23 knobs.bad-value
        26 knobs.bad-value
    """,
    "15-types": """
        8 knobs.bad-value
        9 knobs.meant
        10 knobs.bad-value
        11 knobs.bad-value
        14 knobs.bad-value
        15 knobs.bad-value
        18 knobs.bad-value
        19 knobs.bad-value
        20 knobs.bad-value
        21 knobs.meant
        22 knobs.bad-value
        23 knobs.bad-value
    """,
    "16-twice": """
        10 recipes.twice
        15 recipes.twice
        16 recipes.twice
    """,
    "17-tables": """
        2 recipes.no-table
        3 recipes.outside
        3 knobs.bad-value
        10 recipes.unknown-table-near
        11 knobs.bad-value
        13 recipes.unknown-table
        14 knobs.other-term
        16 recipes.unknown-table
        17 knobs.unknown-near
        19 recipes.no-table
    """,
    "18-inline": """
        2 recipes.bad-header
        3 knobs.bad-value
        4 knobs.unknown-near
        5 knobs.bad-value
        5 recipes.wrong-table
        5 recipes.not-of-stage
        6 knobs.bad-value
    """,
    "19-lines": """
        15 knobs.bad-value
        21 knobs.bad-value
    """,
    "20-hostile": """
        4 recipes.bad-header
        8 knobs.unknown
        9 knobs.unknown
        10 knobs.meant
        11 knobs.bad-value
    """,
}


def problems(path: Path | str) -> tuple[Problem, ...]:
    with pytest.raises(FinetuiError) as error:
        load_recipe(str(path))
    assert error.value.exit_code == 3
    return error.value.problems


def told(path: Path) -> list[str]:
    def place(problem: Problem) -> str:
        line = str(problem.line or "-")
        assert problem.file is not None
        return line if Path(problem.file).name == path.name else f"{Path(problem.file).name}:{line}"

    return [f"{place(problem)} {problem.code}" for problem in problems(path)]


def test_there_are_twenty() -> None:
    assert sorted(ERRORS) == sorted(path.stem for path in WRONG.iterdir())
    assert len(ERRORS) == 20


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_of_a_wrong_recipe_is_told_with_its_line(name: str) -> None:
    assert told(WRONG / f"{name}.toml") == [line.strip() for line in ERRORS[name].strip().splitlines()]


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_error_says_what_was_expected_and_what_to_do(name: str, lang: str) -> None:
    found = problems(WRONG / f"{name}.toml")
    for problem in found:
        assert problem.expected(lang)
        assert (problem.next(lang) or "").startswith("finetui recipes")
    shown = render(found, lang)
    assert shown.isprintable() or set(shown) - {"\n"} == {sign for sign in shown if sign.isprintable()}


@pytest.mark.parametrize(
    ("name", "line", "expected"),
    [
        ("01-typos", 9, "learning_rate = 2e-4"),
        ("01-typos", 10, "perhaps learning_rate"),
        ("03-llamafactory", 4, '[adapter] target_modules = ["q_proj", "v_proj"]'),
        ("03-llamafactory", 5, "[adapter] r = 8"),
        ("03-llamafactory", 6, "[data] max_length = 1024"),
        ("03-llamafactory", 10, "[train] warmup_steps = 0.1"),
        ("03-llamafactory", 11, '[train] dtype = "bfloat16"'),
        ("03-llamafactory", 12, '[train] attn_implementation = "flash_attention_2"'),
        ("03-llamafactory", 13, "[quantization] load_in_4bit = true"),
        ("03-llamafactory", 17, "beta: number > 0, <= 10"),
        ("04-axolotl", 10, '[adapter] target_modules = "all-linear"'),
        ("04-axolotl", 20, "[train] per_device_train_batch_size = 2"),
        ("05-trl-and-swift", 13, '[data] overlong = "drop"'),
        ("05-trl-and-swift", 18, "[data] val_size = 0"),
        ("06-full-with-adapter", 8, "r only where the method is lora"),
        ("15-types", 21, 'dtype = "bfloat16"'),
    ],
)
def test_what_another_tool_calls_it_is_said_in_our_words(name: str, line: int, expected: str) -> None:
    assert expected in [p.expected("en") for p in problems(WRONG / f"{name}.toml") if p.line == line]


def test_errors_are_json_in_english(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipes", "show", str(WRONG / "03-llamafactory.toml"), "--json", "--lang", "zh"]) == 3
    errors = json.loads(capsys.readouterr().out)["errors"]
    assert len(errors) == 17
    assert all(error["message"].isascii() and error["expected"].isascii() for error in errors)
    assert errors[-1]["line"] == 17


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '[recipe]\nstage = "sft"\nmethod = "lora"\n[adapter]\ntarget_modules = [\n"a",\n[train]\nseed = -1\n',
            [5, 8],
        ),
        ('[recipe]\nstage = "sft\nmethod = "lora"\n[train]\nseed = -1\n', [2, 5]),
        ('[recipe]\r\nstage = "sft"\r\nmethod = "lora"\r\n[train]\r\nseed = -1\r\n', [5]),
        ('\ufeff[recipe]\nstage = "sft"\nmethod = "lora"\n[train]\nseed = -1\n', [5]),
        ("[recipe]\nstage = sft\nmethod = lora # y\n[train]\ndtype = bf16\nseed = null\n", [2, 3, 5, 5, 6]),
        ("learning_rate: 2e-4\nepochs: 3\n", [1]),
        ("recipe: 1", [1]),
        ("{}", [1]),
    ],
)
def test_a_broken_statement_hides_no_other(text: str, expected: list[int], tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(text.encode())
    assert [problem.line for problem in problems(path)] == expected


def test_a_word_without_quotes_is_written_as_it_was_meant(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("[recipe]\nstage = sft\nmethod = lora\n[adapter]\nuse_dora = True\ntarget_modules = q_proj\n")
    assert [problem.expected("en") for problem in problems(path)] == [
        'stage = "sft"',
        'method = "lora"',
        "use_dora = true",
        'target_modules = "q_proj"',
    ]


def test_an_empty_file_lacks_stage_and_method(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("# nothing\n")
    assert told(path) == ["- recipes.no-key", "- recipes.no-key"]


@pytest.mark.parametrize(
    "text",
    [
        "[train]\nseed = " + "[" * 400 + "]" * 400,
        "[train]\nseed" + ".a" * 3000 + " = 1",
        "[train" + ".a" * 3000 + "]\nb = 1",
        '[train]\nseed = "' + "x" * 900_000 + '"',
        "[train]\n" + "y" * 900_000 + " = 1",
        "[train]\n" + 'a = """' * 20_000,
        "a = [\n" * 50_000,
        "x" * 2_000_000,
    ],
    ids=["lists", "dots", "table", "value", "name", "quotes", "brackets", "size"],
)
def test_what_no_person_wrote_is_an_error_of_a_few_lines(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text)
    assert all(len(line) < 1000 for line in render(problems(path), "en").splitlines())


TEXTS = [path.read_text() for path in (*catalogue().values(), *sorted(WRONG.iterdir()))]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_recipe_loads_or_is_refused_in_words(data: st.DataObject, tmp_path: Path) -> None:
    text = data.draw(st.sampled_from(TEXTS))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(at, min(len(text), at + 40)))
        text = (
            text[:at]
            + data.draw(st.sampled_from(["", "[", "]", '"', "'''", "=", "\n", "{", "\0", ".", "#"]))
            + text[end:]
        )
    path = tmp_path / "x.toml"
    path.write_text(text)
    shutil.copy(WRONG / "01-typos.toml", tmp_path)
    found: tuple[Problem, ...] = ()
    try:
        load_recipe(str(path))
    except FinetuiError as error:
        found = error.problems
    assert bool(render(found, "zh")) == bool(found)
    count = text.count("\n") + 2
    assert all(1 <= problem.line <= count for problem in found if problem.line and problem.file == str(path))


@pytest.mark.parametrize("name", catalogue())
def test_lines_are_those_of_the_keys(name: str) -> None:
    source = read_source(catalogue()[name])
    lines = source.text.splitlines()
    for table, rows in source.document.items():
        assert lines[(source.line(table) or 0) - 1].startswith(f"[{table}]")
        for key in rows:
            assert lines[(source.line(table, key) or 0) - 1].startswith(f"{key} = ")
