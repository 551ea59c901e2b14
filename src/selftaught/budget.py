"""Budgets: limits as data, and the account in the host that spends them.

A program never holds its own budget. It asks, the host charges the account first, and only
then serves. What a program writes on `utility.uses` or `language_model.budget` changes nothing.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable

import msgspec

from selftaught.errors import BudgetSpent, RunBudgetSpent, UsageError

# Who waits for money looks this often whether the run is told to stop or its time is over.
_LOOK_AGAIN_S = 0.2


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What one application of an improver may spend (paper: 4 calls x 6 responses, 25 scores).

    Attributes:
        calls: language model calls; one `batch_prompt` is one call.
        responses: responses that one call may ask for, at most.
        utility_calls: candidates that may be scored.
    """

    calls: int = 4
    responses: int = 6
    utility_calls: int = 25

    def __post_init__(self) -> None:
        for name in ("calls", "responses", "utility_calls"):
            value = getattr(self, name)
            if value < 1:
                raise UsageError(
                    f"--{name.replace('_', '-')} must be at least 1, not {value!r}: "
                    "an improver with nothing to spend cannot improve anything."
                )


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What applications of improvers spent: fields as in `Budget`, counted."""

    calls: int = 0
    responses: int = 0
    utility_calls: int = 0

    def __add__(self, other: "Spent") -> "Spent":
        """Both together."""
        return Spent(
            calls=self.calls + other.calls,
            responses=self.responses + other.responses,
            utility_calls=self.utility_calls + other.utility_calls,
        )


class RunLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a whole run may spend; None is unlimited.

    Attributes:
        tokens: prompt and completion tokens together.
        dollars: money, for models whose price is known.
        wall_s: seconds of wall time, after which no further request is served.
    """

    tokens: int | None = None
    dollars: float | None = None
    wall_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("tokens", "dollars", "wall_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                flag = name.removesuffix("_s")
                raise UsageError(f"--{flag} must be above 0, not {value!r}; leave it out for none.")


class Account:
    """The spending of one application of an improver. Thread-safe.

    Every `charge_*` either records the spending or raises BudgetSpent and records the refusal;
    it never does both and never lets two threads share the last unit.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.calls = 0
        self.responses = 0
        self.utility_calls = 0
        self.refused_calls = 0
        self.refused_utility_calls = 0
        self._lock = threading.Lock()

    def charge_call(self, n_responses: int) -> None:
        """Pay for one language model call of n responses, or raise BudgetSpent."""
        with self._lock:
            if n_responses > self.budget.responses:
                self.refused_calls += 1
                raise BudgetSpent(
                    "responses",
                    f"{n_responses} responses in one call are over the limit of "
                    f"{self.budget.responses}.",
                )
            if self.calls >= self.budget.calls:
                self.refused_calls += 1
                raise BudgetSpent(
                    "calls", f"The budget of {self.budget.calls} language model calls is spent."
                )
            self.calls += 1
            self.responses += n_responses

    def charge_utility_call(self) -> int:
        """Pay for one score and return its number, from 1, or raise BudgetSpent."""
        with self._lock:
            if self.utility_calls >= self.budget.utility_calls:
                self.refused_utility_calls += 1
                raise BudgetSpent(
                    "utility_calls",
                    f"The budget of {self.budget.utility_calls} utility calls is spent.",
                )
            self.utility_calls += 1
            return self.utility_calls

    def restart(self) -> None:
        """Begin at nothing again: the job is run anew, since the machine failed it."""
        with self._lock:
            self.calls = self.responses = self.utility_calls = 0
            self.refused_calls = self.refused_utility_calls = 0

    def restore(self, calls: int, responses: int, utility_calls: int) -> None:
        """Take over the spending of a job that was recorded as complete."""
        with self._lock:
            self.calls, self.responses, self.utility_calls = calls, responses, utility_calls


class Spending(msgspec.Struct, frozen=True, kw_only=True):
    """An amount: tokens of prompts and completions together, and dollars."""

    tokens: int = 0
    dollars: float = 0.0

    def __add__(self, other: "Spending") -> "Spending":
        return Spending(tokens=self.tokens + other.tokens, dollars=self.dollars + other.dollars)

    def __mul__(self, times: int) -> "Spending":
        return Spending(tokens=self.tokens * times, dollars=self.dollars * times)


class Reservation:
    """What one call under way may cost at most; made by `RunAccount.reserve`, ended by `settle`."""

    def __init__(self, held: Spending) -> None:
        self.held = held


class RunAccount:
    """The spending of a whole run, over all improvers in it. Thread-safe.

    A call to the model reserves the most that it can cost before it begins, and settles to what
    it did cost. What is spent and what is reserved together never exceed a limit, however many
    calls are under way.

    Attributes:
        tokens, dollars: what is spent, without what is reserved.
    """

    def __init__(
        self, limits: RunLimits | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits or RunLimits()
        self.tokens = 0
        self.dollars = 0.0
        self._clock = clock
        self._started = clock()
        self._under_way: set[Reservation] = set()
        self._extending: list[Reservation] = []
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    def check_time(self) -> None:
        """Raise RunBudgetSpent where the run's wall time is over."""
        wall_s = self.limits.wall_s
        if wall_s is not None and self._clock() - self._started >= wall_s:
            raise RunBudgetSpent(f"The run's {wall_s:g} s of wall time are over.")

    def reserve(self, worst: Spending, check: Callable[[], None] = lambda: None) -> Reservation:
        """Set aside the most that a call can cost, waiting for calls under way to settle.

        Those who wait are served in the order in which they came.

        Args:
            worst: an upper bound.
            check: raises where the run is told to stop; called again and again while waiting.

        Raises:
            RunBudgetSpent: it would not fit even if nothing were under way, or time is over.
        """
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                while True:
                    check()
                    self.check_time()
                    self._refuse_beyond(worst)
                    is_next = self._queue[0] is ticket and not self._extending
                    if is_next and self._fits(worst):
                        reservation = Reservation(worst)
                        self._under_way.add(reservation)
                        return reservation
                    self._changed.wait(_LOOK_AGAIN_S)
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()

    def extend(
        self,
        reservation: Reservation,
        more: Spending,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Set more aside for a call that has to be sent again, before those who wait to begin.

        Raises:
            RunBudgetSpent: it would not fit even if nothing else were under way; or every call
                under way waits for this, so that none would ever settle; or time is over.
        """
        with self._changed:
            self._extending.append(reservation)
            try:
                while True:
                    check()
                    self.check_time()
                    self._refuse_beyond(reservation.held + more)
                    if self._fits(more):
                        reservation.held += more
                        return
                    if self._under_way <= set(self._extending):
                        raise RunBudgetSpent(
                            "What is left for the run does not allow for sending a failed "
                            "request again. Allow more, or fewer requests at once."
                        )
                    self._changed.wait(_LOOK_AGAIN_S)
            finally:
                self._extending.remove(reservation)
                self._changed.notify_all()

    def settle(self, reservation: Reservation, actual: Spending) -> None:
        """End a reservation and count what the call did cost."""
        with self._changed:
            self._under_way.discard(reservation)
            self._add(actual)
            self._changed.notify_all()

    def record(self, tokens: int, dollars: float) -> None:
        """Count what was spent before: of a resumed run, what is recorded."""
        with self._changed:
            self._add(Spending(tokens=tokens, dollars=dollars))

    def _add(self, spending: Spending) -> None:
        self.tokens += spending.tokens
        self.dollars += spending.dollars

    def _refuse_beyond(self, worst: Spending) -> None:
        """Raise where an amount is more than is left, whatever the calls under way will cost."""
        limits = self.limits
        if limits.tokens is not None and self.tokens + worst.tokens > limits.tokens:
            raise RunBudgetSpent(
                f"{self.tokens:,} of the run's {limits.tokens:,} tokens are spent, and the next "
                f"call may take {worst.tokens:,}."
            )
        if limits.dollars is not None and self.dollars + worst.dollars > limits.dollars:
            raise RunBudgetSpent(
                f"${self.dollars:.4g} of the run's ${limits.dollars:g} are spent, and the next "
                f"call may cost ${worst.dollars:.4g}."
            )

    def _fits(self, worst: Spending) -> bool:
        limits = self.limits
        held = [one.held for one in self._under_way]
        tokens = self.tokens + worst.tokens + sum(one.tokens for one in held)
        dollars = self.dollars + worst.dollars + math.fsum(one.dollars for one in held)
        return (limits.tokens is None or tokens <= limits.tokens) and (
            limits.dollars is None or dollars <= limits.dollars
        )
