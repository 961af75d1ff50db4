"""What else rows of a layout could be: the ambiguous pairs, each with its tie-break, its other reading, its question.

A doubt weighs from 0 (a cue tells the readings apart) to 1 (they are equally likely); a question is asked only where
the tie-break is a guess.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from finetui.data.detection.choice import Choice
from finetui.data.detection.readings import Doubt, Option, Other, Question
from finetui.data.formats import Adapter, flat_chat
from finetui.data.formats.lead import is_turns
from finetui.data.formats.prompts import REFERENCES
from finetui.data.formats.roles import ROLES
from finetui.data.problems import Saying

_SOME = 0.1
_LETTERS = frozenset("ABCDEFGH")
_EVALUATION = ("subject", "choices", "options", "answer_idx", "answer_index", "generator", "A", "B", "C", "D")
_SURE = frozenset({"choices", "answer_idx", "answer_index", "generator"})
"""Columns of evaluation sets, and those of them that tell one by themselves."""
_LEARNED = ("assistant", "messages")
"""Parts that hold answers to learn."""
_BRIEF, _FAIR = 30, 200
"""Characters of an answer that is likely a reference or a class, and of one that may be."""


Look = Callable[[Sequence[dict[str, Any]], Adapter], Doubt | None]


def doubts(choice: Choice, adapter: Adapter) -> list[Doubt]:
    """Everything to be said about the rows of the layout that was taken."""
    rows = [row for row in choice.rows if type(row) is dict]
    if not rows:
        return []
    looks = (*_LOOKS.get(choice.format or "", ()), _number_label, _history, _arguments)
    found = [look(rows, adapter) for look in looks]
    if choice.format in _MARKED:
        found.append(_MARKED[choice.format](choice.marked, len(rows)))
    return [doubt for doubt in found if doubt]


def _text(marked: int, total: int) -> Doubt:
    """Text for pretraining, or chats rendered into text."""
    every = Saying("detect.every-token")
    if not marked:
        return Doubt((every,))
    facts = {"count": marked, "total": total}
    weight = min(1.0, marked / total / flat_chat.SHARE)
    other = Other("flat-chat", Saying("detect.why-rendered", facts), ("--stage", "sft"), weight)
    options = (
        Option("text", Saying("detect.option-text"), ("--stage", "pt")),
        Option("flat-chat", Saying("detect.option-flat-chat"), ("--stage", "sft")),
    )
    question = Question("text", Saying("detect.ask-text", facts), options) if marked >= _SOME * total else None
    return Doubt((every, Saying("detect.markers-in-text", facts)), other, question)


def _flat_chat(marked: int, total: int) -> Doubt | None:
    """The same, the other way round; a chat that is rendered into an instruction is no text."""
    if not marked:
        return None
    facts = {"count": marked, "total": total}
    weight = min(1.0, (1 - marked / total) / (1 - flat_chat.SHARE))
    return Doubt((), Other("text", Saying("detect.why-text", facts), ("--stage", "pt"), weight))


def _text_beside(rows: Sequence[dict[str, Any]], adapter: Adapter) -> Doubt | None:
    """The same row rendered, beside the columns it was made of."""
    if not any(type(row.get("text")) is str and row["text"] for row in rows):
        return None
    told = Saying("detect.text-ignored", {"answer": adapter.mapping.get("assistant", "output")})
    return Doubt((told,), Other("text", Saying("detect.why-text-beside"), ("--format", "text"), 0.1))


def _question_answer(rows: Sequence[dict[str, Any]], adapter: Adapter) -> Doubt | None:
    """Answers to learn, references for rewards, or classes: the lengths are shown, and the user is asked."""
    if adapter.mapping.get("user") != "question" or adapter.mapping.get("assistant") != "answer":
        return None
    answers = [row["answer"] for row in rows if type(row.get("answer")) is str]
    if not answers:
        return None
    lengths = _lengths(answers)
    middle = statistics.median(map(len, answers))
    weight = 1.0 if middle < _BRIEF else 0.5 if middle < _FAIR else 0.2
    flags = ("--format", "prompts")
    options = (
        Option("sft", Saying("detect.option-learn"), ("--stage", "sft")),
        Option("prompts", Saying("detect.option-references"), flags),
    )
    question = Question("answers", Saying("detect.ask-answers", {"lengths": lengths}), options)
    return Doubt((lengths,), Other("prompts", Saying("detect.why-references"), flags, weight), question)


def _evaluation(rows: Sequence[dict[str, Any]], adapter: Adapter) -> Doubt | None:
    """A multiple-choice evaluation, by its columns or its answers of one letter."""
    columns = [column for column in _EVALUATION if any(column in row for row in rows)]
    answer = adapter.mapping.get("assistant", "")
    answers = [str(row.get(answer)).strip(" .()") for row in rows]
    letters = sum(said in _LETTERS for said in answers)
    if letters >= 0.8 * len(rows):
        cue = Saying("detect.eval-letters", {"count": letters, "total": len(rows)})
    elif len(columns) > 1 or _SURE.issuperset(columns[:1] or [""]):
        cue = Saying("detect.eval-columns", {"columns": ", ".join(columns)})
    else:
        return None
    told = Saying("detect.evaluation-set", {"cue": cue})
    return Doubt((told,), Other("not-training-data", Saying("detect.why-evaluation"), (), 0.5))


def _lengths(answers: Sequence[str]) -> Saying:
    lengths = [len(answer) for answer in answers]
    facts = {"low": min(lengths), "high": max(lengths), "middle": round(statistics.median(lengths))}
    return Saying("detect.answer-lengths", {**facts, "distinct": len(set(answers)), "total": len(answers)})


def _number_label(rows: Sequence[dict[str, Any]], adapter: Adapter) -> Doubt | None:
    """A label that is no boolean is a class, by its type over all rows; 0 and 1 may still be a rating."""
    column = next((name for name in ("label", "kto_tag") if any(row.get(name) is not None for row in rows)), None)
    if column is None or column in adapter.mapping.values() or adapter.mapping.keys().isdisjoint(_LEARNED):
        return None
    values = [row[column] for row in rows if row.get(column) is not None]
    binary = {"0", "1"}.issuperset(map(str, values))
    numbers = binary or all(isinstance(value, (int, float)) for value in values)
    kind = "numbers" if numbers else "lists" if type(values[0]) is list else "words"
    told = Saying("detect.label-numbers", {"column": column, "kind": Saying(f"detect.kind-{kind}")})
    if not binary:
        return Doubt((told,))
    flags = ("--format", "feedback")
    options = (
        Option("class", Saying("detect.option-class"), ("--stage", "sft")),
        Option("feedback", Saying("detect.option-rating"), flags),
    )
    question = Question("label", Saying("detect.ask-label", {"column": column}), options)
    return Doubt((told,), Other("feedback", Saying("detect.why-rated", {"column": column}), flags, 0.8), question)


def _context(rows: Sequence[dict[str, Any]], adapter: Adapter) -> Doubt | None:
    """Dolly's context: part of the question, or a system prompt."""
    count = sum(bool(row.get("context")) for row in rows)
    if not count:
        return None
    flags = ("--map", "system=context,user=instruction,assistant=response")
    told = Saying("detect.context-asked", {"count": count, "total": len(rows)})
    return Doubt((told,), Other("dolly", Saying("detect.why-system"), flags, 0.2))


def _two_chats(rows: Sequence[dict[str, Any]], adapter: Adapter) -> Doubt | None:
    """Two conversations: a pair where they begin with the same question, else two chats."""
    names = {"chosen": adapter.mapping["chosen"], "rejected": adapter.mapping["rejected"]}
    both = [row for row in rows if all(_is_chat(row.get(column)) for column in names.values())]
    if not both:
        return Doubt((), Other("messages", Saying("detect.why-chosen"), ("--stage", "sft")))
    asked = [(_first_question(row[names["chosen"]]), _first_question(row[names["rejected"]])) for row in both]
    count = sum(one is not None and one == other for one, other in asked)
    facts: dict[str, object] = {"count": count, "total": len(both), **names}
    told = [Saying("detect.shared-question", facts)]
    column = adapter.mapping.get("prompt", "")
    prompts = [(row[column], one) for row, (one, _) in zip(both, asked, strict=True) if type(row.get(column)) is str]
    if differ := sum(prompt != one for prompt, one in prompts):
        told.append(
            Saying("detect.prompt-differs", {**facts, "count": differ, "total": len(prompts), "column": column})
        )
    share = count / len(both)
    other = Other("messages", Saying("detect.why-two-chats", facts), ("--stage", "sft"), 1 - share)
    options = (
        Option("preference", Saying("detect.option-compare"), ("--stage", "dpo")),
        Option("messages", Saying("detect.option-chats"), ("--stage", "sft")),
    )
    question = Question("pairs", Saying("detect.ask-two-chats", facts), options) if share < flat_chat.SHARE else None
    return Doubt(tuple(told), other, question)


def _is_chat(value: Any) -> bool:
    """Whether messages are more than an answer."""
    return is_turns(value) and _speaker(value[0]) in ("system", "user")


def _first_question(turns: Sequence[dict[str, Any]]) -> Any:
    asked = (turn for turn in turns if _speaker(turn) == "user")
    return next((turn.get("content", turn.get("value")) for turn in asked), None)


def _speaker(turn: dict[str, Any]) -> str | None:
    return ROLES.get(str(turn.get("role", turn.get("from"))).strip().lower())


def _references(rows: Sequence[dict[str, Any]], adapter: Adapter) -> Doubt | None:
    """What stands beside a prompt: a reference for rewards, or an answer to learn."""
    columns = [column for column in REFERENCES if any(row.get(column) is not None for row in rows)]
    if not columns:
        return None
    told = [Saying("detect.references", {"columns": ", ".join(columns)})]
    answers = [row[columns[0]] for row in rows if type(row.get(columns[0])) is str]
    if not answers:
        return Doubt(tuple(told))
    lengths = _lengths(answers)
    flags = ("--map", f"user={adapter.mapping['prompt']},assistant={columns[0]}")
    options = (
        Option("prompts", Saying("detect.option-references"), ("--format", "prompts")),
        Option("sft", Saying("detect.option-learn"), flags),
    )
    weight = 0.2 if statistics.median(map(len, answers)) < _BRIEF else 1.0
    other = Other("query-response", Saying("detect.why-learned", {"column": columns[0]}), flags, weight)
    question = Question("answers", Saying("detect.ask-answers", {"lengths": lengths}), options)
    return Doubt((*told, lengths), other, question)


def _history(rows: Sequence[dict[str, Any]], adapter: Adapter) -> Doubt | None:
    """Which shape earlier turns have."""
    held = next((row["history"] for row in rows if type(row.get("history")) in (list, dict) and row["history"]), None)
    if held is None or "history" not in adapter.mapping:
        return None
    kinds: dict[type, str] = {list: "pairs", dict: "messages" if is_turns(held) else "objects"}
    shape = "lists" if type(held) is dict else kinds.get(type(held[0]), "texts")
    return Doubt((Saying("detect.history-shape", {"shape": Saying(f"detect.history-{shape}")}),))


def _arguments(rows: Sequence[dict[str, Any]], adapter: Adapter) -> Doubt | None:
    """Tool arguments that are text: parsed, and told."""
    column = adapter.mapping.get("messages", "").partition("[")[0]
    turns = (turn for row in rows if type(row.get(column)) is list for turn in row[column] if type(turn) is dict)
    calls = (call for turn in turns if type(turn.get("tool_calls")) is list for call in turn["tool_calls"])
    found = [call["function"].get("arguments") for call in calls if type(call) is dict and _is_function(call)]
    texts = [said for said in found if type(said) is str and said]
    if not texts:
        return None
    double = sum(said.lstrip().startswith('"') for said in texts)
    return Doubt((Saying("detect.arguments-text", {"count": len(texts), "double": double}),))


def _is_function(call: dict[str, Any]) -> bool:
    return type(call.get("function")) is dict


_LOOKS: dict[str, tuple[Look, ...]] = {
    "alpaca": (_text_beside, _evaluation),
    "query-response": (_question_answer, _evaluation),
    "prompt-completion": (_evaluation,),
    "dolly": (_context,),
    "preference": (_two_chats,),
    "prompts": (_references,),
}
_MARKED: dict[str, Callable[[int, int], Doubt | None]] = {"text": _text, "flat-chat": _flat_chat}
