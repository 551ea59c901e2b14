"""An improver at work: it computes in turns, and between them the host serves what it asks for."""

import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from selftaught.errors import ProcessLost, SandboxUnavailable, SolutionError
from selftaught.pool import IMPROVER_LIMITS, Attempt
from selftaught.pools.session import RequestRefused, Session
from selftaught.sandbox.candidate import LOAD_CPU_S, LOAD_WALL_S, claimed_failure, ended
from selftaught.sandbox.guest import wire
from selftaught.sandbox.zygote import Child, CpuLimitReached
from selftaught.solution import Solution
from selftaught.utility import Failed, Failure, InvalidValue, Outcome, Refused, Returned, TimedOut

# Seconds by the clock that an improver may take between its requests, all of them together.
OWN_WALL_S = 120.0


def child_limits() -> tuple[int, float]:
    """Bytes and CPU seconds after which the kernel ends an improver, whether or not it has a turn.

    It may have left a thread running while the host serves for minutes.
    """
    return IMPROVER_LIMITS.memory_bytes, LOAD_CPU_S + IMPROVER_LIMITS.time_s + 1


class Turns(Protocol):
    """One improver in its sandbox, wherever that is. Used by one thread at a time."""

    def turn(
        self, message: dict[str, Any], note: Callable[[Attempt], None]
    ) -> dict[str, Any] | Failure:
        """Give the improver a message, and return what it says next, or how it failed.

        Args:
            message: opens the loading or the improving, or answers what it asked for.
            note: told of what it tried and may not.

        Raises:
            NodeLost: the machine that it ran on is gone.
            ProcessLost: its process was killed from outside.
        """
        ...

    def close(self) -> None:
        """End it."""
        ...


class SandboxedTurns:
    """Implements `Turns` with a child of a zygote of this machine."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._is_closed = False
        self._limits(0.0, 0.0)

    def _limits(self, cpu_s: float, wall_s: float) -> None:
        self._cpu_s, self._wall_s = cpu_s, wall_s
        self._cpu_end = self._child.charged_s + cpu_s
        self._own_s = 0.0

    def turn(
        self, message: dict[str, Any], note: Callable[[Attempt], None]
    ) -> dict[str, Any] | Failure:
        """See `Turns.turn`; loading and improving have limits of their own."""
        match message.get("op"):
            case "load":
                self._limits(LOAD_CPU_S, LOAD_WALL_S)
            case "improve":
                self._limits(IMPROVER_LIMITS.time_s, IMPROVER_LIMITS.wall_cap_s)
        try:
            began = time.monotonic()
            self._child.send(message)
            reply = self._child.receive(
                cpu_limit_s=self._cpu_end - self._child.charged_s,
                wall_limit_s=min(self._wall_s, OWN_WALL_S - self._own_s),
                on_attempt=note,
            )
            self._own_s += time.monotonic() - began
        except CpuLimitReached:
            return TimedOut(reason=f"more than {self._cpu_s:g} s of CPU time")
        except wire.Overdue:
            return TimedOut(
                reason=f"over {self._wall_s:g} s by the clock without a request, "
                f"or over {OWN_WALL_S:g} s of its own in all"
            )
        except (wire.EndOfFrames, wire.WireError) as error:
            self._is_closed = True
            try:
                return ended(self._child.close(), error)
            except ProcessLost:
                raise
            except SandboxUnavailable as gone:
                return Failed(reason=str(gone))
        return reply

    def close(self) -> None:
        """Kill and reap the child."""
        if not self._is_closed:
            self._is_closed = True
            with contextlib.suppress(SandboxUnavailable):
                self._child.close()


def converse(
    turns: Turns, session: Session, slot: Callable[[], AbstractContextManager[object]]
) -> Outcome:
    """Load an improver, run it to its end and serve what it asks for.

    Args:
        turns: the improver; it is ended in any case.
        session: answers it.
        slot: held while the improver computes, and not while it is served.
    """
    job = session.job
    loading = {
        "op": "load",
        "source": job.improver.source,
        "work": IMPROVER_LIMITS.work,
        "seed": job.seed,
    }
    try:
        for opening in (loading, session.opening()):
            outcome = _until_done(turns, session, slot, opening)
            if outcome is not None:
                return outcome
    finally:
        turns.close()
    return InvalidValue(reason="the improver returned nothing")


def _until_done(
    turns: Turns,
    session: Session,
    slot: Callable[[], AbstractContextManager[object]],
    message: dict[str, Any],
) -> Outcome | None:
    """Exchange messages until the guest is done; None for a load without a value."""
    while True:
        with slot():
            reply = turns.turn(message, session.note)
        if not isinstance(reply, dict):
            return reply
        if "ask" not in reply:
            return _result(reply)
        try:
            message = session.serve(reply)
        except RequestRefused as refusal:
            return Refused(reason=str(refusal))


def _result(reply: dict[str, Any]) -> Outcome | None:
    if "ok" not in reply:
        return claimed_failure(reply)
    value = reply["ok"]
    if value is None:
        return None
    if not isinstance(value, str):
        return InvalidValue(reason=f"an improver must return a text, not {type(value).__name__}")
    try:
        return Returned(source=Solution.admit(value, "").source)
    except SolutionError as error:
        return InvalidValue(reason=str(error))
