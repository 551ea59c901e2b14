"""Jobs and the pool that runs them: "run this program with these host calls, within these limits".

A job that waits holds no slot. A pool with one slot therefore completes a whole run, however
deeply improve jobs nest (improve the improver -> meta-utility -> improve a task -> score).
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import msgspec

from selftaught.budget import Account
from selftaught.language_model import Answer, Request
from selftaught.solution import Solution
from selftaught.task import Limits, Task
from selftaught.utility import Outcome

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
        share: on whose behalf; those who compete for slots get equal shares of them.
    """

    task: Task
    solution: Solution
    split: str
    repeat: int = 0
    share: str = ""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """Something a program tried that it may not do, as its guest saw it.

    Attributes:
        what: `socket`, `open`, `fork`, `exec`, `budget`, `language_model`, ...
        detail: the operation with its arguments, cut to 200 characters.
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
