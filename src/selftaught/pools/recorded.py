"""A pool whose jobs are recorded as they end, and not run again when they are recorded.

This is where durable execution lives: a resumed run does everything again through this pool, and
what was done before costs a look-up. The same look-up serves programs that turn up twice in a run:
scoring is deterministic by seed, so they are scored once.
"""

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import msgspec

from selftaught.events import (
    Attempted,
    BudgetRefused,
    Evaluated,
    Improved,
    Requested,
    evaluation_key,
)
from selftaught.pool import Attempt, ImproveJob, Pool, ScoreJob
from selftaught.redaction import redacted
from selftaught.solution import Solution
from selftaught.store.journal import Journal
from selftaught.utility import Outcome, Returned, Scored, kind, number


class RecordedPool:
    """Implements `selftaught.pool.Pool` over another pool and a journal. Thread-safe.

    Args:
        pool: runs what is not recorded.
        journal: where outcomes are found and recorded.
        check: raises where the run is told to stop or its time is over; asked before every job,
            and before every request of an improver that is served.
    """

    def __init__(self, pool: Pool, journal: Journal, check: Callable[[], None]) -> None:
        self.slots = pool.slots
        self._pool = pool
        self._journal = journal
        self._check = check
        self._running: dict[str, Future[Outcome]] = {}
        self._lock = threading.Lock()
        self.scored = 0
        self.reused = 0

    def score(self, job: ScoreJob) -> Outcome:
        """Score a program, once per block of instances however often it is asked for."""
        task = f"{job.task.name}@{job.task.digest}"
        key = evaluation_key(task, job.split, job.repeat, job.solution.hash)

        def recorded() -> Outcome | None:
            return self._journal.recorded_evaluation(task, job.split, job.repeat, job.solution.hash)

        outcome, is_new = self._once(f"score {key}", recorded, lambda: self._score_now(job, task))
        with self._lock:
            self.scored += is_new
            self.reused += not is_new
        return outcome

    def _once(
        self, key: str, recorded: Callable[[], Outcome | None], compute: Callable[[], Outcome]
    ) -> tuple[Outcome, bool]:
        """The recorded outcome, or that of who is computing it, or computed now (then True)."""
        with self._lock:
            found = recorded()
            if found is not None:
                return found, False
            running = self._running.get(key)
            if running is None:
                mine: Future[Outcome] = Future()
                self._running[key] = mine
        if running is not None:
            return running.result(), False
        try:
            outcome = compute()
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            mine.set_result(outcome)
            return outcome, True
        finally:
            with self._lock:
                del self._running[key]

    def _score_now(self, job: ScoreJob, task: str) -> Outcome:
        self._check()
        started = time.monotonic()
        outcome = _without_secrets(self._pool.score(job))
        self._journal.record(
            Evaluated(
                task=task,
                solution=job.solution.hash,
                split=job.split,
                repeat=job.repeat,
                outcome=outcome,
                seconds=time.monotonic() - started,
            ),
            texts=(job.solution.source,),
        )
        return outcome

    def improve(self, job: ImproveJob) -> Outcome:
        """Run an improve job once; a second one under its key gets the same outcome and bill."""

        def recorded() -> Outcome | None:
            event = self._journal.recorded_improvement(job.key)
            return None if event is None else event.outcome

        outcome, _ = self._once(f"improve {job.key}", recorded, lambda: self._improve_now(job))
        bill = self._journal.recorded_improvement(job.key)
        if bill is not None:
            job.account.restore(bill.calls, bill.responses, bill.utility_calls)
        return outcome

    def _improve_now(self, job: ImproveJob) -> Outcome:
        self._check()
        started = time.monotonic()
        outcome = _without_secrets(self._pool.improve(self._observed(job)))
        account = job.account
        for limit, times in (
            ("calls", account.refused_calls),
            ("utility_calls", account.refused_utility_calls),
        ):
            if times:
                self._journal.record(BudgetRefused(job=job.key, limit=limit, times=times))
        returned = outcome.source if isinstance(outcome, Returned) else None
        self._journal.record(
            Improved(
                job=job.key,
                improver=job.improver.hash,
                initial=job.initial.hash,
                target=job.target,
                outcome=outcome,
                unchanged=returned is not None and returned.strip() == job.initial.source.strip(),
                calls=account.calls,
                responses=account.responses,
                utility_calls=account.utility_calls,
                seconds=time.monotonic() - started,
            ),
            texts=(job.improver.source, job.initial.source),
        )
        return outcome

    def close(self) -> None:
        """Close the pool beneath."""
        self._pool.close()

    def _observed(self, job: ImproveJob) -> ImproveJob:
        """The same job, with every score it is told and everything it tries recorded."""
        calls = itertools.count(1)

        def utility(solution: Solution) -> Outcome:
            self._check()
            call = next(calls)
            outcome = job.utility(solution)
            self._journal.record_once(
                Requested(
                    job=job.key,
                    call=call,
                    solution=solution.hash,
                    outcome=kind(outcome),
                    value=number(outcome, job.worst),
                    calls=job.account.calls,
                    responses=job.account.responses,
                )
            )
            return outcome

        def initial_outcome() -> Outcome:
            self._check()
            return job.initial_outcome()

        def on_attempt(attempt: Attempt) -> None:
            self._journal.record(Attempted(job=job.key, what=attempt.what, detail=attempt.detail))
            job.on_attempt(attempt)

        return msgspec.structs.replace(
            job, utility=utility, initial_outcome=initial_outcome, on_attempt=on_attempt
        )


def _without_secrets(outcome: Outcome) -> Outcome:
    """The outcome as it is recorded: an improver must not be told more now than on resuming."""
    match outcome:
        case Scored():
            return msgspec.structs.replace(outcome, feedback=redacted(outcome.feedback))
        case Returned():
            return msgspec.structs.replace(outcome, source=redacted(outcome.source))
        case failure:
            return msgspec.structs.replace(failure, reason=redacted(failure.reason))
