"""Jobs and the pool that runs them: "run this program with these host calls, within these limits".

A job that waits holds no slot. A pool with one slot therefore completes a whole run, however
deeply improve jobs nest (improve the improver -> meta-utility -> improve a task -> score).

Nor does nesting take a thread for every call of every level. Whoever wants calls run takes part in
the work: `run_all` runs them in the calling thread, and up to MAX_THREADS others help wherever
calls are left. A batch that gets no help is run by its caller alone, so there is nothing that
could wait for a thread for ever.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import msgspec

from selftaught.budget import Account
from selftaught.language_model import Answer, Request
from selftaught.solution import Solution
from selftaught.task import Limits, Task
from selftaught.utility import Outcome

# How often a job is begun whose process was killed from outside. Once is an accident; on a machine
# that has too little memory it would go on for ever.
MAX_STARTS = 3
# What to do about it.
MORE_MEMORY = "Give the run more memory, or fewer --slots. `selftaught resume` goes on with it."
# `what` of the `paused` event of such a loss.
JOB_LOST = "job_lost"

T = TypeVar("T")

# An improver computes little itself: these bound one that loops, sleeps or hoards.
IMPROVER_LIMITS = Limits(time_s=10.0, wall_s=60.0, memory_bytes=1024**3, work=2_000_000)
MAX_REQUESTS = 50_000
# Enough for what waits on language models and slots at once; a thread that waits costs about
# 50 kB. Above it calls of one batch follow one another instead of overlapping.
MAX_THREADS = 256


class NodeLost(Exception):
    """The machine that ran a job is gone, and nothing came of the job; it can be begun again."""


class ScoreJob(msgspec.Struct, frozen=True, kw_only=True):
    """Score a program on the instances of a split.

    Attributes:
        task: whose utility scores.
        solution: the program.
        split: `val`, which improvers may score on, or `test`, which only the host does.
        repeat: which disjoint block of instances of that split.
        share: on whose behalf; those who compete for slots get equal shares of them.
    """

    task: Task
    solution: Solution
    split: str
    repeat: int = 0
    share: str = ""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """Something a program tried that it may not do, as the kernel told or its guest saw it.

    Attributes:
        what: a system call (`socket`, `clone`), or what the guest saw: `open`, `budget`, ...
        detail: the operation with its arguments, cut to 200 characters; it ends in `told by the
            kernel` where the program has no say in it.
    """

    what: str
    detail: str


class ImproveJob(msgspec.Struct, frozen=True, kw_only=True):
    """Run an improver on a program: I(u, s, L) -> s' (paper, section 3).

    Attributes:
        key: a stable name of the job within its run, the prefix of all its requests' names.
        improver: the program to run.
        initial: the solution it is to improve.
        target: the task's name, or `meta-utility`.
        utility_text: `utility.str`.
        utility: scores one candidate; called from several threads.
        initial_outcome: the initial solution's own score, shown as `utility.initial`.
        worst: the number that stands for a failure.
        ask: the language model, with everything but the request bound.
        account: the budget in the host.
        seed: seeds the guest's random sources.
        on_attempt: told of what the program tried and may not.
        on_score: told of every score that was charged, with its number, before the program is.
        score_job: the job that `utility` runs for a program, where that is all it does and asks
            no language model. Such a score can be computed before it is asked for.
    """

    key: str
    improver: Solution
    initial: Solution
    target: str
    utility_text: str
    utility: Callable[[Solution], Outcome]
    initial_outcome: Callable[[], Outcome]
    worst: float
    ask: Callable[[Request], Answer]
    account: Account
    seed: int
    on_attempt: Callable[[Attempt], None]
    score_job: Callable[[Solution], ScoreJob] | None = None
    on_score: Callable[[int, Solution, Outcome], None] = lambda call, solution, outcome: None


class Pool(Protocol):
    """Runs jobs.

    Thread safety: `score` and `improve` are called from many threads and block until done.
    Failure: a program's failure is an outcome; only a broken machine raises.
    """

    @property
    def slots(self) -> int:
        """Jobs that compute at once; may change where machines come and go."""
        ...

    def score(self, job: ScoreJob) -> Outcome:
        """Score a program; the scorer runs where the program never does."""
        ...

    def improve(self, job: ImproveJob) -> Outcome:
        """Run an improver to its end: `Returned` with its text, or a failure."""
        ...

    def close(self) -> None:
        """Kill and reap every process of the pool."""
        ...


class Underway(Protocol):
    """A job that was begun before anybody asked for it."""

    def promote(self) -> None:
        """Somebody asked for it: it is done like any other from now on."""
        ...

    def abandon(self) -> None:
        """Nobody can ask for it any more: it may be ended, unless it is promoted in time."""
        ...


Claim = Callable[[Underway], bool]
"""Asked when a slot is there whether the job is still to be done; gets what is then under way."""


@runtime_checkable
class AheadPool(Pool, Protocol):
    """A pool that can also do what nobody has asked for yet, in slots that nobody else wants."""

    def score_ahead(self, job: ScoreJob, claim: Claim) -> Outcome | None:
        """Score a program as soon as no job that was asked for waits for a slot.

        Returns:
            The outcome, or None where `claim` said that it is no longer wanted, or where it was
            abandoned.
        """
        ...


class _Batch(Generic[T]):
    """Calls of one `run_all`; each is taken once, by whoever comes first."""

    def __init__(self, calls: Sequence[Callable[[], T]]) -> None:
        self._calls = calls
        self._futures: list[Future[T]] = [Future() for _ in calls]
        self._taken = 0
        self._is_interrupted = False
        self._lock = threading.Lock()

    def run_one(self) -> bool:
        """Run the next call that nobody has taken; False where none is to be run after it."""
        with self._lock:
            number = self._taken
            self._taken = min(number + 1, len(self._calls))
        if number == len(self._calls):
            return False
        future = self._futures[number]
        try:
            future.set_result(self._calls[number]())
        except BaseException as error:  # noqa: BLE001 - it is raised where the batch is waited for
            future.set_exception(error)
            self._is_interrupted |= isinstance(error, KeyboardInterrupt)
        return not self._is_interrupted

    def results(self) -> list[T]:
        """Wait for all calls; the first exception in order is raised after all have ended.

        A KeyboardInterrupt waits for nothing.
        """
        if self._is_interrupted:
            raise KeyboardInterrupt
        for future in self._futures:
            future.exception()
        return [future.result() for future in self._futures]


class Crew:
    """Threads that help with batches. Thread-safe.

    Args:
        most: helping threads at once, over all batches; callers are not counted.
    """

    def __init__(self, most: int = MAX_THREADS) -> None:
        self._most = most
        self._helping = 0
        self._open: list[_Batch[Any]] = []
        self._lock = threading.Lock()

    def run_all(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """Run calls at once and return their results in order.

        The first exception is raised after all have ended; KeyboardInterrupt at once.
        """
        if len(calls) == 1:
            return [calls[0]()]
        batch = _Batch(calls)
        with self._lock:
            self._open.append(batch)
            hired = max(0, min(len(calls) - 1, self._most - self._helping))
            self._helping += hired
        for _ in range(hired):
            threading.Thread(target=self._help, name="crew", daemon=True).start()
        while batch.run_one():
            pass
        self._shut(batch)
        return batch.results()

    def _help(self) -> None:
        while True:
            with self._lock:
                if not self._open:
                    self._helping -= 1
                    return
                # The newest first: what is nested deepest holds up the most.
                batch = self._open[-1]
            if not batch.run_one():
                self._shut(batch)

    def _shut(self, batch: _Batch[Any]) -> None:
        with self._lock:
            if batch in self._open:
                self._open.remove(batch)


run_all = Crew().run_all
