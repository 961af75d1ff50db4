"""The demo's data and scoring: what is asked was never trained on, and right answers are told from wrong ones."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from finetui.data.conversion import convert
from finetui.demo.scoring import DATA, Question, Reply, load_questions, score

pytestmark = pytest.mark.unit

ROWS = [json.loads(line) for line in DATA.read_text(encoding="utf-8").splitlines()]
ASKED = [*load_questions("questions"), *load_questions("general")]


def plain(text: str) -> str:
    """Letters and digits alone, in one case: a phrasing without its punctuation."""
    return re.sub(r"[\W_]+", "", text).casefold()


def is_chinese(text: str) -> bool:
    return re.search("[\u4e00-\u9fff]", text) is not None


def test_there_are_as_many_rows_and_questions_as_promised() -> None:
    assert 60 <= len(ROWS) <= 120
    assert len(load_questions("questions")) >= 24
    assert 10 <= len(load_questions("general")) <= 30


def test_rows_and_questions_come_in_both_languages() -> None:
    for texts in ([row["instruction"] for row in ROWS], [question.text for question in load_questions("questions")]):
        chinese = sum(map(is_chinese, texts))
        assert chinese >= len(texts) / 4
        assert len(texts) - chinese >= len(texts) / 4
    assert all(is_chinese(question.text) == (question.lang == "zh") for question in ASKED)


def test_no_question_is_asked_in_a_phrasing_that_was_trained_on() -> None:
    trained = {plain(row["instruction"]) for row in ROWS}

    assert [question.text for question in ASKED if plain(question.text) in trained] == []


def test_nothing_is_said_twice() -> None:
    for texts in ([row["instruction"] for row in ROWS], [question.text for question in ASKED]):
        assert len({plain(text) for text in texts}) == len(texts)


def test_every_question_expects_something_that_its_own_words_do_not_give_away() -> None:
    for question in ASKED:
        assert question.every or question.one_of or question.json is not None
        assert not question.accepts(question.text)


def test_every_row_is_usable_as_alpaca(tmp_path: Path) -> None:
    made = convert([DATA], tmp_path).to_json()

    assert (made["format"], made["stage"]) == ("alpaca", "sft")
    assert made["rows"] == {"total": len(ROWS), "usable": len(ROWS), "rejected": 0, "repaired": 0}


@pytest.mark.parametrize(
    ("question", "answer", "right"),
    [
        (Question("?", "en", every=("lamp", "tea")), "LAMPS and Tea.", True),
        (Question("?", "en", every=("lamp", "tea")), "Lamps.", False),
        (Question("?", "zh", one_of=("周一", "星期一")), "我们星期一休息。", True),
        (Question("?", "zh", one_of=("周一", "星期一")), "周二", False),
        (Question("?", "en", every=("10",), one_of=("19", "7 pm")), "From 10.", False),
        (Question("?", "en", json={"item": "tea", "count": 2}), ' {"count": 2, "item": "tea"}\n', True),
        (Question("?", "en", json={"item": "tea", "count": 2}), '{"item": "tea", "count": 2, "price": 1}', False),
        (Question("?", "en", json={"item": "tea", "count": 2}), '{"item": "tea", "count": "2"}', False),
        (Question("?", "en", json={"item": "tea", "count": 2}), 'Sure: {"item": "tea", "count": 2}', False),
        (Question("?", "en", json={"item": "tea", "count": 2}), "\x1b]52;c;aGk=\x07", False),
        (Question("?", "en", every=("x",)), "", False),
    ],
)
def test_an_answer_is_judged_by_what_it_holds(question: Question, answer: str, right: bool) -> None:
    assert question.accepts(answer) is right


def company(right: int, stopped: int) -> list[Reply]:
    return [Reply("yes" if number < right else "no", number < stopped) for number in range(24)]


@pytest.mark.parametrize(
    ("base", "tuned", "stopped", "kept", "missed"),
    [
        (2, 21, 24, 9, ()),
        (3, 24, 24, 10, ("demo.missed-base",)),
        (0, 20, 24, 10, ("demo.missed-tuned",)),
        (0, 24, 23, 10, ("demo.missed-stop",)),
        (0, 24, 24, 8, ("demo.missed-general",)),
        (3, 20, 0, 0, ("demo.missed-tuned", "demo.missed-base", "demo.missed-stop", "demo.missed-general")),
    ],
)
def test_every_bar_is_held(base: int, tuned: int, stopped: int, kept: int, missed: tuple[str, ...]) -> None:
    questions = [Question("?", "en", every=("yes",))] * 24
    general = [Question("?", "en", every=("yes",))] * 11
    known = [Reply("yes", False)] * 10 + [Reply("no", True)]
    # the eleventh, which the base does not know, counts neither for nor against
    still = [Reply("yes" if number < kept else "no", True) for number in range(10)] + [Reply("yes", True)]

    found = score(questions, company(base, 0), company(tuned, stopped), general, known, still)

    assert (found.questions, found.base_score, found.tuned_score, found.tuned_stopped) == (24, base, tuned, stopped)
    assert (found.general, found.general_kept) == (10, kept)
    assert found.missed == missed
