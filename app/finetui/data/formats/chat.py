"""The canonical chat record: messages in TRL's conversational standard, and the checks on their turns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from finetui.data.formats.content import EMPTY, content_of
from finetui.data.formats.roles import ROLES, role_of
from finetui.data.formats.tools import calls_of, tools_of
from finetui.data.problems import Note, RowProblem, excerpt, unfit

Message = dict[str, Any]
SYSTEM = ("system", "system_prompt")
"""The columns that may hold a system prompt beside the conversation."""
_SAYING = frozenset(name for name, role in ROLES.items() if role != "call")
_THINKING_KEYS = ("thinking", "reasoning_content", "reasoning")
_UNTRAINED_KEYS = ("weight", "train", "training", "loss", "loss_weight", "output_with_loss")


def plain_message(role: str, text: Any, where: str) -> Message:
    """A message that is text alone.

    Raises RowProblem where the text is null, empty, or none.
    """
    if type(text) is not str:
        raise unfit(text, where)
    if text and not text.isspace():
        return {"role": role, "content": text}
    if role in ("user", "assistant"):
        raise RowProblem(f"empty-{role}", where)
    return {"role": role, "content": text} if text else {"role": role}


def full_message(item: Any, speaker: str, content: str, where: str, notes: list[Note]) -> Message:
    """A message of any shape; `speaker` and `content` name the keys of who speaks and what is said.

    Raises RowProblem where it is to be set aside.
    """
    if type(item) is not dict:
        raise unfit(item, where)
    name, said = item.get(speaker), item.get(content)
    if len(item) == 2 and type(said) is str and said and not said.isspace() and type(name) is str and name in _SAYING:
        return {"role": ROLES[name], "content": said}
    role = role_of(name, f"{where}.{speaker}")
    if len(item) == 2 and role != "call" and type(said) is str:
        return plain_message(role, said, f"{where}.{content}")
    if role == "call":
        message: Message = {"role": "assistant", "tool_calls": calls_of(said, f"{where}.{content}", notes)}
        if not message["tool_calls"]:
            raise RowProblem("empty-assistant", where)
    elif role == "assistant":
        message = _assistant(item, said, content, where, notes)
    elif content not in item:
        if role == "user" or speaker != "role":
            raise RowProblem("missing-key", f"{where}.{content}")
        message = {"role": role}  # as an empty content is written
    else:
        read = content_of(said, f"{where}.{content}")
        if read.thinking or read.calls:
            raise RowProblem("wrong-type", f"{where}.{content}: {excerpt(said)}")
        message = plain_message(role, read.text, f"{where}.{content}")
    for key in ("name", "tool_call_id"):
        if item.get(key):
            message[key] = item[key]
    if message["role"] == "assistant" and is_untrained(item, where):
        message["train"] = False
    return message


def check_turns(messages: list[Message], notes: list[Note]) -> None:
    """Note what other tools would trip over in the order of turns, each code once a row.

    Raises RowProblem `no-assistant`.
    """
    previous = odd = unanswered = ""
    users = answers = trained = 0
    for number, message in enumerate(messages):
        role = message["role"]
        if role == "user":
            users += 1
        elif role == "assistant":
            answers += 1
            trained += message.get("train", True)
        first_answers = role == "assistant" and previous in ("", "system")
        if not odd and (role == previous != "tool" or (role == "system" and number) or first_answers):
            odd = f"messages[{number}]: {role}"
        if not unanswered and number and role != "tool" and "tool_calls" in messages[number - 1]:
            unanswered = f"messages[{number - 1}]"
        previous = role
    if not answers:
        raise RowProblem("no-assistant", f"messages: {len(messages)}")
    if not users:
        notes.append(("no-user", f"messages: {len(messages)}"))
    elif odd:
        notes.append(("bad-alternation", odd))
    if unanswered:
        notes.append(("tool-call-without-result", unanswered))
    if not trained:
        notes.append(("no-trained-token", f"messages: {len(messages)}"))


def chat_record(messages: list[Message], tools: Any, meta: dict[str, Any], notes: list[Note]) -> dict[str, Any]:
    """The record of checked messages, with tools and meta where they hold something.

    Raises RowProblem `no-assistant` or `bad-tool-json`.
    """
    check_turns(messages, notes)
    record: dict[str, Any] = {"messages": messages}
    if tools and (defined := tools_of(tools, "tools")):
        record["tools"] = defined
    if meta:
        record["meta"] = meta
    return record


def system_of(row: dict[str, Any]) -> list[Message]:
    """The system message of a row's system column, or none.

    Raises RowProblem `wrong-type`.
    """
    column = next((column for column in SYSTEM if row.get(column) not in EMPTY), None)
    return [] if column is None else [plain_message("system", row[column], column)]


def meta_of(row: dict[str, Any], used: frozenset[str | None]) -> dict[str, Any]:
    """The columns beside the conversation; those that an earlier conversion put under `meta` come back to it."""
    meta = {key: value for key, value in row.items() if key not in used and value not in EMPTY}
    if type(meta.get("meta")) is dict:
        return {**meta.pop("meta"), **meta}
    return meta


def _assistant(item: Message, said: Any, content: str, where: str, notes: list[Note]) -> Message:
    message: Message = {"role": "assistant"}
    calls = item.get("tool_calls") or item.get("function_call")
    thinking = next((item[key] for key in _THINKING_KEYS if item.get(key)), "")
    if type(thinking) is not str:
        raise RowProblem("wrong-type", f"{where}.thinking: {excerpt(thinking)}")
    text = ""
    blocks: tuple[Any, ...] = ()
    if said is not None or not (calls or thinking):
        if content not in item:
            raise RowProblem("empty-assistant", where)
        text, reasoned, blocks = content_of(said, f"{where}.{content}")
        thinking = thinking or reasoned
    if not (calls or thinking or blocks) and (not text or text.isspace()):
        raise RowProblem("empty-assistant", f"{where}.{content}")
    if text:
        message["content"] = text
    if thinking:
        message["thinking"] = thinking
    if calls or blocks:
        key = "tool_calls" if item.get("tool_calls") else "function_call"
        read = calls_of(calls, f"{where}.{key}", notes)
        read += [call for block in blocks for call in calls_of(block, f"{where}.{content}", notes)]
        if not read:
            raise RowProblem("bad-tool-json", f"{where}: {excerpt(calls or blocks)}")
        message["tool_calls"] = read
    return message


def is_untrained(item: Message, where: str) -> bool:
    """Whether the source says that this turn is not to be learned.

    Raises RowProblem `wrong-type` for a weight that is no number.
    """
    for key in _UNTRAINED_KEYS:
        value = item.get(key)
        if value is None:
            continue
        if not isinstance(value, (bool, int, float)):
            raise RowProblem("wrong-type", f"{where}.{key}: {excerpt(value)}")
        if not value:
            return True
    return False


def items_of(rows: Sequence[Any], column: str) -> list[dict[str, Any]]:
    """The objects that sampled rows list under a column, or that they are lists of themselves."""
    lists = (row if type(row) is list else row.get(column) if type(row) is dict else None for row in rows)
    return [item for items in lists if type(items) is list for item in items if type(item) is dict]


def speakers(names: Iterable[Any]) -> str:
    """The speakers of a sample for its evidence: distinct names, the known ones first, a few of them."""
    seen = dict.fromkeys(name for name in names if type(name) is str)
    order = sorted(seen, key=lambda name: name.strip().lower() not in ROLES)
    return ", ".join(excerpt(name) for name in order[:8]) or "–"
