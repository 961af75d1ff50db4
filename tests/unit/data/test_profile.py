"""The figures of a dataset under a model: lengths, cutoffs, samples with their error, and what is kept of them."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from finetui.cli.main import run
from finetui.core import home
from finetui.core.encode import Template, encode_rows, load_template, load_tokenizer
from finetui.data import Place, Record, iter_records
from finetui.data.files.reservoir import Reservoir
from finetui.data.profile.languages import language
from finetui.data.profile.lengths import (
    Cut,
    Lengths,
    bins,
    percentile,
    percentile_interval,
    share_interval,
    total,
    total_interval,
)
from finetui.data.profile.measures import Measures
from finetui.data.profile.profiles import Profile, profile
from tests.encoding import assistant, user

pytestmark = pytest.mark.unit

COUNTS = st.dictionaries(st.integers(0, 5000), st.integers(1, 50), min_size=1, max_size=40).map(Counter)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> tuple[Tokenizer, Template]:
    """One token a byte, so lengths are known beforehand."""
    tokenizer = load_tokenizer(tiny_model)
    return tokenizer, load_template(tiny_model, tokenizer)


def chat(question: str, answer: str, **more: Any) -> dict[str, Any]:
    """One conversation."""
    return {"messages": [user(question), assistant(answer)], **more}


def chats(count: int, longest: int = 400) -> list[dict[str, Any]]:
    """Conversations of many lengths."""
    chance = random.Random(7)
    return [chat(f"question {n}", "a" * chance.randrange(1, longest)) for n in range(count)]


def put(path: Path, rows: list[Any]) -> str:
    """A JSONL file of these rows, and its name."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def measured(path: Path, rows: list[Any], model: tuple[Tokenizer, Template], **options: Any) -> Profile:
    """The profile of these rows."""
    return profile(iter_records([put(path / "rows.jsonl", rows)]), *model, **options)


# Lengths


def test_a_cutoff_is_told_from_counts_as_it_is_from_rows(model: tuple[Tokenizer, Template]) -> None:
    rows = [
        row
        for n in range(1, 40)
        for row in encode_rows({"messages": [user("q"), assistant("a" * n)] * (1 + n % 3)}, *model)
    ]
    lengths = Lengths()
    for row in rows:
        lengths.add(len(row.input_ids), row.trained())
    for limit in range(1, lengths.longest + 2):
        kept = [sum(label != -100 for label in row.labels[1:limit]) for row in rows]
        had = [sum(label != -100 for label in row.labels[1:]) for row in rows]
        answers = [answer for row in rows for answer in row.trained()]
        assert lengths.cut(limit) == Cut(
            max_length=limit,
            rows=sum(len(row.input_ids) > limit for row in rows),
            losing=sum(a < b for a, b in zip(kept, had, strict=True)),
            emptied=sum(a == 0 for a in kept),
            tokens=sum(had) - sum(kept),
            answers=sum(start >= limit for start, _ in answers),
            broken=sum(start < limit < end for start, end in answers),
        )


def test_the_first_token_of_a_row_is_never_trained() -> None:
    lengths = Lengths()
    lengths.add(10, [(0, 10)])
    lengths.add(1, [(0, 1)])
    assert total(lengths.trained) == 9
    assert lengths.cut(5).tokens == 5
    assert lengths.rows == 2


def test_lengths_add_up_and_can_be_kept() -> None:
    one, other, both = Lengths(), Lengths(), Lengths()
    one.add(5, [(2, 4)])
    other.add(9, [(1, 3), (6, 9)])
    both.add(5, [(2, 4)])
    both.add(9, [(1, 3), (6, 9)])
    one.take(other)
    assert one == both
    assert Lengths.from_json(json.loads(json.dumps(both.to_json()))) == both


@given(COUNTS, st.floats(0.01, 1))
def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed(counts: Counter[int], share: float) -> None:
    values = sorted(counts.elements())
    found = percentile(counts, share)
    assert found in counts
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6
    assert sum(value < found for value in values) < share * len(values) + 1e-6


@given(COUNTS)
def test_what_was_measured_whole_has_no_error(counts: Counter[int]) -> None:
    rows = counts.total()
    for share in (0.5, 0.95):
        assert percentile_interval(counts, share, rows) == (percentile(counts, share),) * 2
    assert total_interval(counts, rows) == (total(counts),) * 2
    assert share_interval(3, rows, rows) == (3 / rows,) * 2


@given(COUNTS)
def test_bins_are_of_equal_round_width_and_hold_everything(counts: Counter[int]) -> None:
    found = bins(counts)
    widths = {high - low + 1 for low, high, _ in found}
    assert len(found) <= 13
    assert len(widths) == 1
    assert str(widths.pop()).rstrip("0") in ("1", "2", "5")
    assert sum(rows for _, _, rows in found) == counts.total()
    for value, count in counts.items():
        assert any(low <= value <= high and rows >= count for low, high, rows in found)
    assert bins(Counter()) == []


def test_intervals_hold_the_truth_in_about_95_of_100_samples() -> None:
    chance = random.Random(3)
    everything = [int(chance.lognormvariate(6, 1)) for _ in range(5000)]
    whole = Counter(everything)
    rare = sum(value > 4000 for value in everything)
    held = Counter[str]()
    for _ in range(300):
        sample = Counter(chance.sample(everything, 500))
        for name, share in (("p50", 0.5), ("p95", 0.95)):
            low, high = percentile_interval(sample, share, len(everything))
            held[name] += low <= percentile(whole, share) <= high
        low, high = total_interval(sample, len(everything))
        held["total"] += low <= total(whole) <= high
        met = sum(count for value, count in sample.items() if value > 4000)
        least, most = share_interval(met, 500, len(everything))
        held["share"] += least <= rare / len(everything) <= most
    assert all(0.9 <= held[name] / 300 <= 0.99 for name in ("p50", "p95", "total", "share")), held


def test_nothing_found_in_a_sample_is_not_taken_for_nothing() -> None:
    low, high = share_interval(0, 2000, 1_000_000)
    assert low == 0
    assert 0.001 < high < 0.003


# A fair sample


def test_a_reservoir_is_fair_the_same_each_time_and_in_order() -> None:
    met = Counter[int]()
    for shift in range(300):
        drawn: Reservoir[int] = Reservoir(20)
        for number in range(100):
            drawn.offer((number + shift) % 100, 1)
        met.update(drawn.items())
    assert len(met) == 100
    assert min(met.values()) > 30
    first, second = (Reservoir[int](20) for _ in range(2))
    for number in range(1000):
        first.offer(number, 1)
        second.offer(number, 1)
    assert first.items() == second.items() == sorted(first.items())


def test_a_reservoir_is_bounded_in_bytes() -> None:
    drawn: Reservoir[int] = Reservoir(1000, most_bytes=10_000)
    for number in range(5000):
        drawn.offer(number, 100)
    assert 10 < len(drawn.items()) <= 100
    assert max(drawn.items()) > 2500
    one: Reservoir[int] = Reservoir(10, most_bytes=5)
    one.offer(1, 100)
    assert one.items() == [1]


# A profile


def test_rows_are_measured_as_the_trainer_sees_them(tmp_path: Path, model: tuple[Tokenizer, Template]) -> None:
    rows = chats(50)
    found = measured(tmp_path, rows, model)
    lengths = found.measures.lengths()
    encoded = [row for record in rows for row in encode_rows(record, *model)]
    assert lengths.tokens == Counter(len(row.input_ids) for row in encoded)
    assert lengths.trained == Counter(sum(label != -100 for label in row.labels) for row in encoded)
    assert found.exact
    assert found.longest == max(len(row.input_ids) for row in encoded)
    assert found.measures.roles == {"user": 50, "assistant": 50}
    assert found.measures.turns == {1: 50}
    assert found.measures.kinds == {"chat": 50}
    assert not found.measures.counts


def test_several_processes_come_to_the_same_figures(
    tmp_path: Path, model: tuple[Tokenizer, Template], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetui.data.profile.profiles._PIECE_BYTES", 1 << 13)
    rows = [*chats(300), chat("q", "a" * 5000), *chats(100)]
    alone = measured(tmp_path, rows, model)
    for kept in (home.folder("cache") / "profiles").iterdir():
        kept.unlink()
    shared = measured(tmp_path, rows, model, processes=2)
    assert shared == alone
    assert shared.places[shared.measures.longest[0][1]].row == 301


def test_a_sample_is_drawn_over_the_whole_and_says_how_many_there_are(
    tmp_path: Path, model: tuple[Tokenizer, Template]
) -> None:
    rows = chats(1000)
    found = measured(tmp_path, rows, model, sample=300)
    assert (found.rows, found.measures.rows, found.exact) == (1000, 300, False)
    low, high = percentile_interval(found.measures.lengths().tokens, 0.95, 1000)
    truth = percentile(measured(tmp_path, rows, model).measures.lengths().tokens, 0.95)
    assert low <= truth <= high
    assert any(place.row > 300 for place in found.places.values())
    assert measured(tmp_path, rows, model, sample=300) == found
    assert measured(tmp_path, rows[:200], model, sample=300).exact


def test_what_is_odd_is_counted_with_its_places(tmp_path: Path, tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    source = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}"
    )
    (tmp_path / "own.jinja").write_text(source)
    template = load_template(tiny_model, tokenizer, str(tmp_path / "own.jinja"))
    rows = [
        chat("q", "a"),
        {"messages": [{"role": "system", "content": "s"}, user("q"), assistant("a")]},
        {"messages": [user("q"), assistant("a", train=False)]},
    ]
    found = measured(tmp_path, rows, (tokenizer, template))
    assert found.measures.counts == {"unstopped": 1, "refused": 1, "no-trained-token": 1}
    where = {code: [found.places[n].row for n, _ in shown] for code, shown in found.measures.examples.items()}
    assert where == {"unstopped": [1], "refused": [2], "no-trained-token": [3]}


def test_preference_rows_have_two_sides(tmp_path: Path, model: tuple[Tokenizer, Template]) -> None:
    pair = {"prompt": [user("q")], "chosen": [assistant("aa")], "rejected": [assistant("a")]}
    found = measured(tmp_path, [pair], model)
    assert {side: lengths.longest for side, lengths in found.measures.sides.items()} == {"chosen": 24, "rejected": 23}
    assert found.measures.lengths().rows == 2
    assert found.measures.rows == 1


def test_figures_are_kept_by_content(
    tmp_path: Path, model: tuple[Tokenizer, Template], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetui.data.profile.profiles._PIECE_BYTES", 1 << 14)
    rows = chats(200)
    before = measured(tmp_path, rows, model)
    encoded: list[int] = []
    add = Measures.add

    def counted(self: Measures, *arguments: Any) -> None:
        encoded.append(1)
        add(self, *arguments)

    monkeypatch.setattr(Measures, "add", counted)
    (tmp_path / "elsewhere").mkdir()
    again = measured(tmp_path / "elsewhere", rows, model)
    assert not encoded
    assert again.measures == before.measures
    assert {place.file for place in again.places.values()} == {str(tmp_path / "elsewhere" / "rows.jsonl")}
    measured(tmp_path, [*rows, chat("new", "row")], model)
    assert 0 < len(encoded) < 100
    encoded.clear()
    changed = [*rows[:-1], chat("other", "row")]
    assert measured(tmp_path, changed, model).measures != before.measures
    assert encoded


def test_another_template_is_another_profile(
    tmp_path: Path, tiny_model: Path, model: tuple[Tokenizer, Template]
) -> None:
    rows = chats(20)
    tokenizer = model[0]
    other = load_template(tiny_model, tokenizer, "vicuna")
    assert measured(tmp_path, rows, model).measures != measured(tmp_path, rows, (tokenizer, other)).measures


def test_a_damaged_or_unwritable_cache_costs_nothing_but_time(
    tmp_path: Path, model: tuple[Tokenizer, Template]
) -> None:
    rows = chats(20)
    before = measured(tmp_path, rows, model)
    (kept,) = (home.folder("cache") / "profiles").iterdir()
    for damage in (b"", b"nonsense", kept.read_bytes()[:20]):
        kept.write_bytes(damage)
        assert measured(tmp_path, rows, model) == before
    kept.unlink()
    kept.parent.rmdir()
    kept.parent.write_text("a file where the folder should be")
    assert measured(tmp_path, rows, model) == before


def test_rows_that_raise_end_the_profile(model: tuple[Tokenizer, Template]) -> None:
    def records() -> Iterator[Record]:
        yield Record(chat("q", "a"), json.dumps(chat("q", "a")).encode() + b"\n", Place("x", 1, 1, 0))
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        profile(records(), *model)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("The weather is nice and you know it.", "en"),
        ("今天天气很好，请用 Python 写一个 function。", "zh"),
        ("今日はとても良い天気です。", "ja"),
        ("안녕하세요, 반갑습니다.", "ko"),
        ("Das ist nicht die Antwort, die ich mir gewünscht habe.", "de"),
        ("C'est une belle journée dans la ville pour vous.", "fr"),
        ("El tiempo es bueno para los niños de la ciudad.", "es"),
        ("Как дела? Это не то, что я хотел.", "ru"),
        ("Як справи? Це не те, що я хотів.", "uk"),
        ("ما هذا الذي في البيت من كتاب", "ar"),
        ("یہ کتاب کے بارے میں ہے اور نہیں", "ur"),
        ("สวัสดีครับ", "th"),
        ("def f(x): return x+1", "other"),
        ("12 + 30 = 42", "none"),
        ("", "none"),
        ("ⰀⰁⰂ", "other"),
    ],
)
def test_languages_are_told_by_script_and_small_words(text: str, code: str) -> None:
    assert language(text) == code


# The command


@pytest.fixture
def stats(tmp_path: Path, tiny_model: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    """Runs `preview --stats --json` over rows and gives what it answers."""

    def call(rows: list[Any] | str, *options: str, exit_code: int = 0) -> dict[str, Any]:
        name = rows if isinstance(rows, str) else put(tmp_path / "rows.jsonl", rows)
        assert run(["preview", name, "--model", str(tiny_model), "--stats", "--json", *options]) == exit_code
        found: dict[str, Any] = json.loads(capfd.readouterr().out)
        return found

    return call


def test_the_contract_of_stats(stats: Any) -> None:
    found = stats([chat("q", "a" * 10), chat("q", "a" * 20), chat("q", "a" * 20), chat("q", "")], "--max-length", "35")
    assert found["rows"] == {"total": 4, "usable": 3, "repaired": 0, "rejected": 1, "measured": 3, "held_out": {}}
    assert found["exact"] is True
    assert found["tokens"] == {
        "p50": 42,
        "p95": 42,
        "max": 42,
        "p50_interval": [42, 42],
        "p95_interval": [42, 42],
        "total": 116,
        "total_interval": [116, 116],
        "trained": 53,
    }
    assert found["cutoffs"] == [
        {
            "max_length": 35,
            "rows": 2,
            "losing": 2,
            "emptied": 0,
            "tokens": 12,
            "answers": 0,
            "broken": 2,
            "of": {"rows": 3, "tokens": 53, "answers": 3},
            "share": [0.666667, 0.666667],
        }
    ]
    assert {problem["code"]: problem["count"] for problem in found["problems"]} == {
        "empty-assistant": 1,
        "duplicate": 1,
        "answer-truncated": 2,
        "too-long": 2,
    }
    (cut,) = (problem for problem in found["problems"] if problem["code"] == "answer-truncated")
    assert [(example["row"], example["detail"]) for example in cut["examples"]] == [(2, "41 > 35"), (3, "41 > 35")]
    assert sum(bin["rows"] for bin in found["histogram"]) == 3
    assert found["unstopped"] == {"count": 0, "share": [0, 0], "examples": []}


def test_without_a_cutoff_the_usual_ones_are_tried(stats: Any) -> None:
    found = stats([chat("q", "a" * 600), chat("q", "a" * 3000)])
    assert [cut["max_length"] for cut in found["cutoffs"]] == [256, 512, 1024, 2048]
    assert stats([chat("q", "a")])["cutoffs"] == []


def test_a_sample_states_its_error(stats: Any) -> None:
    found = stats(chats(1000), "--sample", "200")
    assert found["exact"] is False
    assert found["rows"]["measured"] == 200
    low, high = found["tokens"]["p95_interval"]
    assert low < found["tokens"]["p95"] <= high
    low, high = found["tokens"]["total_interval"]
    truth = stats(chats(1000), "--full")["tokens"]["total"]
    assert low < truth < high
    assert found["unstopped"]["share"][1] > 0


def test_rows_in_training_and_evaluation_are_found(stats: Any, tmp_path: Path) -> None:
    held = put(tmp_path / "held.jsonl", [chat("q", "2", id="x"), chat("q", "new")])
    found = stats([chat("q", "1"), chat("q", "2"), chat("q", "3")], "--eval-data", held)
    (leak,) = (problem for problem in found["problems"] if problem["code"] == "leaks-split")
    assert leak["count"] == 1
    assert leak["examples"][0]["row"] == 2
    assert found["rows"]["held_out"] == {"validation": 2}
    assert found["rows"]["measured"] == 2


def test_data_of_which_nothing_is_usable_is_refused(stats: Any) -> None:
    assert stats([chat("q", "")], exit_code=3)["errors"][0]["code"] == "data.nothing-usable"


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_figures_in_words_fit_80_columns(
    lang: str, tmp_path: Path, tiny_model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [*chats(300, 3000), chat("问题", "宽" * 400), {"messages": [user("q"), assistant("a", train=False)]}]
    name = put(tmp_path / "rows.jsonl", rows)
    for options in ([], ["--sample", "100"], ["--max-length", "600"]):
        assert run(["preview", name, "--model", str(tiny_model), "--stats", "--lang", lang, *options]) == 0
        shown = capfd.readouterr().out
        assert "█" in shown
        for line in shown.splitlines():
            assert sum(2 if ord(character) > 0x2E7F else 1 for character in line) <= 80
