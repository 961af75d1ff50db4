"""Who speaks: the role names of every tool, folded into four."""

from __future__ import annotations

from typing import Any

from finetui.data.problems import RowProblem, excerpt

_ALIASES = {
    "system": ("system", "developer"),
    "user": ("user", "human", "prompter", "query", "用户"),
    "assistant": ("assistant", "gpt", "model", "bot", "chatgpt", "bard", "助手"),
    "tool": ("tool", "observation", "function", "tool_response", "ipython"),
    "call": ("function_call", "tool_call"),
}
ROLES = {alias: role for role, aliases in _ALIASES.items() for alias in aliases}
"""Name in lower case to canonical role; `call` is an assistant turn whose text is a tool call."""


def role_of(name: Any, where: str) -> str:
    """The canonical role of a speaker's name.

    Raises RowProblem `unknown-role`, or `wrong-type` where the name is no text.
    """
    role = ROLES.get(name) if type(name) is str else None
    if role is None:
        if type(name) is not str:
            raise RowProblem("missing-key" if name is None else "wrong-type", f"{where}: {excerpt(name)}")
        role = ROLES.get(name.strip().lower())
        if role is None:
            raise RowProblem("unknown-role", f"{where}: {excerpt(name)}")
    return role
