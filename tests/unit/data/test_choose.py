"""Choosing rows: one seed takes the same rows everywhere, no row stands on two sides, and each is accounted for."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from finetui.cli.main import run
from finetui.core.errors import FinetuiError
from finetui.core.knobs import knobs, locked_under
from finetui.data.choose.choosing import EVERYTHING, Choosing
from finetui.data.choose.selection import Chosen, Outcome, Selection
from finetui.data.conversion import convert
from finetui.data.reader import open_input
from finetui.data.reading import Reading
from tests.unit.data.write import chat, put, records

pytestmark = pytest.mark.unit


def ask(number: int, **more: Any) -> dict[str, Any]:
    """One alpaca row, told by its number."""
    return {"instruction": f"Question {number}?", "output": f"Answer {number}.", **more}


def choose(
    paths: Path | str | Sequence[Path | str], choosing: Choosing = EVERYTHING, **more: Any
) -> tuple[list[Chosen], Outcome]:
    """The chosen rows, and what became of all."""
    specs = [paths] if isinstance(paths, (Path, str)) else paths
    selection = Selection([open_input(specs, Reading(), more.pop("evaluation", ()))], choosing, **more)
    return list(selection.rows()), selection.outcome


def said(rows: Iterable[Chosen], part: str | None = None) -> list[str]:
    """The questions, in order, of one part or of all."""
    return [row.record.record["messages"][0]["content"] for row in rows if part in (None, row.part)]


def values_of(rows: Iterable[Chosen], column: str) -> list[set[Any]]:
    """The values of a meta column in training and in validation."""
    return [{row.record.record["meta"][column] for row in rows if row.part == part} for part in ("train", "validation")]


def refused(*arguments: Any, **more: Any) -> list[str]:
    with pytest.raises(FinetuiError) as error:
        choose(*arguments, **more)
    return [problem.code for problem in error.value.problems]


@pytest.fixture
def hundred(tmp_path: Path) -> Path:
    """A hundred different rows."""
    return put(tmp_path / "hundred.jsonl", [ask(number) for number in range(100)])


def test_with_nothing_to_choose_all_rows_are_for_training(hundred: Path) -> None:
    rows, outcome = choose(hundred)
    assert len(said(rows, "train")) == 100
    assert (outcome.usable, outcome.kept, outcome.dropped) == (100, {"train": 100}, {})


def test_samples_are_drawn_by_the_seed_over_the_whole_file(hundred: Path) -> None:
    first = said(choose(hundred, Choosing(max_samples=30))[0])
    assert len(first) == 30
    assert said(choose(hundred, Choosing(max_samples=30))[0]) == first
    assert said(choose(hundred, Choosing(max_samples=30, seed=7))[0]) != first
    places = [int(question.split()[1][:-1]) for question in first]
    assert places == sorted(places)
    assert min(places) < 20
    assert max(places) > 80
    assert set(said(choose(hundred, Choosing(max_samples=10))[0])) < set(first)


def test_more_samples_than_rows_takes_all(hundred: Path) -> None:
    assert choose(hundred, Choosing(max_samples=1000))[1].kept == {"train": 100}


def test_each_dataset_gives_its_own_samples(hundred: Path, tmp_path: Path) -> None:
    small = put(tmp_path / "small.jsonl", [ask(number) for number in range(200, 205)])
    _, outcome = choose([hundred, small], Choosing(max_samples=10))
    assert (outcome.kept, outcome.dropped) == ({"train": 15}, {"not-drawn": 90})


def test_the_same_rows_are_taken_in_whatever_order_files_are_read(tmp_path: Path) -> None:
    files = [
        put(tmp_path / f"{name}.jsonl", [ask(number, source=name) for number in range(start, start + 60)])
        for name, start in (("a", 0), ("b", 30), ("c", 60))
    ]
    for choosing in (
        Choosing(val_size=0.2, test_size=11),
        Choosing(max_samples=25, val_size=10),
        Choosing(dedupe="exact", max_samples=25, test_size=0.1),
        Choosing(dedupe="exact", val_size=0.2, group_by="source"),
    ):
        one, other = (choose(order, choosing)[0] for order in (files, files[::-1]))
        assert sorted((row.part, row.record.line) for row in one) == sorted(
            (row.part, row.record.line) for row in other
        )


def test_a_split_has_the_rows_that_were_asked_for(hundred: Path) -> None:
    for val, test, expected in ((0.1, 5, (85, 10, 5)), (7, 0.25, (68, 7, 25)), (0.001, 0, (99, 1, 0))):
        rows, outcome = choose(hundred, Choosing(val_size=val, test_size=test))
        assert tuple(len(said(rows, part)) for part in ("train", "validation", "test")) == expected
        assert sum(outcome.kept.values()) == 100


def test_the_test_rows_stay_the_same_when_only_validation_changes(hundred: Path) -> None:
    one, other = (choose(hundred, Choosing(val_size=val, test_size=10))[0] for val in (0, 30))
    assert said(one, "test") == said(other, "test")


def test_copies_of_a_row_never_stand_on_both_sides(tmp_path: Path) -> None:
    numbers = [number % 40 for number in range(120)]
    random.Random(1).shuffle(numbers)
    path = put(tmp_path / "x.jsonl", [ask(number, row=place) for place, number in enumerate(numbers)])
    for seed in range(5):
        rows, outcome = choose(path, Choosing(val_size=0.3, test_size=0.2, seed=seed))
        sides = [set(said(rows, part)) for part in ("train", "validation", "test")]
        assert not sides[0] & sides[1]
        assert not sides[0] & sides[2]
        assert not sides[1] & sides[2]
        assert (outcome.kept["validation"], outcome.kept["test"]) == (36, 24)


@pytest.mark.parametrize("field", ["user", "meta.user", "who.name", "who.ids[1]"])
def test_rows_of_one_group_stay_together(tmp_path: Path, field: str) -> None:
    people = [number // 4 for number in range(80)]
    rows = [ask(n, user=who, who={"name": f"n{who}", "ids": [0, who]}) for n, who in enumerate(people)]
    chosen, outcome = choose(put(tmp_path / "x.jsonl", rows), Choosing(val_size=0.25, group_by=field))
    sides = values_of(chosen, "user")
    assert not sides[0] & sides[1]
    assert (outcome.kept, outcome.ungrouped) == ({"train": 60, "validation": 20}, 0)


def test_groups_that_share_a_conversation_are_one(tmp_path: Path) -> None:
    rows = [ask(number, user=number // 2) for number in range(40)]
    rows += [ask(number, user=100 + number // 4) for number in range(0, 40, 2)]
    chosen, _ = choose(put(tmp_path / "x.jsonl", rows), Choosing(val_size=0.3, group_by="user"))
    assert not set(said(chosen, "train")) & set(said(chosen, "validation"))
    users = [
        {row.record.record["meta"]["user"] for row in chosen if row.part == part} for part in ("train", "validation")
    ]
    assert users[1]
    assert not users[0] & users[1]


def test_conversations_of_one_tree_stay_together_unasked(tmp_path: Path) -> None:
    rows = [{**chat(f"{n}", "x"), "message_tree_id": n % 9} for n in range(90)]
    chosen, _ = choose(put(tmp_path / "x.jsonl", rows), Choosing(val_size=0.3))
    assert [len(trees) for trees in values_of(chosen, "message_tree_id")] == [6, 3]


def test_a_large_group_is_passed_over_for_those_that_fit(tmp_path: Path) -> None:
    rows = [ask(n, user="everyone" if n < 80 else n) for n in range(100)]
    for seed in range(5):
        _, outcome = choose(put(tmp_path / "x.jsonl", rows), Choosing(val_size=10, group_by="user", seed=seed))
        assert outcome.kept == {"train": 90, "validation": 10}


def test_large_groups_are_not_drawn_more_often_than_small_ones(tmp_path: Path) -> None:
    rows = [ask(n, user=n // 3 if n < 300 else n) for n in range(600)]
    path = put(tmp_path / "x.jsonl", rows)
    held = [choose(path, Choosing(val_size=60, group_by="user", seed=seed))[0] for seed in range(10)]
    in_large = sum(row.record.place.row <= 300 for rows in held for row in rows if row.part == "validation")
    assert 240 <= in_large <= 360


def test_rows_without_the_field_stand_for_themselves_and_are_told(tmp_path: Path) -> None:
    rows = [ask(n, **({"user": n // 2} if n < 30 else {})) for n in range(40)]
    _, outcome = choose(put(tmp_path / "x.jsonl", rows), Choosing(val_size=0.2, group_by="user"))
    assert outcome.ungrouped == 10


def test_duplicates_are_dropped_and_counted(tmp_path: Path) -> None:
    path = put(tmp_path / "x.jsonl", [ask(number % 30, row=number) for number in range(75)])
    rows, outcome = choose(path, Choosing(dedupe="exact"))
    assert sorted(said(rows)) == sorted({f"Question {number}?" for number in range(30)})
    assert (outcome.usable, outcome.dropped) == (75, {"duplicate": 45})


def test_a_row_with_many_copies_is_not_drawn_sooner(tmp_path: Path) -> None:
    path = put(tmp_path / "x.jsonl", [ask(n) for n in range(50)] + [ask(n) for n in range(50, 100) for _ in range(9)])
    drawn = [said(choose(path, Choosing(dedupe="exact", max_samples=20, seed=seed))[0]) for seed in range(20)]
    many = sum(int(question.split()[1][:-1]) >= 50 for questions in drawn for question in questions)
    assert 160 <= many <= 240


def test_a_weight_repeats_rows_or_takes_a_share_of_them(hundred: Path, tmp_path: Path) -> None:
    for weight, rows, kept, dropped in (
        ("2", 200, 100, {}),
        ("0.5", 50, 50, {"weight": 50}),
        ("1.5", 150, 100, {}),
        ("2.25", 225, 100, {}),
        ("1", 100, 100, {}),
    ):
        taken, outcome = choose(f"{hundred}@{weight}")
        assert (len(taken), outcome.kept["train"], outcome.dropped) == (rows, kept, dropped)
        assert outcome.written == {"train": rows}
        assert max(Counter(said(taken)).values()) == -(-rows // 100)
    other = put(tmp_path / "other.jsonl", [ask(number) for number in range(500, 510)])
    assert choose([f"{hundred}@0.5", f"{other}@3"])[1].written == {"train": 80}


def test_rows_that_are_held_out_are_never_repeated(hundred: Path) -> None:
    rows, _ = choose(f"{hundred}@3", Choosing(val_size=10, test_size=10))
    assert [len(said(rows, part)) for part in ("train", "validation", "test")] == [240, 10, 10]


def test_evaluation_rows_that_also_stand_in_training_are_dropped_from_it_and_told(
    hundred: Path, tmp_path: Path
) -> None:
    held = put(tmp_path / "held.jsonl", [ask(number, about="x") for number in (3, 50, 99, 500)])
    selection = Selection([open_input([hundred], Reading(), [held])], EVERYTHING)
    rows = list(selection.rows())
    assert sorted(said(rows, "validation")) == sorted(f"Question {number}?" for number in (3, 50, 99, 500))
    assert not set(said(rows, "train")) & set(said(rows, "validation"))
    assert (selection.outcome.kept, selection.outcome.dropped) == (
        {"train": 97, "validation": 4},
        {"leaks-split": 3},
    )
    [problem] = [found for found in selection.inputs[0].tally.to_json() if found["code"] == "leaks-split"]
    assert (problem["count"], [example["row"] for example in problem["examples"]]) == (3, [4, 51, 100])
    assert [example["detail"] for example in problem["examples"]] == [f"{held}:{row}" for row in (1, 2, 3)]


def test_rows_are_filtered_by_tokens_and_those_that_cannot_be_counted_are_kept(hundred: Path) -> None:
    def count(record: Mapping[str, Any]) -> int | None:
        number = int(record["messages"][0]["content"].split()[1][:-1])
        return None if number == 50 else number

    rows, outcome = choose(hundred, Choosing(min_tokens=10, max_tokens=79), count=count)
    assert len(rows) == 70
    assert (outcome.dropped, outcome.uncounted) == ({"too-long": 20, "too-short": 10}, 1)
    _, outcome = choose(hundred, Choosing(min_tokens=10, max_samples=60, val_size=0.5), count=count)
    assert outcome.kept == {"train": 30, "validation": 30}


def test_every_usable_row_is_either_kept_or_dropped(tmp_path: Path) -> None:
    rows = [ask(n % 70, user=n % 11) for n in range(150)] + [{"instruction": "", "output": "x"}]
    path, held = put(tmp_path / "x.jsonl", rows), put(tmp_path / "y.jsonl", [ask(1), ask(2)])
    choosing = Choosing(dedupe="exact", max_samples=50, val_size=0.2, test_size=5, group_by="user")
    _, outcome = choose(f"{path}@0.9", choosing, evaluation=[held])
    assert outcome.usable == 152
    assert sum(outcome.kept.values()) + sum(outcome.dropped.values()) == 152
    assert set(outcome.dropped) == {"leaks-split", "duplicate", "not-drawn", "weight"}


def test_what_cannot_be_had_is_refused(hundred: Path, tmp_path: Path) -> None:
    assert refused(hundred, Choosing(val_size=60, test_size=40)) == ["choose.split-too-large"]
    assert refused(hundred, Choosing(val_size=100)) == ["choose.split-too-large"]
    assert refused(hundred, Choosing(val_size=0.1, group_by="usre")) == ["choose.no-such-field"]
    assert refused(hundred, Choosing(max_tokens=1), count=lambda _: 9) == ["choose.nothing-left"]
    one = put(tmp_path / "one.jsonl", [ask(number, user=1) for number in range(9)])
    assert refused(one, Choosing(val_size=0.2, group_by="user")) == ["choose.groups-too-large"]
    assert refused(hundred, evaluation=[hundred]) == ["choose.nothing-left"]


def test_what_leaves_nothing_to_train_names_what_to_change(hundred: Path) -> None:
    with pytest.raises(FinetuiError) as caught:
        choose(hundred, Choosing(min_tokens=10), count=lambda _: 9)
    assert caught.value.problems[0].next() == "finetui recipes explain min_tokens"
    with pytest.raises(FinetuiError) as caught:
        choose(hundred, evaluation=[hundred])
    assert caught.value.problems[0].next() == "finetui convert --help"


def test_data_and_evaluation_data_that_are_not_there_are_told_at_once(tmp_path: Path) -> None:
    assert refused(tmp_path / "a", evaluation=[tmp_path / "b"]) == ["data.no-such-path", "data.no-such-path"]


def test_values_that_cannot_be_obeyed_are_refused_at_once() -> None:
    for values, codes in (
        ({"val_size": 1.5}, ["choose.size-not-whole"]),
        ({"val_size": 0.5, "test_size": 0.5}, ["choose.nothing-to-train"]),
        ({"min_tokens": 10, "max_tokens": 5, "test_size": 2.5}, ["choose.size-not-whole", "choose.tokens-crossed"]),
    ):
        with pytest.raises(FinetuiError) as error:
            Choosing.of(values)
        assert [problem.code for problem in error.value.problems] == codes
        assert error.value.exit_code == 2


def test_what_is_chosen_where_nothing_is_said_is_what_the_knobs_say() -> None:
    assert Choosing.of({name: knobs()[name].default for name in (*locked_under("data"), "seed")}) == EVERYTHING


def test_a_file_that_changes_between_the_passes_is_an_error(hundred: Path) -> None:
    selection = Selection([open_input([hundred])], Choosing(max_samples=5))
    selection.decided()
    put(hundred, [ask(number) for number in range(100, 200)])
    with pytest.raises(FinetuiError) as error:
        list(selection.rows())
    assert [problem.code for problem in error.value.problems] == ["choose.changed"]


def test_placeholders_are_filled_before_rows_are_checked(tmp_path: Path) -> None:
    said = {"instruction": "Who are you? {{name}}", "output": "I am {{ name }}, by {{author}}.", "note": "{{name}}"}
    path = put(tmp_path / "x.jsonl", [said, {"instruction": "a", "output": "b"}])
    done = convert([path], tmp_path / "out", Reading(fill={"name": "Milo", "nmae": "x"}))
    [first, _] = records(tmp_path / "out")
    assert [message["content"] for message in first["messages"]] == ["Who are you? Milo", "I am Milo, by {{author}}."]
    assert first["meta"] == {"note": "{{name}}"}
    assert done.chosen is not None
    assert {name: fill["rows"] for name, fill in done.chosen["fill"].items()} == {"name": 1, "nmae": 0}
    assert [problem.code for problem in done.warnings] == ["choose.unfilled"]
    [left] = [found for found in done.to_json()["problems"] if found["code"] == "placeholder"]
    assert left["examples"][0]["detail"].startswith("{{author}}")


def test_a_conversion_writes_each_part_and_is_read_again_as_it_is(hundred: Path, tmp_path: Path) -> None:
    out, again = tmp_path / "out", tmp_path / "again"
    done = convert([hundred], out, choosing=Choosing(val_size=10, test_size=5, max_samples=50)).to_json()
    assert {part: (split["file"], split["rows"]) for part, split in done["splits"].items()} == {
        "train": ("data.jsonl", 35),
        "validation": ("validation.jsonl", 10),
        "test": ("test.jsonl", 5),
    }
    assert json.loads((out / "report.json").read_text()) == done
    assert done["rows"] == {"total": 100, "usable": 100, "rejected": 0, "repaired": 0}
    assert done["chosen"]["asked"] == {"max_samples": 50, "val_size": 10, "test_size": 5}
    assert (done["chosen"]["kept"], done["chosen"]["dropped"]) == (
        {"train": 35, "validation": 10, "test": 5},
        {"not-drawn": 50},
    )
    convert([out], again)
    for name in ("data.jsonl", "validation.jsonl", "test.jsonl"):
        assert (again / name).read_bytes() == (out / name).read_bytes()


def test_a_later_conversion_leaves_no_part_of_an_earlier_one(hundred: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert([hundred], out, choosing=Choosing(val_size=10))
    convert([hundred], out)
    assert sorted(path.name for path in out.iterdir()) == ["data.jsonl", "rejected.jsonl", "report.json"]


def test_a_split_that_cannot_be_had_writes_nothing(hundred: Path, tmp_path: Path) -> None:
    with pytest.raises(FinetuiError):
        convert([hundred], tmp_path / "out", choosing=Choosing(val_size=500))
    assert list((tmp_path / "out").iterdir()) == []


def test_the_command_takes_every_choice_and_tells_what_is_wrong_with_all(
    hundred: Path, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = put(tmp_path / "held.jsonl", [ask(number) for number in (3, 500)])
    out, words = str(tmp_path / "out"), ["convert", f"{hundred}@2", "--eval-data", str(held), "--json", "--seed", "7"]
    words += ["--max-samples", "40", "--test-size", "0.25", "--dedupe", "exact", "--max-tokens", "60"]
    assert run([*words, "--fill", "name=Milo", "--model", str(tiny_model), "--out", out]) == 0
    done = json.loads(capsys.readouterr().out)
    assert {part: split["rows"] for part, split in done["splits"].items()} == {"train": 60, "validation": 2, "test": 10}
    assert done["chosen"]["seed"] == 7
    assert done["chosen"]["dropped"] == {"leaks-split": 1, "not-drawn": 59}
    assert run(["convert", str(hundred), "--out", out, "--val-size", "-1", "--fill", "x", "--json"]) == 2
    errors = json.loads(capsys.readouterr().out)["errors"]
    assert [error["code"] for error in errors] == ["knobs.bad-value", "choose.bad-fill"]
    assert run(["convert", str(hundred), "--out", out, "--max-tokens", "9"]) == 2
    assert "--model" in capsys.readouterr().err


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_command_says_in_words_what_it_chose(
    hundred: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    lang: str,
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    held = put(tmp_path / "held.jsonl", [ask(3)])
    words = ["convert", f"{hundred}@2", "--out", str(tmp_path / "out"), "--eval-data", str(held), "--max-samples", "40"]
    assert run([*words, "--lang", lang]) == 0
    shown = capsys.readouterr()
    for fact in ("validation.jsonl", "leaks-split", "80", "59"):
        assert fact in shown.out
    assert f"{hundred}:4" in shown.err


WORDS = ("river", "north", "village", "harbour", "evening", "traveller", "meadow", "winter")


def reworded(path: Path, seed: int = 0) -> Path:
    """Sixty long rows, and of the first twenty a copy with a word changed and one with two."""
    chance = random.Random(seed)

    def long(number: int) -> list[str]:
        chosen = random.Random(number)
        return [f"{chosen.choice(WORDS)}{chosen.randrange(100)}" for _ in range(80)]

    rows = [(number, long(number)) for number in range(60)]
    rows += [(number, [*long(number)[:-changed], *["other"] * changed]) for number in range(20) for changed in (1, 2)]
    chance.shuffle(rows)
    return put(path, [{"instruction": "Tell me.", "output": " ".join(words), "of": number} for number, words in rows])


def test_near_duplicates_are_dropped_whoever_is_read_first(tmp_path: Path) -> None:
    lines = reworded(tmp_path / "x.jsonl").read_text().splitlines(keepends=True)
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for file, half in zip(files, (lines[:50], lines[50:]), strict=True):
        file.write_text("".join(half))
    (one, outcome), (other, _) = (choose(order, Choosing(dedupe="near")) for order in (files, files[::-1]))
    assert outcome.dropped == {"near-duplicate": 40}
    assert sorted(row.record.record["meta"]["of"] for row in one) == list(range(60))
    assert sorted(row.record.line for row in one) == sorted(row.record.line for row in other)
    assert choose(files, Choosing(dedupe="exact"))[1].dropped == {}


def test_rows_that_nearly_stand_in_evaluation_leak_where_near_ones_count(tmp_path: Path) -> None:
    path = reworded(tmp_path / "x.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    held = tmp_path / "held.jsonl"
    held.write_text("".join(line for line in lines if json.loads(line)["of"] in (3, 40) and "other" not in line))
    _, outcome = choose(path, Choosing(dedupe="near"), evaluation=[held])
    assert outcome.dropped == {"leaks-split": 4, "near-duplicate": 38}
    assert choose(path, evaluation=[held])[1].dropped == {"leaks-split": 2}


def test_a_split_draws_from_what_deduping_leaves(tmp_path: Path) -> None:
    _, outcome = choose(reworded(tmp_path / "x.jsonl"), Choosing(dedupe="near", val_size=0.25, test_size=5))
    assert outcome.kept == {"train": 40, "validation": 15, "test": 5}


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_asked_every_row_is_accounted_for_and_stands_on_one_side(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    size = chance.randint(30, 80)
    rows = [ask(chance.randint(0, size), user=chance.randint(0, 9)) for _ in range(size)]
    files = [put(tmp_path / f"{n}.jsonl", part) for n, part in enumerate((rows[: size // 3], rows[size // 3 :]))]
    specs = [f"{file}@{chance.choice(['0.5', '1', '2', '1.7'])}" for file in files]
    choosing = Choosing(
        max_samples=chance.choice([0, 15]),
        val_size=chance.choice([0, 0.1, 0.3, 2]),
        test_size=chance.choice([0, 0.2, 1]),
        group_by=chance.choice(["", "user"]) if seed % 4 else "",
        dedupe=chance.choice(["none", "exact"]),
        seed=seed,
    )
    try:
        chosen, outcome = choose(specs, choosing)
    except FinetuiError:
        return  # the split cannot be had of so few rows
    assert outcome.usable == size == sum(outcome.kept.values()) + sum(outcome.dropped.values())
    assert Counter(row.part for row in chosen) == outcome.written
    sides = [set(said(chosen, part)) for part in ("train", "validation", "test")]
    assert sum(map(len, sides)) == len(sides[0] | sides[1] | sides[2])
    again, _ = choose(specs[::-1], choosing)
    assert Counter((row.part, row.record.line) for row in again) == Counter(
        (row.part, row.record.line) for row in chosen
    )
