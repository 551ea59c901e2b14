"""Scoring: what a score is, the closed set of outcomes, and the one place that makes numbers.

A crash is never a zero. Every attempt to score or to improve ends in exactly one `Outcome`;
`number` maps it to the float that the improver API returns.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, AnyStr, Protocol

import msgspec

from selftaught.plain_text import shortened

# After this many failures before the first success the remaining instances are not run: a program
# that loops forever would otherwise cost its time limit on each of them.
GIVE_UP_AFTER = 3
FEEDBACK_CHARS = 2_000


class Scored(msgspec.Struct, frozen=True, kw_only=True, tag="scored"):
    """The program ran and has a value.

    Attributes:
        value: higher is better, in the task's own unit (negated where the task minimises).
        standard_error: of the mean over instances; 0 for a single instance.
        values: the value on each instance, in order of instance seed.
        failures: how many instances failed, by outcome kind; they count as the task's worst.
        feedback: text for the improver, if the utility gives any.
    """

    value: float
    standard_error: float = 0.0
    values: tuple[float, ...] = ()
    failures: dict[str, int] = {}
    feedback: str = ""


class Returned(msgspec.Struct, frozen=True, kw_only=True, tag="returned"):
    """An improver ended properly and returned a program text."""

    source: str


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The program raised, exited, was killed by a signal, or does not compile."""

    reason: str


class TimedOut(msgspec.Struct, frozen=True, kw_only=True, tag="timed_out"):
    """A limit of time was reached; the reason names which: cpu, wall or work."""

    reason: str


class OutOfMemory(msgspec.Struct, frozen=True, kw_only=True, tag="out_of_memory"):
    """The program asked for more memory than it may have."""

    reason: str


class OutOfBudget(msgspec.Struct, frozen=True, kw_only=True, tag="out_of_budget"):
    """The program died of a request that its budget did not cover."""

    reason: str


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """The program died of something the sandbox does not permit."""

    reason: str


class InvalidValue(msgspec.Struct, frozen=True, kw_only=True, tag="invalid_value"):
    """The program returned something the task does not accept, or the pipe does not carry."""

    reason: str


Failure = Failed | TimedOut | OutOfMemory | OutOfBudget | Refused | InvalidValue
Outcome = Scored | Returned | Failure
# One for all threads: msgspec crashes where two of them are the first to need a type.
OUTCOMES: msgspec.json.Decoder[Outcome] = msgspec.json.Decoder(Outcome)
FAILURES = (Failed, TimedOut, OutOfMemory, OutOfBudget, Refused, InvalidValue)


def kind(outcome: Outcome) -> str:
    """The name of an outcome: `scored`, `timed_out`, ..."""
    return str(type(outcome).__struct_config__.tag)


def number(outcome: Outcome, worst: float) -> float:
    """The float that stands for an outcome in the improver API.

    A failure is the task's worst value, as in the paper, where it is 0. This is the only place
    that turns an outcome into a number.
    """
    return outcome.value if isinstance(outcome, Scored) else worst


class CandidateError(Exception):
    """The candidate failed while the utility was calling it. `outcome` says how."""

    def __init__(self, outcome: Failure) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class InvalidAnswer(CandidateError):
    """Raised by a verifier: the returned value is no valid answer. The message says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(InvalidValue(reason=shortened(reason, FEEDBACK_CHARS)))


class Split(str):
    """`val` or `test`, and how many instances it has. Compares and prints as its name."""

    instances: int

    def __new__(cls, name: str, instances: int) -> "Split":
        """Make a split by name with its number of instances."""
        split = super().__new__(cls, name)
        split.instances = instances
        return split


class Candidate(Protocol):
    """What a utility gets as `solution`: a program it may call, in another process."""

    @property
    def source(self) -> str:
        """The program text."""
        ...

    def call(self, entry_point: str, *args: Any, time_limit_s: float | None = None) -> Any:
        """Call a function of the program in the sandbox and return its value as data.

        Args:
            entry_point: the function's name.
            args: numbers, strings, lists, tuples, dicts, numpy arrays.
            time_limit_s: CPU seconds for this call; the task's `limits.time_s` where left out.

        Raises:
            CandidateError: it failed; `over_instances` turns this into the task's worst value.
        """
        ...

    def call_many(
        self, entry_point: str, calls: Sequence[tuple[Any, ...]], time_limit_s: float | None = None
    ) -> list[Any]:
        """Call a function of the program once for each tuple of arguments.

        The same as that many `call`s, luck included, and faster where they take microseconds: the
        next ones are sent before the last one is answered. The CPU limit is that of each call, and
        kept less exactly: by how long the host takes to look. Later calls are made whatever
        earlier ones came to.

        Args:
            entry_point: the function's name.
            calls: the arguments of each call.
            time_limit_s: CPU seconds for each call, as for `call`.

        Returns:
            For each call what it returned, or the CandidateError that `call` would have raised.
        """
        ...

    def run(
        self, stdin: AnyStr, args: tuple[str, ...] = (), time_limit_s: float | None = None
    ) -> AnyStr:
        """Run a compiled program in the sandbox on an input and return what it printed.

        For tasks with `permissions.compiler`. The program is compiled once an evaluation.

        Args:
            stdin: all of its input.
            args: its arguments, behind its name.
            time_limit_s: CPU seconds for this run; the task's `limits.time_s` where left out.

        Returns:
            Its output, as text for a text and as bytes for bytes.

        Raises:
            CandidateError: it does not compile, exited with another code than 0, was killed,
                reached a limit, or printed what is no UTF-8 where a text is wanted.
        """
        ...


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """What a utility may return instead of a plain number; fields as in `Scored`."""

    value: float
    values: tuple[float, ...] = ()
    failures: dict[str, int] = {}
    feedback: str = ""


def over_instances(
    one: Callable[[int], float], split: Split, seed: int, *, worst: float = 0.0
) -> Score:
    """Average a task's instances, telling failing instances apart from bad ones.

    Args:
        one: scores the instance of a given seed; may raise CandidateError.
        split: how many instances there are.
        seed: the first instance's seed; instance i has `seed + i`.
        worst: what a failing instance counts as.

    Returns:
        The mean, the value of each instance, and the failures by kind.

    Raises:
        CandidateError: every instance failed, or the first GIVE_UP_AFTER did.
    """
    values: list[float] = []
    failures: Counter[str] = Counter()
    notes: list[str] = []
    for i in range(split.instances):
        try:
            value = float(one(seed + i))
        except CandidateError as error:
            value = worst
            failures[kind(error.outcome)] += 1
            if len(notes) < 3:
                notes.append(f"instance {i}: {kind(error.outcome)}: {error.outcome.reason}")
            failed = sum(failures.values())
            if failed == i + 1 and failed >= min(GIVE_UP_AFTER, split.instances):
                raise
        values.append(value)
    feedback = shortened("\n".join(notes), FEEDBACK_CHARS)
    return Score(
        value=sum(values) / len(values),
        values=tuple(values),
        failures=dict(failures),
        feedback=feedback,
    )


def scored(result: object, sign: float = 1.0) -> Scored | InvalidValue:
    """Make an outcome of what a utility returned; `sign` is -1 for a task that minimises."""
    score = result if isinstance(result, Score) else Score(value=_as_float(result))
    values = tuple(sign * v for v in score.values)
    if not math.isfinite(score.value) or not all(math.isfinite(v) for v in values):
        return InvalidValue(reason=f"The utility gave {score.value!r}, which is no finite number.")
    return Scored(
        value=sign * score.value,
        standard_error=standard_error(values),
        values=values,
        failures=score.failures,
        feedback=shortened(score.feedback, FEEDBACK_CHARS),
    )


def standard_error(values: tuple[float, ...] | list[float]) -> float:
    """Standard error of a mean (sample standard deviation over the root of n); 0 for n < 2."""
    n = len(values)
    if n < 2:
        return 0.0
    mean = math.fsum(values) / n
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n)


def _as_float(result: object) -> float:
    try:
        return float(result)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan
