"""Why a training ends without a result: a stable cause for programs, a detail for people."""

from __future__ import annotations

import errno

INTERRUPTED_EXIT_CODE = 75
"""What a training ends with after SIGTERM or SIGUSR1: its checkpoint is saved, and it can be resumed."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_WORDS = (
    "no space left on device",
    "disk quota exceeded",
    "pytorchstreamwriter failed",  # torch's own words for it: these, and those of the streams that it writes through
    "basic_ios::clear: iostream error",
    "unexpected pos",
)
_MEMORY_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")
_DETAIL_CHARACTERS = 500


class Failure(Exception):
    """A foreseen end: `cause` is nan, adapter-never-moved, world-size, processes, not-parallel, bundle-mismatch,
    out-of-memory, data-mismatch, model-mismatch, resume-mismatch or error.
    """

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(detail)
        self.cause = cause
        self.detail = detail


class Interrupted(BaseException):
    """A stop was asked for before the training had begun."""


def explain(error: BaseException, lighter: str = "") -> Failure:
    """Any exception as a Failure: a full disk and exhausted memory by what the libraries say of them, else `error`.

    `lighter` says what would take less memory, and goes before what the libraries say.
    """
    failure = _explain(error)
    if lighter and failure.cause == "out-of-memory":
        return Failure(failure.cause, f"{lighter}; {failure.detail}")
    return failure


def _explain(error: BaseException) -> Failure:
    if isinstance(error, Failure):
        return error
    words = " ".join(f"{type(error).__name__}: {error}".split())
    detail, lower = words[:_DETAIL_CHARACTERS], words.lower()
    if (isinstance(error, OSError) and error.errno in _FULL) or any(sign in lower for sign in _FULL_WORDS):
        return Failure("disk-full", detail)
    if isinstance(error, MemoryError) or any(sign in lower for sign in _MEMORY_WORDS):
        return Failure("out-of-memory", detail)
    return Failure("error", detail)
