"""Where finetui runs: the terminal, the connection, the machine's own name, programs, runs that were left behind."""

from __future__ import annotations

from collections.abc import Iterator

from finetui.doctor.finding import MISSING, NOTE, OK, WARNING, Finding, say
from finetui.doctor.remedies import as_root, installing
from finetui.doctor.situation import MULTIPLEXERS, Situation

CLOCK_OFF_S = 300.0
"""Sites refuse a login from a clock that is further off."""


def is_utf8(situation: Situation) -> bool:
    """Whether text beyond ASCII arrives: the locale says so, and stdout writes so."""
    environment = situation.environment
    locale = environment.get("LC_ALL") or environment.get("LC_CTYPE") or environment.get("LANG") or ""
    return _plain(situation.encoding) == "utf8" and "utf8" in _plain(locale)


def check_terminal(situation: Situation) -> Iterator[Finding]:
    """What there is to say of the terminal and the connection."""
    environment = situation.environment
    if not is_utf8(situation):
        yield say(WARNING, "not-utf8")
    if environment.get("TERM") == "dumb":
        yield say(NOTE, "dumb-terminal")
    inside = environment.get("TMUX") or environment.get("STY")
    if environment.get("SSH_CONNECTION") and not inside and not situation.programs & set(MULTIPLEXERS):
        yield say(NOTE, "no-multiplexer", command=installing(situation, "tmux"))


def check_name(situation: Situation) -> Iterator[Finding]:
    """Whether training processes will find one another: torch.distributed asks for this machine by its own name."""
    if not situation.resolves:
        yield say(MISSING if situation.purpose.trains else NOTE, "name-unresolved", root=as_root(situation))


def check_clock(situation: Situation) -> Iterator[Finding]:
    """Whether the clock is so far off that certificates do not hold and logs cannot be put in order."""
    ahead = situation.network.clock_ahead_s if situation.network else None
    off = -situation.clock_behind_s if ahead is None else ahead
    if abs(off) < CLOCK_OFF_S:
        return
    code = "clock-off-container" if situation.host.is_container else "clock-off"
    way = {"en": "ahead" if off > 0 else "behind", "zh": "快" if off > 0 else "慢"}
    yield say(WARNING, code, amount=_duration(abs(off)), way=way, root=as_root(situation))


def check_programs(situation: Situation) -> Iterator[Finding]:
    """Whether the programs that the purpose calls are on the path."""
    absent = [name for name in situation.purpose.programs if name not in situation.programs]
    if absent:
        yield say(MISSING, "programs-absent", programs=", ".join(absent), command=installing(situation, "slurm"))
    elif situation.purpose.programs:
        yield say(OK, "programs-ok", programs=", ".join(situation.purpose.programs))


def check_leftovers(situation: Situation) -> Iterator[Finding]:
    """Whether processes of runs that are over are still here."""
    for run in situation.runs:
        if run.is_over:
            yield say(WARNING, "run-leftover", run=run.name, count=len(run.pids))


def _duration(seconds: float) -> dict[str, str]:
    for size, en, zh in ((86400, "days", "天"), (3600, "hours", "小时")):
        if seconds >= 2 * size:
            return {"en": f"{seconds / size:.0f} {en}", "zh": f"{seconds / size:.0f} {zh}"}
    return {"en": f"{seconds / 60:.0f} minutes", "zh": f"{seconds / 60:.0f} 分钟"}


def _plain(encoding: str) -> str:
    return encoding.lower().replace("-", "").replace("_", "")
