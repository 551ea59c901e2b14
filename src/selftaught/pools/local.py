"""The pool of this machine: one evaluator and one slot per core, improvers from zygotes."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from importlib.resources import files
from typing import TypeVar

from selftaught.errors import ProcessLost, SandboxUnavailable, SolutionError
from selftaught.pool import IMPROVER_LIMITS, MAX_STARTS, Attempt, Claim, ImproveJob, ScoreJob
from selftaught.pools.evaluator_process import EvaluatorProcess
from selftaught.pools.gate import Gate, Ticket, Urgency
from selftaught.pools.session import RequestRefused, Session
from selftaught.sandbox.candidate import LOAD_CPU_S, LOAD_WALL_S, claimed_failure, ended
from selftaught.sandbox.grant import Grant, grant_for
from selftaught.sandbox.guest import wire
from selftaught.sandbox.layers import choose_layers
from selftaught.sandbox.zygote import Child, CpuLimitReached, Zygote
from selftaught.solution import Solution
from selftaught.task import Task
from selftaught.utility import Failed, Failure, InvalidValue, Outcome, Refused, Returned, TimedOut

P = TypeVar("P")

# Improvers may import it; few do, and it takes longer to load than all else that they need.
IMPROVER_MODULES = ("numpy",)
# Seconds by the clock that an improver may take between its requests, all of them together.
OWN_WALL_S = 120.0
# A score that nobody can ask for any more gets this long to end by itself, which leaves a record
# of it and spares the start of an evaluator.
ABANDON_S = 2.0
# For those who still score when the pool is closed to notice that their evaluator is gone.
_CLOSING_S = 10.0
# How much the latest score of a task tells about the next one, against all before it.
_NEWEST = 0.2


class LocalPool:
    """Implements `selftaught.pool.AheadPool` with processes on this machine.

    A slot is a core's worth of work. It is held while a candidate is scored or an improver
    computes, and by nobody who waits.

    Args:
        slots: jobs that compute at once; the number of cores where left out.
        allow_weak_sandbox: go on, with limits only, where isolation layers are missing.
        allow_network: the operator agrees that candidates reach the network where their task
            permits it.
        on_attempt: told of what candidates tried and may not.

    Raises:
        SandboxUnavailable: isolation layers are missing.
    """

    def __init__(
        self,
        slots: int | None = None,
        *,
        allow_weak_sandbox: bool = False,
        allow_network: bool = False,
        on_attempt: Callable[[str, Attempt], None] | None = None,
    ) -> None:
        self.slots = slots or os.cpu_count() or 1
        self.layers = choose_layers(allow_weak_sandbox)
        self._allow_network = allow_network
        self._grants: dict[str, Grant] = {}
        self._on_attempt = on_attempt or (lambda program, attempt: None)
        self._gate = Gate(self.slots)
        self._usual_s: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()
        self._idle_evaluators: list[Future[EvaluatorProcess]] = []
        self._all_evaluators: list[Future[EvaluatorProcess]] = []
        self._zygotes: dict[tuple[str, ...], Future[Zygote]] = {}
        # What every run needs starts at once, while the host loads its own parts.
        self._starting = ThreadPoolExecutor(thread_name_prefix="starting")
        self._zygote_starting(())
        self._idle_evaluators.append(self._evaluator_starting())

    def score(self, job: ScoreJob) -> Outcome:
        """Score a program in an evaluator; see `selftaught.pool.Pool.score`.

        Raises:
            SelftaughtError: this machine or its operator does not give what the task permits.
        """
        with self._gate.slot(Urgency.ASKED, share=job.share, expected_s=self._expected_s(job)):
            return self._score(job)

    def score_ahead(self, job: ScoreJob, claim: Claim) -> Outcome | None:
        """Score a program that may be asked for; see `selftaught.pool.AheadPool.score_ahead`."""
        expected_s = self._expected_s(job)
        with self._gate.slot(Urgency.AHEAD, share=job.share, expected_s=expected_s) as ticket:
            underway = _Underway(self._gate, ticket)
            if not claim(underway):
                return None
            try:
                return self._score(job, underway)
            except SandboxUnavailable:
                if underway.was_ended:
                    return None
                raise

    def _score(self, job: ScoreJob, underway: "_Underway | None" = None) -> Outcome:
        """Score in an evaluator; a slot is held."""
        grant = self._granted(job.task)
        began = time.monotonic()
        with self._evaluator() as evaluator, underway or nullcontext():
            if underway is not None:
                underway.use(evaluator)
            outcome, attempts = evaluator.score(job, grant)
        self._took(job, time.monotonic() - began)
        for attempt in attempts:
            self._on_attempt(job.solution.hash, attempt)
        return outcome

    def _expected_s(self, job: ScoreJob) -> float:
        return self._usual_s.get((job.task.digest, job.split), 0.0)

    def _took(self, job: ScoreJob, seconds: float) -> None:
        kind = job.task.digest, job.split
        before = self._usual_s.get(kind, seconds)
        self._usual_s[kind] = before + _NEWEST * (seconds - before)

    def improve(self, job: ImproveJob) -> Outcome:
        """Run an improver in a child of its own; see `selftaught.pool.Pool.improve`."""
        session = Session(job)
        with self._gate.slot(Urgency.TURN, share=job.improver.hash):
            child = self._fork(job.improver.source)
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
            except ProcessLost:
                raise
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
        """End every process of the pool; what is still being scored ahead is given up."""
        deadline = time.monotonic() + _CLOSING_S
        while not self._gate.is_idle and time.monotonic() < deadline:
            # Again and again: one may have been starting.
            for evaluator in _started(self._all_evaluators):
                evaluator.kill()
            time.sleep(0.005)
        self._starting.shutdown()
        for evaluator in _started(self._all_evaluators):
            evaluator.close()
        for zygote in _started(self._zygotes.values()):
            zygote.close()

    def _granted(self, task: Task) -> Grant:
        # Two threads may both look: they find the same.
        key = f"{task.folder} {task.digest}"
        if key not in self._grants:
            self._grants[key] = grant_for(task, self.layers, allow_network=self._allow_network)
        return self._grants[key]

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
                with self._gate.slot(Urgency.TURN, share=session.job.improver.hash):
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
    def _evaluator(self) -> Iterator[EvaluatorProcess]:
        """Have an evaluator to oneself. A slot is held, so there are never more than slots."""
        with self._lock:
            mine = self._idle_evaluators.pop() if self._idle_evaluators else None
        if mine is None:
            mine = self._evaluator_starting()
        is_usable = True
        try:
            yield mine.result()
        except SandboxUnavailable:
            # It was ended, or could not be started again.
            is_usable = False
            raise
        finally:
            self._give_back(mine, is_usable)

    def _give_back(self, mine: Future[EvaluatorProcess], is_usable: bool) -> None:
        with self._lock:
            if is_usable and mine.exception() is None and not mine.result().is_killed:
                self._idle_evaluators.append(mine)
                return
            self._all_evaluators.remove(mine)
        for evaluator in _started([mine]):
            evaluator.close()

    def _evaluator_starting(self) -> Future[EvaluatorProcess]:
        evaluator = self._starting.submit(EvaluatorProcess, self.layers)
        with self._lock:
            self._all_evaluators.append(evaluator)
        return evaluator

    def _fork(self, improver: str) -> Child:
        """A child for an improver, of a zygote that has loaded the modules which it names."""
        # The kernel ends a thread that is left running while the host serves for minutes.
        limits = IMPROVER_LIMITS.memory_bytes, LOAD_CPU_S + IMPROVER_LIMITS.time_s + 1
        preload = tuple(name for name in IMPROVER_MODULES if name in improver)
        for start in range(1, MAX_STARTS):
            starting = self._zygote_starting(preload)
            try:
                return starting.result().fork(*limits)
            except SandboxUnavailable as error:
                self._discard(preload, starting)
                # Once may be the machine's doing however it ended; one that cannot start never
                # will, unless it was killed.
                is_over = start > 1 or starting.exception() is not None
                if is_over and not isinstance(error, ProcessLost):
                    raise
        return self._zygote_starting(preload).result().fork(*limits)

    def _discard(self, preload: tuple[str, ...], zygote: Future[Zygote]) -> None:
        with self._lock:
            if self._zygotes.get(preload) is not zygote:
                return
            del self._zygotes[preload]
        for started in _started([zygote]):
            started.close()

    def _zygote_starting(self, preload: tuple[str, ...]) -> Future[Zygote]:
        with self._lock:
            if preload not in self._zygotes:
                fences = (files("selftaught") / "fences.py").read_text(encoding="utf-8")
                self._zygotes[preload] = self._starting.submit(
                    Zygote, self.layers, IMPROVER_MODULES, {"helpers": fences}, preload
                )
            return self._zygotes[preload]


class _Underway:
    """Implements `selftaught.pool.Underway` for one score."""

    def __init__(self, gate: Gate, ticket: Ticket) -> None:
        self._gate = gate
        self._ticket = ticket
        self._evaluator: EvaluatorProcess | None = None
        self._lock = threading.Lock()
        self.was_ended = False

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        # From here on the evaluator is another's.
        with self._lock:
            self._evaluator = None

    def use(self, evaluator: EvaluatorProcess) -> None:
        """The evaluator that scores it, until the end of the context."""
        with self._lock:
            self._evaluator = evaluator

    def promote(self) -> None:
        """See `selftaught.pool.Underway`."""
        self._gate.promote(self._ticket)

    def abandon(self) -> None:
        """End it if it still lasts after ABANDON_S, with its evaluator."""
        timer = threading.Timer(ABANDON_S, self._end)
        timer.daemon = True
        timer.start()

    def _end(self) -> None:
        with self._lock:
            if self._evaluator is not None and self._ticket.urgency is Urgency.AHEAD:
                self.was_ended = True
                self._evaluator.kill()


def _started(starting: Iterable[Future[P]]) -> list[P]:
    """What has started by now, and did not fail to."""
    return [one.result() for one in list(starting) if one.done() and one.exception() is None]


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
