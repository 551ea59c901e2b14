"""A candidate as a trusted utility sees it: a program in the sandbox that can be called.

One child serves all calls of one evaluation. One that crashed or overran its time is replaced
before the next call; a child never serves two candidates.
"""

import re
from typing import Any

from selftaught.pool import Attempt
from selftaught.sandbox.guest import wire
from selftaught.sandbox.zygote import Child, CpuLimitReached, Zygote
from selftaught.task import Limits
from selftaught.utility import (
    CandidateError,
    Failed,
    Failure,
    InvalidValue,
    OutOfBudget,
    OutOfMemory,
    Refused,
    TimedOut,
)

LOAD_CPU_S = 2.0
LOAD_WALL_S = 20.0

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{6,16}\b")
_CLAIMED: dict[str, type[Failure]] = {
    "work": TimedOut,
    "memory": OutOfMemory,
    "budget": OutOfBudget,
    "refused": Refused,
    "invalid": InvalidValue,
}


class SandboxedCandidate:
    """Implements `selftaught.utility.Candidate` over a zygote."""

    def __init__(self, zygote: Zygote, source: str, limits: Limits, seed: int) -> None:
        self._zygote = zygote
        self._source = source
        self._limits = limits
        self._seed = seed
        self._calls = 0
        self._child: Child | None = None
        self._broken: CandidateError | None = None
        self.attempts: list[Attempt] = []

    @property
    def source(self) -> str:
        """The program text."""
        return self._source

    def call(self, entry_point: str, *args: Any, time_limit_s: float | None = None) -> Any:
        """Call a function of the program; see `selftaught.utility.Candidate.call`."""
        if self._broken is not None:
            raise self._broken
        self._calls += 1
        if self._child is None:
            self._load()
        limit_s = self._limits.time_s if time_limit_s is None else time_limit_s
        message = {
            "op": "call",
            "entry_point": entry_point,
            "args": list(args),
            # Fixed by the evaluation and the call: a program that draws random numbers repeats.
            "seed": self._seed + 7919 * self._calls,
        }
        wall_s = self._limits.wall_cap_s if time_limit_s is None else 10 * time_limit_s + 1
        return self._exchange(message, limit_s, wall_s)

    def close(self) -> None:
        """Kill the child."""
        if self._child is not None:
            child, self._child = self._child, None
            child.close()

    def _load(self) -> None:
        self._child = self._zygote.fork(self._limits.memory_bytes)
        message = {
            "op": "load",
            "source": self._source,
            "work": self._limits.work,
            "seed": self._seed,
        }
        try:
            self._exchange(message, LOAD_CPU_S, LOAD_WALL_S)
        except CandidateError as error:
            self._broken = error
            raise

    def _exchange(self, message: dict[str, Any], cpu_s: float, wall_s: float) -> Any:
        child = self._child
        assert child is not None
        try:
            child.send(message)
            reply = child.receive(
                cpu_limit_s=cpu_s, wall_limit_s=wall_s, on_attempt=self.attempts.append
            )
        except CpuLimitReached:
            self.close()
            reason = f"more than {cpu_s:g} s of CPU time"
            raise CandidateError(TimedOut(reason=reason)) from None
        except wire.Overdue:
            self.close()
            raise CandidateError(TimedOut(reason=f"more than {wall_s:g} s by the clock")) from None
        except (wire.EndOfFrames, wire.WireError) as error:
            self._child = None
            raise CandidateError(ended(child.close(), error)) from None
        if "ok" in reply:
            return reply["ok"]
        failure = claimed_failure(reply)
        if isinstance(failure, TimedOut | OutOfMemory):
            # Stopped in the middle of anything; one that raised goes on with its next instance.
            self.close()
        raise CandidateError(failure)


def without_addresses(text: str) -> str:
    """The text with memory addresses (`<function f at 0x7f...>`) made the same on every run.

    A program that prints an object into a prompt or an error would otherwise never repeat.
    """
    return _ADDRESS.sub(" at 0x0", text)


def claimed_failure(reply: dict[str, Any]) -> Failure:
    """The failure that a child reports of itself; whatever it claims, it is no success."""
    reason = without_addresses(str(reply.get("reason", "the child sent no value"))[:600])
    return _CLAIMED.get(str(reply.get("failed")), Failed)(reason=reason)


def ended(exit_code: int, error: Exception) -> Failure:
    """The failure of a child that ended, or broke the wire, instead of answering."""
    if isinstance(error, wire.WireError) and exit_code == -9:
        # Reaped by our own kill: it lived, and sent what no guest sends.
        return InvalidValue(reason=f"the pipe carried no valid frame: {error}")
    if exit_code < 0:
        return Failed(reason=f"it was killed by signal {-exit_code}")
    return Failed(reason=f"it exited with code {exit_code} instead of returning")
