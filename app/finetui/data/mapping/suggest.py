"""The mapping that is likely meant, guessed from the names of columns and the lengths of their texts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finetui.data.formats.roles import ROLES

_ROWS = 200
_DEEPEST = 4
_ITEMS = 8
_SPEAKERS = 12
_SIGNS_OF_A_LINE, _SIGNS = re.compile("[=,+]"), re.compile(r"[=,+.\[\]]")
_WORD = re.compile(r"[a-z]+|[\u4e00-\u9fff]+")
_NUMBER = re.compile(r"\s*[-+]?[\d.,]+\s*")
_NAMES = {
    "system": ("system", "persona", "系统", "人设"),
    "thinking": ("thinking", "reasoning", "cot", "rationale", "thought", "thoughts", "reason", "思考", "推理"),
    "chosen": ("chosen", "preferred", "accepted", "better", "positive", "good", "win", "winner"),
    "rejected": ("rejected", "dispreferred", "worse", "negative", "bad", "lose", "loser"),
    "user": (
        *("question", "problem", "query", "prompt", "instruction", "user", "human", "ask", "request", "input", "q"),
        *("title", "source", "src", "utterance", "问题", "提问", "问", "指令", "题目", "用户"),
    ),
    "assistant": (
        *("answer", "solution", "response", "completion", "assistant", "output", "reply", "target", "tgt", "a"),
        *("summary", "translation", "bot", "gpt", "best", "回答", "答案", "答", "回复", "解答", "助手"),
    ),
    "text": ("text", "content", "document", "body", "passage", "article", "正文", "内容", "文本"),
}
"""Words of column names for each part, the most telling first."""
_BESIDE = frozenset({"id", "uuid", "url", "link", "date", "time", "timestamp", "hash", "lang", "language", "path"})
"""Words of columns that are no part of a conversation, however long their texts."""


@dataclass
class _Leaf:
    """One path to texts, and what they are like over the sampled rows."""

    path: str
    rows: int = 0
    """Rows that have it."""
    count: int = 0
    length: int = 0
    distinct: set[str] = field(default_factory=set)

    @property
    def words(self) -> set[str]:
        """The words of its own name: of the last key of the path."""
        name = self.path.rpartition(".")[2].removesuffix("[]")
        parted = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
        return set(_WORD.findall(f"{name} {parted}".lower()))

    @property
    def list(self) -> str:
        """The list whose items it is taken from; empty where it is no list's."""
        return self.path.rpartition("[]")[0]

    @property
    def prose(self) -> bool:
        """Whether its texts may be anyone's words: no numbers, as those of an index are, and no lists written out."""
        return not all(_NUMBER.fullmatch(text) or text.startswith("[{") for text in self.distinct)

    @property
    def mean(self) -> float:
        """Mean length of its texts."""
        return self.length / max(1, self.count)


def suggest(rows: Sequence[Any]) -> str | None:
    """A line for `--map` that is likely right for rows of no known layout; None where nothing suggests itself."""
    leaves = _leaves(rows[:_ROWS])
    # questions and answers in the list of a lone object are rows of their own as likely as turns of one conversation
    named = _named(leaves if len(rows) > 1 else [leaf for leaf in leaves if not leaf.list])
    found = _written(rows[:_ROWS], leaves) or _spoken(leaves) or named or _longest(leaves)
    return ",".join(f"{part}={leaf}" for part, leaf in found.items()) or None


def _leaves(rows: Sequence[Any]) -> list[_Leaf]:
    """The paths that lead to texts in at least a half of the rows."""
    leaves: dict[str, _Leaf] = {}
    for row in rows:
        seen = set[str]()
        for path, text in _texts(row, "", 0):
            leaf = leaves.setdefault(path, _Leaf(path))
            leaf.length += len(text)
            leaf.count += 1
            if len(leaf.distinct) <= _SPEAKERS:
                leaf.distinct.add(text)
            leaf.rows += path not in seen
            seen.add(path)
    return [leaf for leaf in leaves.values() if _BESIDE.isdisjoint(leaf.words) and 2 * leaf.rows >= len(rows)]


def _texts(value: Any, path: str, depth: int) -> Iterator[tuple[str, str]]:
    """Every text of a row and its path; keys that a path cannot name, and lists of lists, are left out."""
    if type(value) is str and path:
        if value.strip():
            yield path, value
    elif type(value) is dict and depth < _DEEPEST:
        for key, inside in value.items():
            unnameable = _SIGNS if path or type(inside) is not str else _SIGNS_OF_A_LINE
            if key.strip() == key and key and not unnameable.search(key):
                yield from _texts(inside, f"{path}.{key}" if path else key, depth + 1)
    elif type(value) is list and path and "[]" not in path:
        for item in value[:_ITEMS]:
            yield from _texts(item, f"{path}[]", depth + 1)


def _written(rows: Sequence[Any], leaves: Iterable[_Leaf]) -> dict[str, str]:
    """A column of whole conversations that are JSON in a text, as a table has them."""
    for leaf in leaves:
        texts = [row[leaf.path] for row in rows if type(row) is dict and leaf.path in row]
        if texts and all(_is_turns(text) for text in texts):
            return {"messages": leaf.path}
    return {}


def _is_turns(text: Any) -> bool:
    if type(text) is not str or text[:1] != "[":
        return False
    try:
        turns = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return bool(turns) and all(type(turn) is dict and ("content" in turn or "value" in turn) for turn in turns)


def _spoken(leaves: Iterable[_Leaf]) -> dict[str, str]:
    """A list of turns: few names of speakers that are known, and the longest text beside them."""
    for role in leaves:
        known = [name for name in role.distinct if name.strip().lower() in ROLES]
        if not role.list or len(role.distinct) > _SPEAKERS or len(known) < 2:
            continue
        beside = [leaf for leaf in leaves if leaf.list == role.list and leaf is not role]
        if beside:
            return {"role": role.path, "content": max(beside, key=lambda leaf: leaf.length).path}
    return {}


def _named(leaves: Sequence[_Leaf]) -> dict[str, str]:
    """Parts by the words of their columns' names."""
    for place in dict.fromkeys(leaf.list for leaf in leaves):
        found = _by_name([leaf for leaf in leaves if leaf.list == place])
        if "chosen" in found and "rejected" in found:
            lead = {"prompt": found["user"]} if "user" in found else {}
            return lead | {part: found[part] for part in ("system", "chosen", "rejected") if part in found}
        if "user" in found and "assistant" in found:
            return {part: found[part] for part in ("user", "assistant", "system", "thinking") if part in found}
    texts = [leaf for leaf in leaves if not leaf.list and leaf.words & set(_NAMES["text"])]
    return {"text": max(texts, key=lambda leaf: leaf.length).path} if texts else {}


def _by_name(leaves: Sequence[_Leaf]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for part, words in _NAMES.items():
        ranked = [
            (min(words.index(word) for word in leaf.words & set(words)), -leaf.mean, leaf.path)
            for leaf in leaves
            if leaf.path not in found.values() and leaf.words & set(words)
        ]
        if ranked:
            found[part] = min(ranked)[2]
    return found


def _longest(leaves: Sequence[_Leaf]) -> dict[str, str]:
    """The two columns of the longest texts as they stand, or the only one as text."""
    texts = [leaf for leaf in leaves if not leaf.list and len(leaf.distinct) > 1 and leaf.prose]
    if len(texts) == 1:
        return {"text": texts[0].path}
    longest = sorted(texts, key=lambda leaf: -leaf.mean)[:2]
    asked, answered = sorted(longest, key=texts.index) if len(longest) == 2 else (None, None)
    return {"user": asked.path, "assistant": answered.path} if asked and answered else {}
