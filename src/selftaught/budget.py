"""Budgets: limits as data, and the account in the host that spends them.

A program never holds its own budget. It asks, the host charges the account first, and only
then serves. What a program writes on `utility.uses` or `language_model.budget` changes nothing.
"""

import math
import threading
import time
from collections.abc import Callable

import msgspec

from selftaught.errors import BudgetSpent, RunBudgetSpent, UsageError


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

    def charge_utility_call(self) -> None:
        """Pay for one score, or raise BudgetSpent."""
        with self._lock:
            if self.utility_calls >= self.budget.utility_calls:
                self.refused_utility_calls += 1
                raise BudgetSpent(
                    "utility_calls",
                    f"The budget of {self.budget.utility_calls} utility calls is spent.",
                )
            self.utility_calls += 1

    def restore(self, calls: int, responses: int, utility_calls: int) -> None:
        """Take over the spending of a job that was recorded as complete."""
        with self._lock:
            self.calls, self.responses, self.utility_calls = calls, responses, utility_calls


class RunAccount:
    """The spending of a whole run, over all improvers in it. Thread-safe."""

    def __init__(
        self, limits: RunLimits | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits or RunLimits()
        self.tokens = 0
        self.dollars = 0.0
        self._clock = clock
        self._started = clock()
        self._lock = threading.Lock()

    def check_time(self) -> None:
        """Raise RunBudgetSpent where the run's wall time is over."""
        wall_s = self.limits.wall_s
        if wall_s is not None and self._clock() - self._started >= wall_s:
            raise RunBudgetSpent(f"The run's {wall_s:g} s of wall time are over.")

    def check(self) -> None:
        """Raise RunBudgetSpent where any limit of the run has been reached."""
        self.check_time()
        limits = self.limits
        with self._lock:
            if limits.tokens is not None and self.tokens >= limits.tokens:
                raise RunBudgetSpent(f"The run's {limits.tokens:,} tokens are spent.")
            if limits.dollars is not None and self.dollars >= limits.dollars:
                raise RunBudgetSpent(f"The run's ${limits.dollars:g} are spent.")

    def record(self, tokens: int, dollars: float) -> None:
        """Add what an answer cost."""
        with self._lock:
            self.tokens += tokens
            self.dollars += dollars
