"""A candidate as a trusted utility sees it: a program in the sandbox that can be called.

One child serves all calls of one evaluation. One that crashed or overran its time is replaced
before the next call; a child never serves two candidates.
"""

import re
import signal
from collections.abc import Callable, Sequence
from typing import Any, AnyStr, TypeVar

from selftaught.errors import TaskError
from selftaught.plain_text import shortened
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
# A first call no larger than this is sent along with the program: it fits into an empty socket.
ALONG_BYTES = 32_768
# Calls that a child has before it at once. More would save little, and be lost with it.
AHEAD = 32
REASON_CHARS = 600

T = TypeVar("T")

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{6,16}\b")
_CLAIMED: dict[str, type[Failure]] = {
    "work": TimedOut,
    "cpu": TimedOut,
    "wall": TimedOut,
    "output": InvalidValue,
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
        frame = self._frame(entry_point, args)
        if self._child is None:
            frame = self._load(frame)
        return self._exchange(frame, *self._bounds(time_limit_s))

    def call_many(
        self, entry_point: str, calls: Sequence[tuple[Any, ...]], time_limit_s: float | None = None
    ) -> list[Any]:
        """Call a function once for each tuple; see `selftaught.utility.Candidate.call_many`.

        Some are sent ahead: the program finds the next one there when it has answered.
        """
        results: list[Any] = []
        cpu_s, wall_s = self._bounds(time_limit_s)
        frames: list[bytes | CandidateError] = []
        while len(results) < len(calls):
            if self._broken is not None:
                return results + [self._broken] * (len(calls) - len(results))
            # Those that a child did not live to answer are sent to the next one.
            while len(frames) < AHEAD and len(results) + len(frames) < len(calls):
                frames.append(
                    _or_error(self._frame, entry_point, calls[len(results) + len(frames)])
                )
            if isinstance(frames[0], CandidateError):
                results.append(frames.pop(0))
                continue
            some = _that_fit(frames)
            if self._child is None or len(some) == 1:
                frame = frames.pop(0)
                results.append(_or_error(self._call_frame, frame, cpu_s, wall_s))
                continue
            waiting = b"".join(some)
            for left in reversed(range(len(some))):
                results.append(_or_error(self._exchange, waiting, cpu_s, wall_s, left > 0))
                waiting = b""
                frames.pop(0)
                if self._child is None:
                    break
        return results

    def _call_frame(self, frame: bytes, cpu_s: float, wall_s: float) -> Any:
        return self._exchange(self._load(frame) if self._child is None else frame, cpu_s, wall_s)

    def _frame(self, entry_point: str, args: Sequence[Any]) -> bytes:
        self._calls += 1
        return _encoded(
            {
                "op": "call",
                "entry_point": entry_point,
                "args": list(args),
                # Fixed by the evaluation and the call: a program that draws random numbers repeats.
                "seed": self._seed + 7919 * self._calls,
            }
        )

    def _bounds(self, time_limit_s: float | None) -> tuple[float, float]:
        """CPU seconds of a call, and seconds by the clock."""
        if time_limit_s is None:
            return self._limits.time_s, self._limits.wall_cap_s
        return time_limit_s, 10 * time_limit_s + 1

    def run(
        self, stdin: AnyStr, args: tuple[str, ...] = (), time_limit_s: float | None = None
    ) -> AnyStr:
        """Refused: a program in Python is called, not run."""
        raise TaskError(
            "solution.run() runs a compiled program; without permissions.compiler a utility uses "
            "solution.call(name, ...)."
        )

    def close(self) -> None:
        """Kill the child."""
        if self._child is not None:
            child, self._child = self._child, None
            child.close()

    def _load(self, first_call: bytes) -> bytes:
        """Fork a child and load the program; return what of the first call is yet to be sent.

        A small one goes along, which saves the child and the host one turn of waiting for each
        other. It runs after the load; a load that fails ends the child, and the call with it.
        """
        self._child = self._zygote.fork(self._limits.memory_bytes)
        message = {
            "op": "load",
            "source": self._source,
            "work": self._limits.work,
            "seed": self._seed,
        }
        along = first_call if len(first_call) <= ALONG_BYTES else b""
        try:
            self._exchange(_encoded(message) + along, LOAD_CPU_S, LOAD_WALL_S)
        except CandidateError as error:
            self.close()
            self._broken = error
            raise
        return first_call[len(along) :]

    def _exchange(self, frames: bytes, cpu_s: float, wall_s: float, goes_on: bool = False) -> Any:
        child = self._child
        assert child is not None
        try:
            if frames:
                child.send_frames(frames)
            reply = child.receive(
                cpu_limit_s=cpu_s,
                wall_limit_s=wall_s,
                on_attempt=self.attempts.append,
                goes_on=goes_on,
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


def _or_error(do: Callable[..., T], *arguments: Any) -> T | CandidateError:
    try:
        return do(*arguments)
    except CandidateError as error:
        return error


def _that_fit(frames: Sequence[bytes | CandidateError]) -> list[bytes]:
    """The first frames that an empty socket takes together, and none behind an error."""
    some: list[bytes] = []
    for frame in frames:
        if isinstance(frame, CandidateError) or sum(map(len, some)) + len(frame) > ALONG_BYTES:
            break
        some.append(frame)
    return some or [frame for frame in frames[:1] if isinstance(frame, bytes)]


def _encoded(message: dict[str, Any]) -> bytes:
    try:
        return wire.encode(message)
    except wire.WireError as error:
        raise CandidateError(InvalidValue(reason=str(error))) from None


def without_addresses(text: str) -> str:
    """The text with memory addresses (`<function f at 0x7f...>`) made the same on every run.

    A program that prints an object into a prompt or an error would otherwise never repeat.
    """
    return _ADDRESS.sub(" at 0x0", text)


def printable(text: str) -> str:
    """The text with what is no valid Unicode replaced, fit for the store."""
    return text.encode("utf-8", "replace").decode()


def claimed_failure(reply: dict[str, Any], reason_chars: int = REASON_CHARS) -> Failure:
    """The failure that a child reports of itself; whatever it claims, it is no success."""
    reason = str(reply.get("reason", "the child sent no value"))
    # The line of the error stands at the end.
    reason = shortened(reason, reason_chars, keep_end=True)
    reason = printable(without_addresses(reason))
    return _CLAIMED.get(str(reply.get("failed")), Failed)(reason=reason)


def ended(exit_code: int, error: Exception) -> Failure:
    """The failure of a child that ended, or broke the wire, instead of answering."""
    if isinstance(error, wire.WireError) and exit_code == -9:
        # Reaped by our own kill: it lived, and sent what no guest sends.
        return InvalidValue(reason=f"the pipe carried no valid frame: {error}")
    if exit_code == -signal.SIGXCPU:
        return TimedOut(reason="it used all its CPU time while nobody waited for it")
    if exit_code < 0:
        return Failed(reason=f"it was killed by signal {-exit_code}")
    return Failed(reason=f"it exited with code {exit_code} instead of returning")
