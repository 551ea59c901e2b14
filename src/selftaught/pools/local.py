"""The pool of this machine: one evaluator and one slot per core, improvers from one zygote."""

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files

from selftaught.errors import SandboxUnavailable, SolutionError
from selftaught.pool import IMPROVER_LIMITS, Attempt, ImproveJob, ScoreJob
from selftaught.pools.evaluator_process import EvaluatorProcess
from selftaught.pools.session import RequestRefused, Session
from selftaught.sandbox.candidate import LOAD_CPU_S, LOAD_WALL_S, claimed_failure, ended
from selftaught.sandbox.guest import wire
from selftaught.sandbox.layers import choose_layers
from selftaught.sandbox.zygote import Child, CpuLimitReached, Zygote
from selftaught.solution import Solution
from selftaught.utility import Failed, Failure, InvalidValue, Outcome, Refused, Returned, TimedOut

IMPROVER_MODULES = ("numpy",)
# Seconds by the clock that an improver may take between its requests, all of them together.
OWN_WALL_S = 120.0


class LocalPool:
    """Implements `selftaught.pool.Pool` with processes on this machine.

    A slot is a core's worth of work. It is held while a candidate is scored or an improver
    computes, and by nobody who waits.

    Args:
        slots: jobs that compute at once; the number of cores where left out.
        allow_weak_sandbox: go on, with limits only, where isolation layers are missing.
        on_attempt: told of what candidates tried and may not.

    Raises:
        SandboxUnavailable: isolation layers are missing.
    """

    def __init__(
        self,
        slots: int | None = None,
        *,
        allow_weak_sandbox: bool = False,
        on_attempt: Callable[[str, Attempt], None] | None = None,
    ) -> None:
        self.slots = slots or os.cpu_count() or 1
        self.layers = choose_layers(allow_weak_sandbox)
        self._on_attempt = on_attempt or (lambda program, attempt: None)
        self._free = threading.Semaphore(self.slots)
        self._evaluators: queue.LifoQueue[EvaluatorProcess] = queue.LifoQueue()
        self._all_evaluators: list[EvaluatorProcess] = []
        self._improvers: Zygote | None = None
        self._starting = threading.Lock()

    def score(self, job: ScoreJob) -> Outcome:
        """Score a program in an evaluator; see `selftaught.pool.Pool.score`."""
        with self._slot(), self._evaluator() as evaluator:
            outcome, attempts = evaluator.score(job)
        for attempt in attempts:
            self._on_attempt(job.solution.hash, attempt)
        return outcome

    def improve(self, job: ImproveJob) -> Outcome:
        """Run an improver in a child of its own; see `selftaught.pool.Pool.improve`."""
        session = Session(job)
        with self._slot():
            child = self._fork()
            opening = {
                "op": "load",
                "source": job.improver.source,
                "work": IMPROVER_LIMITS.work,
                "seed": job.seed,
            }
        try:
            outcome = self._converse(child, session, opening, LOAD_CPU_S, LOAD_WALL_S)
            if outcome is None:
                outcome = self._converse(
                    child,
                    session,
                    session.opening(),
                    IMPROVER_LIMITS.time_s,
                    IMPROVER_LIMITS.wall_cap_s,
                )
        except (wire.EndOfFrames, wire.WireError) as error:
            try:
                return ended(child.close(), error)
            except SandboxUnavailable as gone:
                return Failed(reason=str(gone))
        except BaseException:
            with contextlib.suppress(SandboxUnavailable):
                child.close()
            raise
        with contextlib.suppress(SandboxUnavailable):
            child.close()
        return outcome or InvalidValue(reason="the improver returned nothing")

    def close(self) -> None:
        """End every process of the pool."""
        for evaluator in self._all_evaluators:
            evaluator.close()
        if self._improvers is not None:
            self._improvers.close()

    def _converse(
        self,
        child: Child,
        session: Session,
        message: dict[str, object],
        cpu_s: float,
        wall_s: float,
    ) -> Outcome | None:
        """Exchange messages until the guest is done; None for a load without a value."""
        cpu_end = child.charged_s + cpu_s
        own_s = 0.0
        while True:
            try:
                with self._slot():
                    began = time.monotonic()
                    child.send(message)
                    reply = child.receive(
                        cpu_limit_s=cpu_end - child.charged_s,
                        wall_limit_s=min(wall_s, OWN_WALL_S - own_s),
                        on_attempt=session.note,
                    )
                    own_s += time.monotonic() - began
                if "ask" not in reply:
                    return _result(reply)
                message = session.serve(reply)
            except CpuLimitReached:
                return TimedOut(reason=f"more than {cpu_s:g} s of CPU time")
            except wire.Overdue:
                return TimedOut(
                    reason=f"over {wall_s:g} s by the clock without a request, "
                    f"or over {OWN_WALL_S:g} s of its own in all"
                )
            except RequestRefused as refusal:
                return Refused(reason=str(refusal))

    @contextmanager
    def _slot(self) -> Iterator[None]:
        self._free.acquire()
        try:
            yield
        finally:
            self._free.release()

    @contextmanager
    def _evaluator(self) -> Iterator[EvaluatorProcess]:
        try:
            evaluator = self._evaluators.get_nowait()
        except queue.Empty:
            # A slot is held, so there are never more evaluators than slots.
            evaluator = EvaluatorProcess(self.layers)
            self._all_evaluators.append(evaluator)
        try:
            yield evaluator
        except SandboxUnavailable:
            # It could not be started again: nobody may use its descriptors, which are closed.
            raise
        except BaseException:
            self._evaluators.put(evaluator)
            raise
        self._evaluators.put(evaluator)

    def _fork(self) -> Child:
        # The kernel ends a thread that is left running while the host serves for minutes.
        limits = IMPROVER_LIMITS.memory_bytes, LOAD_CPU_S + IMPROVER_LIMITS.time_s + 1
        zygote = self._zygote()
        try:
            return zygote.fork(*limits)
        except SandboxUnavailable:
            # Once may be the machine's doing.
            return self._zygote(instead_of=zygote).fork(*limits)

    def _zygote(self, instead_of: Zygote | None = None) -> Zygote:
        with self._starting:
            if instead_of is not None and self._improvers is instead_of:
                instead_of.close()
                self._improvers = None
            if self._improvers is None:
                fences = (files("selftaught") / "fences.py").read_text(encoding="utf-8")
                self._improvers = Zygote(self.layers, IMPROVER_MODULES, {"helpers": fences})
            return self._improvers


def _result(reply: dict[str, object]) -> Outcome | None:
    if "ok" not in reply:
        failure: Failure = claimed_failure(reply)
        return failure
    value = reply["ok"]
    if value is None:
        return None
    if not isinstance(value, str):
        return InvalidValue(reason=f"an improver must return a text, not {type(value).__name__}")
    try:
        return Returned(source=Solution.admit(value, "").source)
    except SolutionError as error:
        return InvalidValue(reason=str(error))
