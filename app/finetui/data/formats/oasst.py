"""Layout `oasst`: trees of messages, nested or to be joined by id; a row is a thread from a root to a last answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from finetui.data.files.parsing import dump, load
from finetui.data.files.splitter import Row
from finetui.data.formats.chat import chat_record, full_message, meta_of
from finetui.data.formats.columns import most_common
from finetui.data.formats.forest import LONGEST, Forest, Node, threads
from finetui.data.formats.layout import Adapter, Expand, Layout
from finetui.data.formats.roles import ROLES
from finetui.data.formats.rows import exact, made, taken_apart
from finetui.data.problems import Note, RowProblem, Saying, excerpt

_PARENTS = ("parent_id", "parent_message_id")
_IDS = ("message_id", "user_message_id", "id")
_TREE, _THREAD = "message_tree_id", "thread"
_USED: frozenset[str | None] = frozenset({"text", "role", "replies", *_PARENTS})
_Keys = tuple[str, str]
"""The columns of a message's id and of its parent's."""


def _keys(row: Any) -> _Keys | None:
    if type(row) is not dict or "text" not in row or "role" not in row:
        return None
    own = next((key for key in _IDS if key in row), None)
    parent = next((key for key in _PARENTS if key in row), None)
    return (own, parent) if own and parent else None


def _root_of(row: Any) -> Any:
    """The first message of a row that holds a whole tree, else None."""
    if type(row) is not dict:
        return None
    if _TREE in row and type(row.get("prompt")) is dict:
        return row["prompt"]
    has_replies = type(row.get("replies")) is list and (bool(row["replies"]) or _keys(row) is None)
    return row if has_replies and "text" in row and "role" in row else None


def _recognise(row: Any) -> bool:
    return _root_of(row) is not None or _keys(row) is not None


def _fit(rows: Sequence[Any]) -> Adapter:
    own, parent = most_common(_keys, rows, (_IDS[0], _PARENTS[0]))
    if 2 * sum(_root_of(row) is not None for row in rows) > len(rows):
        mapping, shown = {"children": "replies"}, Saying("data.cue-replies")
    else:
        mapping = {"id": own, "parent": parent}
        shown = Saying("data.cue-parents", {"columns": ", ".join(("text", "role", own)), "parent": parent})
    return Adapter({"messages": "text", "role": "role", **mapping}, shown, _convert, _expander(own, parent))


def _convert(row: Any, notes: list[Note]) -> dict[str, Any]:
    """The record of one thread, as the expansion makes it."""
    if type(row) is not dict or type(row.get(_THREAD)) is not list:
        raise RowProblem("missing-key", f"{_THREAD}: {excerpt(row)}")
    messages, thread = [], row[_THREAD]
    for number, item in enumerate(thread):
        said = {key: item[key] for key in ("role", "text") if key in item} if type(item) is dict else item
        messages.append(full_message(said, "role", "text", f"{_THREAD}[{number}]", notes))
    meta = {**meta_of(thread[-1], _USED), **({_TREE: row[_TREE]} if row.get(_TREE) is not None else {})}
    return chat_record(messages, None, meta, notes)


def _expander(own: str, parent: str) -> Expand:
    def expand(rows: Iterable[Row]) -> Iterator[Row]:
        """The threads of nested trees where they stand, then those of the messages that are joined by id."""
        with Forest() as forest:
            for row in rows:
                value, repaired = taken_apart(row)
                _, raw, line, byte = row
                root = _root_of(value)
                if root is not None:
                    yield from _nested(root, value, repaired, row)
                    continue
                try:
                    node = _node(value, own, parent)._replace(repaired=repaired, line=line, byte=byte)
                    if not forest.add(node):
                        raise RowProblem("wrong-type", f"{own}: {excerpt(node.id)} (twice)")
                except RowProblem as problem:
                    yield problem, raw, line, byte
            yield from _joined(forest, own, parent)

    return expand


def _nested(root: Any, tree: dict[str, Any], repaired: bool, row: Row) -> Iterator[Row]:
    _, raw, line, byte = row
    name = tree.get(_TREE) or next((root[key] for key in _IDS if root.get(key)), None)
    empty = True
    for path in threads(root, _replies, _answers):
        empty = False
        alone = [{k: v for k, v in item.items() if k != "replies"} if type(item) is dict else item for item in path]
        yield _thread(alone, name, repaired, line, byte, raw)
    if empty:
        yield RowProblem("no-assistant", excerpt(root.get("text"))), raw, line, byte


def _joined(forest: Forest, own: str, parent: str) -> Iterator[Row]:
    for root in forest.roots():
        empty = True
        for path in threads(root, forest.children, lambda node: node.answers):
            empty, last = False, path[-1]
            place = (last.line, last.byte)
            if root.parent is not None:
                yield RowProblem("missing-key", f"{parent}: {excerpt(root.parent)}"), last.body, *place
                continue
            messages = [exact(load(node.body), node.body) for node in path]
            name = messages[0].get(_TREE) or messages[0][own]
            yield _thread(messages, name, any(node.repaired for node in path), *place, last.body)
        if empty:
            lost = RowProblem("missing-key", f"{parent}: {excerpt(root.parent)}") if root.parent is not None else None
            yield lost or RowProblem("no-assistant", f"{own}: {excerpt(root.id)}"), root.body, root.line, root.byte
    for node in forest.rootless():
        yield RowProblem("wrong-type", f"{parent}: {excerpt(node.parent)} (a circle)"), node.body, node.line, node.byte


def _thread(messages: list[Any], tree: Any, repaired: bool, line: int | None, byte: int | None, source: bytes) -> Row:
    if len(messages) > LONGEST:
        return RowProblem("wrong-type", f"more than {LONGEST} messages one below another"), source, line, byte
    return made({_TREE: tree, _THREAD: messages}, repaired, line, byte, source)


def _replies(message: Any) -> Iterator[Any]:
    """What stands below a message; a reply that is none stays, so that its thread is set aside."""
    replies = message.get("replies") if type(message) is dict else None
    return iter(replies if type(replies) is list else [] if replies is None else [replies])


def _answers(message: Any) -> bool:
    """Whether a thread may end here: an assistant speaks, or there is no telling who does."""
    return type(message) is not dict or _is_assistant(message)


def _is_assistant(message: dict[str, Any]) -> bool:
    return ROLES.get(str(message.get("role")).strip().lower()) == "assistant"


def _node(value: Any, own: str, parent: str) -> Node:
    """A message as the forest keeps it.

    Raises RowProblem where it is none.
    """
    if type(value) is RowProblem:
        raise value
    if type(value) is not dict:
        raise RowProblem("not-an-object", excerpt(value))
    if absent := [key for key in (own, "text", "role") if key not in value]:
        raise RowProblem("missing-key", f"{absent[0]} (columns: {excerpt(', '.join(value))})")
    name = _name(value[own], own)
    if name is None:
        raise RowProblem("missing-key", f"{own}: {excerpt(value[own])}")
    above = _name(value.get(parent), parent)
    return Node(0, name, above, _is_assistant(value), False, dump(value), None, None)


def _name(value: Any, where: str) -> str | None:
    """An id as text; None where there is none.

    Raises RowProblem `wrong-type`.
    """
    if value is None or value == "":
        return None
    if type(value) not in (str, int):
        raise RowProblem("wrong-type", f"{where}: {excerpt(value)}")
    return str(value)


LAYOUT = Layout("oasst", _recognise, "sft", _fit)
