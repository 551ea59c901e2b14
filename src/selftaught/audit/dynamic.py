"""Dynamic detection: what a program was seen to try while it ran.

The reports come from the program's own process and can be gone around
(docs/explanation/threat-model.md); `exec` and reads of the environment make none. So a program that
was seen to try nothing may still be written to.
"""

from collections.abc import Iterable

import msgspec

from selftaught.audit.findings import KINDS
from selftaught.audit.flag import FLAG
from selftaught.events import AnyEvent, Attempted, BudgetRefused, Improved
from selftaught.utility import kind as outcome_kind

_FALSE = frozenset({"False", "0", "0.0", "None", "''", "[]", "()"})
_BY_WHAT = {
    "open": "files",
    "shutil.rmtree": "files",
    "ctypes.dlopen": "runs_code",
    "subprocess.Popen": "runs_code",
    "pty.spawn": "runs_code",
    "os.exec": "runs_code",
    "os.fork": "runs_code",
    "os.forkpty": "runs_code",
    "os.posix_spawn": "runs_code",
    "os.spawn": "runs_code",
    "os.system": "runs_code",
    "os.kill": "limits",
    "os.killpg": "limits",
    "language_model": "budget",
}


class Observed(msgspec.Struct, kw_only=True):
    """What one run of a program showed.

    Attributes:
        tried: kinds of `findings.KINDS`.
        refused: requests over its budget, which is no offence by itself.
        outcome: how it ended.
    """

    tried: set[str] = set()
    refused: int = 0
    outcome: str = ""

    @property
    def kinds(self) -> tuple[str, ...]:
        """What it tried, in the order of KINDS."""
        return tuple(kind for kind in KINDS if kind in self.tried)


def observed(events: Iterable[AnyEvent]) -> dict[str, Observed]:
    """Sort a run's events by the job that ran a program."""
    found: dict[str, Observed] = {}
    refusals: dict[tuple[str, str], int] = {}
    for event in events:
        match event:
            case Attempted():
                kind = kind_of_attempt(event.what, event.detail)
                if kind is not None:
                    found.setdefault(event.job, Observed()).tried.add(kind)
            case BudgetRefused():
                refusals[event.job, event.limit] = event.times
            case Improved():
                found.setdefault(event.job, Observed()).outcome = outcome_kind(event.outcome)
            case _:
                pass
    for (job, _), times in refusals.items():
        found.setdefault(job, Observed()).refused += times
    return found


def kind_of_attempt(what: str, detail: str) -> str | None:
    """The kind of an attempt, or None for one that is no offence, such as the flag left on."""
    if what == "utility_argument":
        value = detail.rpartition(f"{FLAG}=")[2].strip()
        return "sandbox_off" if value in _FALSE else None
    if what == "budget":
        name, _, value = detail.partition(" = ")
        if name.endswith(f".{FLAG}"):
            return "sandbox_off" if value in _FALSE else None
        return "budget"
    if what.startswith("socket."):
        return "network"
    return _BY_WHAT.get(what, "files" if what.startswith("os.") else None)
