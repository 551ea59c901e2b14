"""A pool whose jobs are recorded as they end, and not run again when they are recorded.

This is where durable execution lives: a resumed run does everything again through this pool, and
what was done before costs a look-up. The same look-up serves programs that turn up twice in a run:
scoring is deterministic by seed, so they are scored once. And it serves programs that were scored
before anybody asked (see `selftaught.pools.speculation`).
"""

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec

from selftaught.errors import (
    ClusterUnavailable,
    ProcessLost,
    SandboxUnavailable,
    SelftaughtError,
)
from selftaught.events import (
    BudgetRefused,
    Evaluated,
    Improved,
    Paused,
    Speculated,
    evaluation_key,
)
from selftaught.language_model import Answer
from selftaught.pool import (
    JOB_LOST,
    MAX_STARTS,
    MORE_MEMORY,
    AheadPool,
    ImproveJob,
    NodeLost,
    Pool,
    ScoreJob,
    Underway,
)
from selftaught.pools.duplicates import Duplicates
from selftaught.pools.observed import observed
from selftaught.pools.speculation import Guess, Guesses, Tally
from selftaught.redaction import redacted
from selftaught.solution import Solution, same_code
from selftaught.store.journal import Journal
from selftaught.utility import Outcome, Returned, Scored


class _Running(msgspec.Struct, eq=False):
    """A computation under way, and how to say that somebody waits for it who did not begin it."""

    outcome: Future[Outcome]
    promote: Callable[[], None] = lambda: None
    scored: ScoreJob | None = None


class _GivenUp(Exception):
    """What was being computed ahead has no outcome; who wants one computes it."""


class RecordedPool:
    """Implements `selftaught.pool.Pool` over another pool and a journal. Thread-safe.

    Args:
        pool: runs what is not recorded.
        journal: where outcomes are found and recorded.
        check: raises where the run is told to stop or its time is over; asked before every job,
            and before every request of an improver that is served.
        speculate: score the programs in answers before they are asked for, where the pool can.
        begin_again: told of the key of an improve job that is run anew, since its node or its
            process was lost.
    """

    def __init__(
        self,
        pool: Pool,
        journal: Journal,
        check: Callable[[], None],
        *,
        speculate: bool = True,
        begin_again: Callable[[str], None] = lambda key: None,
    ) -> None:
        self._begin_again = begin_again
        self._ahead = pool if speculate and isinstance(pool, AheadPool) else None
        # The last are used; machines that joined since had slots for more than those before.
        self._ahead_threads: list[ThreadPoolExecutor] = []
        self._most_ahead = 0
        self._tally = Tally()
        self._pool = pool
        self._journal = journal
        self._check = check
        self._running: dict[str, _Running] = {}
        self._lock = threading.Lock()
        self._duplicates = Duplicates(journal)
        self.scored = 0
        self.reused = 0
        # Scores that are those of another program with the same code.
        self.deduplicated = 0
        # Improve jobs that were run anew.
        self.begun_again = 0

    @property
    def slots(self) -> int:
        """Jobs that compute at once."""
        return self._pool.slots

    def score(self, job: ScoreJob) -> Outcome:
        """Score a program, once per block of instances however often it is asked for."""
        key = _key(job)
        was_ahead = self._tally.asked(key)
        outcome, is_new = self._once(
            f"score {key}", lambda: self._recorded(job), lambda: self._score_now(job), job
        )
        was_ahead = was_ahead or self._tally.asked(key)
        with self._lock:
            self.scored += is_new
            self.reused += not (is_new or was_ahead)
        return outcome

    def _recorded(self, job: ScoreJob) -> Outcome | None:
        """The recorded outcome of the program, or of one with the same code; the lock is held."""
        found = self._own(job)
        if found is not None:
            self._duplicates.add(job)
            return found
        if f"score {_key(job)}" in self._running:
            return None
        same = self._duplicates.score_of_one(job)
        if same is None:
            return None
        self._journal.record(same, texts=(job.solution.source,))
        self.deduplicated += 1
        return same.outcome

    def _own(self, job: ScoreJob) -> Outcome | None:
        return self._journal.recorded_evaluation(
            job.task.key, job.split, job.repeat, job.solution.hash
        )

    def _is_known(self, job: ScoreJob) -> bool:
        """Whether nothing need be computed; records and counts nothing. The lock is held."""
        return (
            f"score {_key(job)}" in self._running
            or self._twin(job) is not None
            or self._own(job) is not None
            or self._duplicates.score_of_one(job) is not None
        )

    def _twin(self, job: ScoreJob) -> _Running | None:
        """Who computes the score of another program with the same code now. The lock is held."""
        for other in self._duplicates.alike(job):
            key = evaluation_key(job.task.key, job.split, job.repeat, other)
            found = self._running.get(f"score {key}")
            if found is None or found.scored is None:
                continue
            if same_code(job.solution.source, found.scored.solution.source):
                return found
        return None

    def _once(
        self,
        key: str,
        recorded: Callable[[], Outcome | None],
        compute: Callable[[], Outcome],
        scored: ScoreJob | None = None,
    ) -> tuple[Outcome, bool]:
        """The recorded outcome, or that of who is computing it, or computed now (then True)."""
        while True:
            twin = None
            with self._lock:
                found = recorded()
                if found is not None:
                    return found, False
                running = self._running.get(key)
                if running is None and scored is not None:
                    twin = self._twin(scored)
                if running is None and twin is None:
                    mine: Future[Outcome] = Future()
                    self._begins(key, _Running(mine, scored=scored))
                    break
            if twin is not None:
                twin.promote()
                # Once it has ended, the score is recorded, and this program's is found by it.
                twin.outcome.exception()
            elif running is not None:
                running.promote()
                with contextlib.suppress(_GivenUp):
                    return running.outcome.result(), False
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

    def _begins(self, key: str, running: _Running) -> None:
        self._running[key] = running
        if running.scored is not None:
            self._duplicates.add(running.scored)

    def _score_now(self, job: ScoreJob) -> Outcome:
        self._check()
        started = time.monotonic()
        outcome = _without_secrets(self._pool.score(job))
        self._record(job, outcome, time.monotonic() - started)
        return outcome

    def _record(self, job: ScoreJob, outcome: Outcome, seconds: float) -> None:
        self._journal.record(
            Evaluated(
                task=job.task.key,
                solution=job.solution.hash,
                split=job.split,
                repeat=job.repeat,
                outcome=outcome,
                seconds=seconds,
            ),
            texts=(job.solution.source,),
        )

    @property
    def speculated(self) -> Speculated:
        """What was scored ahead so far."""
        return self._tally.total()

    def _score_ahead(self, guess: Guess) -> None:
        """Score what nobody has asked for yet; in a thread of its own.

        An error goes nowhere: it comes again with a score that is asked for, or does not matter.
        """
        name = f"score {guess.key}"
        mine: Future[Outcome] = Future()
        began: list[float] = []

        def claim(underway: Underway) -> bool:
            self._check()
            with self._lock:
                if not guess.wanted or self._is_known(guess.job):
                    return False
                self._begins(name, _Running(mine, underway.promote, guess.job))
                guess.underway = underway
            if not guess.wanted:
                # Given up between the two lines above.
                underway.abandon()
            self._tally.begun(guess.key)
            began.append(time.monotonic())
            return True

        if self._ahead is None or not guess.wanted:
            return
        try:
            outcome = self._ahead.score_ahead(guess.job, claim)
            if outcome is not None:
                seconds = time.monotonic() - began[0]
                outcome = _without_secrets(outcome)
                self._record(guess.job, outcome, seconds)
                self._tally.took(guess.key, seconds)
                with self._lock:
                    self.scored += 1
                mine.set_result(outcome)
        finally:
            if began:
                with self._lock:
                    del self._running[name]
            if not mine.done():
                if began:
                    self._tally.given_up(guess.key, time.monotonic() - began[0])
                mine.set_exception(_GivenUp())

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
        outcome = _without_secrets(self._improved(job))
        account = job.account
        for limit, times in (
            ("calls", account.refused_calls),
            ("utility_calls", account.refused_utility_calls),
        ):
            if times:
                self._journal.record_up_to(BudgetRefused(job=job.key, limit=limit, times=times), 1)
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

    def _improved(self, job: ImproveJob) -> Outcome:
        """Run an improve job, anew where the machine failed it: what it did costs a look-up then.

        Whatever it had asked for is answered by now, or it could not have ended.
        """
        starts = 0
        while True:
            starts += 1
            guesses = self._guesses(job)
            try:
                return self._pool.improve(self._observed(job, guesses))
            except (NodeLost, ProcessLost) as lost:
                if starts == MAX_STARTS:
                    raise _too_often(job.key, lost) from lost
                self._journal.record(
                    Paused(what=JOB_LOST, detail=f"{job.key} is run anew, since {lost}")
                )
                with self._lock:
                    self.begun_again += 1
                job.account.restart()
                self._begin_again(job.key)
            finally:
                if guesses is not None:
                    guesses.end()

    def close(self) -> None:
        """Close the pool beneath; what it was scoring ahead is lost."""
        for threads in self._ahead_threads:
            threads.shutdown(wait=False, cancel_futures=True)
        self._pool.close()
        for threads in self._ahead_threads:
            threads.shutdown()

    def _threads_ahead(self) -> ThreadPoolExecutor:
        """As many threads as there are slots: more could not begin."""
        with self._lock:
            slots = max(1, self._pool.slots)
            if slots > self._most_ahead:
                self._most_ahead = slots
                self._ahead_threads.append(ThreadPoolExecutor(slots, thread_name_prefix="ahead"))
            return self._ahead_threads[-1]

    def _guesses(self, job: ImproveJob) -> Guesses | None:
        if job.score_job is None or self._ahead is None:
            return None

        def is_known(score: ScoreJob) -> bool:
            with self._lock:
                return self._is_known(score)

        def begin(guess: Guess) -> None:
            self._threads_ahead().submit(self._score_ahead, guess)

        return Guesses(job.account, job.score_job, _key, is_known, begin)

    def _observed(self, job: ImproveJob, guesses: Guesses | None) -> ImproveJob:
        def answered(answer: Answer) -> None:
            # The last slot is never given away, so there must be another one by now.
            if guesses is not None and self.slots > 1:
                guesses.answered(answer.texts, job.initial.entry_point)

        def asked(solution: Solution) -> None:
            if guesses is not None:
                guesses.asked(solution)

        return observed(job, self._journal, self._check, answered=answered, asked=asked)


def _too_often(key: str, lost: NodeLost | ProcessLost) -> SelftaughtError:
    why = str(lost).rstrip(".")
    told = f"The improver of {key} was lost {MAX_STARTS} times, the last time since {why}."
    if isinstance(lost, NodeLost):
        return ClusterUnavailable(f"{told} `selftaught resume` goes on.")
    return SandboxUnavailable(f"{told} {MORE_MEMORY}")


def _key(job: ScoreJob) -> str:
    return evaluation_key(job.task.key, job.split, job.repeat, job.solution.hash)


def _without_secrets(outcome: Outcome) -> Outcome:
    """The outcome as it is recorded: an improver must not be told more now than on resuming."""
    match outcome:
        case Scored():
            return msgspec.structs.replace(outcome, feedback=redacted(outcome.feedback))
        case Returned():
            return msgspec.structs.replace(outcome, source=redacted(outcome.source))
        case failure:
            return msgspec.structs.replace(failure, reason=redacted(failure.reason))
