"""Jobs and the pool that runs them: "run this program with these host calls, within these limits".

A job that waits holds no slot. A pool with one slot therefore completes a whole run, however
deeply improve jobs nest (improve the improver -> meta-utility -> improve a task -> score).
"""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import msgspec

from selftaught.budget import Account
from selftaught.language_model import Answer, Request
from selftaught.solution import Solution
from selftaught.task import Limits, Task
from selftaught.utility import Outcome

T = TypeVar("T")

# An improver computes little itself: these bound one that loops, sleeps or hoards.
IMPROVER_LIMITS = Limits(time_s=10.0, wall_s=60.0, memory_bytes=1024**3, work=2_000_000)
MAX_REQUESTS = 50_000


class ScoreJob(msgspec.Struct, frozen=True, kw_only=True):
    """Score a program on the instances of a split.

    Attributes:
        task: whose utility scores.
        solution: the program.
        split: `val`, which improvers may score on, or `test`, which only the host does.
        repeat: which disjoint block of instances of that split.
    """

    task: Task
    solution: Solution
    split: str
    repeat: int = 0


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


class Pool(Protocol):
    """Runs jobs.

    Thread safety: `score` and `improve` are called from many threads and block until done.
    Failure: a program's failure is an outcome; only a broken machine raises.
    """

    slots: int

    def score(self, job: ScoreJob) -> Outcome:
        """Score a program; the scorer runs where the program never does."""
        ...

    def improve(self, job: ImproveJob) -> Outcome:
        """Run an improver to its end: `Returned` with its text, or a failure."""
        ...

    def close(self) -> None:
        """Kill and reap every process of the pool."""
        ...


def run_all(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Run calls at once, each in its own thread, and return their results in order.

    Threads are cheap here: they wait on a slot of the pool or on a language model. The first
    exception is raised after all have ended.
    """
    from concurrent.futures import ThreadPoolExecutor

    if len(calls) == 1:
        return [calls[0]()]
    with ThreadPoolExecutor(max_workers=max(1, len(calls))) as threads:
        futures = [threads.submit(call) for call in calls]
        return [future.result() for future in futures]
