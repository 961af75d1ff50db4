"""Turn markers of chats that were rendered into one string, and the turns between them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

_SPECIAL = (
    *("<s>", "</s>", "<bos>", "<eos>", "<pad>", "[PAD]", "### End"),
    *("<|endoftext|>", "<|begin_of_text|>", "<|end_of_text|>"),
)
"""What stands around turns and belongs to none of them."""
MORE = "more"
"""The role of a marker that opens no turn: what follows belongs to the question before it."""
_ASKING = ("user", MORE)


class Turn(NamedTuple):
    """One turn: a speaker's name and the text between two markers, without the white space around them."""

    role: str
    text: str


@dataclass(frozen=True, eq=False)
class Family:
    """One way to mark turns."""

    name: str
    """The markers of a question and its answer, for the evidence."""
    marker: re.Pattern[str]
    """Its first group is the name of who speaks next."""
    roles: Mapping[str, str]
    """Names in lower case to roles; a name that is absent stands for itself."""
    closing: str = ""
    """The token that ends a turn, where the family has one."""
    are_words: bool = False
    """Whether its markers are words that people also use; then each role has the one that it has first in a text."""


def _names(user: str, assistant: str, more: str = "") -> dict[str, str]:
    groups = {"user": user, "assistant": assistant, MORE: more, "system": "system|系统"}
    return {name.lower(): role for role, names in groups.items() for name in names.split("|") if name}


def _hashes(user: str, assistant: str, more: str = "") -> Family:
    """`### NAME:`, anywhere in the text."""
    names = "|".join(filter(None, (user, assistant, more, "System|系统")))
    marker = re.compile(rf"(?<!#)###[ \t]*({names})[ \t]*[:：]", re.IGNORECASE)
    name = f"### {user.split('|')[0]}: ### {assistant.split('|')[0]}:"
    return Family(name, marker, _names(user, assistant, more), are_words=True)


def _words(user: str, assistant: str, lead: str = r"(?:^|(?<=s>))[ \t]*", flags: int = 0) -> Family:
    """`NAME:`, where a line begins or after another `lead`."""
    marker = re.compile(rf"{lead}({user}|{assistant}|System|系统)[ \t]*[:：]", re.MULTILINE | flags)
    name = f"{user.split('|')[0]}: {assistant.split('|')[0]}:"
    return Family(name, marker, _names(user, assistant), are_words=True)


FAMILIES = (
    Family("<|im_start|>", re.compile(r"<\|im_start\|>[ \t]*([\w-]+)[ \t]*\n?"), {}, "<|im_end|>"),
    Family("<|start_header_id|>", re.compile(r"<\|start_header_id\|>\s*(\w+)\s*<\|end_header_id\|>"), {}, "<|eot_id|>"),
    Family("<start_of_turn>", re.compile(r"<start_of_turn>[ \t]*(\w+)[ \t]*\n?"), {}, "<end_of_turn>"),
    Family("<|user|> <|assistant|>", re.compile(r"<\|(system|user|assistant|observation)\|>"), {}, "<|end|>"),
    Family(
        "[INST] [/INST]",
        re.compile(r"(\[/?INST\]|<</?SYS>>)"),
        {"[inst]": "user", "[/inst]": "assistant", "<<sys>>": "system", "<</sys>>": "user"},
    ),
    _hashes("Human|User|Prompter|用户", "Assistant|Bot|GPT|助手"),
    _hashes("Instruction|Question|指令|问题", "Response|Answer|Output|回答|输出", "Input|Context|输入"),
    _words("USER", "ASSISTANT", r"(?:^|(?<=\s)|(?<=s>))"),
    _words("Human", "Assistant", r"\n\n"),
    _words("Human|User|用户", "Assistant|AI|Bot|助手", flags=re.IGNORECASE),
    _words("Human|User|用户", "Assistant|助手", r"(?:^|(?<=\s))"),
    _words("Q", "A"),
    _words("Question", "Answer"),
    _words("问题|问", "回答|答案|答"),
)
"""Every family; where several fit, the one whose marker comes first in the text, then the one that is first here."""


def family_of(text: str, likely: Family | None = None) -> Family | None:
    """The family by which a text asks and answers, `likely` before any other; None where it is no chat."""
    if likely is not None and _first_question(likely, text) >= 0:
        return likely
    found = ((place, family) for family in FAMILIES if (place := _first_question(family, text)) >= 0)
    return min(found, key=lambda pair: pair[0], default=(0, None))[1]


def turns_of(text: str, family: Family) -> list[Turn]:
    """The turns of a text in order; text before the first marker is the system's.

    Raises ValueError with the text that stands outside of the turns.
    """
    turns: list[Turn] = []
    role, begin = "system", 0
    for marker in [*_markers(text, family), None]:
        said = _said(text, begin, marker.start() if marker else len(text), family.closing if begin else "")
        if role == MORE:
            turns[-1] = Turn("user", "\n".join(filter(None, (turns[-1].text, said))))
        elif role != "system":
            turns.append(Turn(role, said))
        elif said:
            if turns and turns[-1] == Turn("user", ""):
                turns.pop()  # the mark of the question stands before that of the system prompt within it
            turns.append(Turn(role, said))
        if marker:
            role, begin = _role(marker, family), marker.end()
    return turns


def _markers(text: str, family: Family) -> Iterator[re.Match[str]]:
    """The markers of a text; of words, those that a role does not bear in it are none."""
    borne: dict[str, str] = {}
    previous = ""
    for marker in family.marker.finditer(text):
        role, name = _role(marker, family), marker[1].lower()
        if family.are_words and (borne.setdefault(role, name) != name or (role == MORE and previous not in _ASKING)):
            continue
        previous = role
        yield marker


def _first_question(family: Family, text: str) -> int:
    """Where the first question begins that is answered later; -1 where there is none."""
    begin = -1
    for marker in _markers(text, family):
        role = _role(marker, family)
        if begin < 0 and role in ("user", "human"):
            begin = marker.start()
        elif begin >= 0 and role in ("assistant", "model", "gpt"):
            return begin
    return -1


def _role(marker: re.Match[str], family: Family) -> str:
    name = marker[1].lower()
    return family.roles.get(name, name)


def _said(text: str, begin: int, end: int, closing: str) -> str:
    """The text of a turn, without its closing token and what stands around the markers.

    Raises ValueError with text that follows the closing token.
    """
    closed = text.find(closing, begin, end) if closing else -1
    if closed < 0:
        return _trimmed(text, begin, end)
    _refuse(_trimmed(text, closed + len(closing), end))
    return _trimmed(text, begin, closed)


def _refuse(outside: str) -> None:
    if outside:
        raise ValueError(outside)


def _trimmed(text: str, begin: int, end: int) -> str:
    """Part of a text without white space and sentence tokens at either end."""
    while begin < end and (step := _step(text.startswith, text[begin], begin, end)):
        begin += step
    while begin < end and (step := _step(text.endswith, text[end - 1], begin, end)):
        end -= step
    return text[begin:end]


def _step(has: Callable[[str, int, int], bool], edge: str, begin: int, end: int) -> int:
    """How many characters at an edge are white space or a sentence token; 0 where the text begins."""
    return 1 if edge.isspace() else next((len(token) for token in _SPECIAL if has(token, begin, end)), 0)
