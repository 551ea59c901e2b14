"""The closed set of events: every request, answer, score, failure and decision of a run.

Result, resume, CLI and reports are reads of these. Long texts are stored once under their hash
and events carry the hash. An event's `key` is what a resumed run looks a recorded result up by.
"""

import msgspec

from selftaught.utility import Outcome


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all events; never stored itself."""

    @property
    def key(self) -> str:
        """What the event is looked up by; empty where nothing looks it up."""
        return ""


class RunStarted(Event, frozen=True, kw_only=True, tag="run_started"):
    """A run began. `config` is everything needed to repeat it, as JSON-able data."""

    config: dict[str, object]


class RunResumed(Event, frozen=True, kw_only=True, tag="run_resumed"):
    """A run that had ended early goes on, with this many events recorded before."""

    recorded: int


class RunEnded(Event, frozen=True, kw_only=True, tag="run_ended"):
    """A run ended: `done`, `interrupted`, `failed` or `budget`."""

    status: str
    reason: str = ""


class Answered(Event, frozen=True, kw_only=True, tag="answered"):
    """The language model answered one call of one job.

    Attributes:
        job: the improve job that asked.
        content_hash: of expertise, message and temperature.
        occurrence: how many responses to this content the job had had before.
        expertise, message: hashes of the texts sent.
        texts: hashes of the responses, in order.
        seconds: wall time from request to answer.
        model: the model's name; `attempts` counts requests sent for it, retries included.
        dollars: None where the price is not known.
        lost_tokens, lost_dollars: what failed requests for it may have cost at most. They count
            against the limits of the run and are not in the other numbers.
    """

    job: str
    content_hash: str
    occurrence: int
    expertise: str
    message: str
    temperature: float
    texts: tuple[str, ...]
    model: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    dollars: float | None = None
    truncated: tuple[int, ...] = ()
    seconds: float = 0.0
    attempts: int = 1
    lost_tokens: int = 0
    lost_dollars: float = 0.0

    @property
    def key(self) -> str:
        """Job, content and occurrence."""
        return f"{self.job}|{self.content_hash}|{self.occurrence}"


class Unanswered(Event, frozen=True, kw_only=True, tag="unanswered"):
    """The language model gave no answer to a call that may have been paid for all the same.

    `lost_tokens` and `lost_dollars` are the most that it can have cost; they count against the
    limits of the run.
    """

    job: str
    reason: str
    lost_tokens: int
    lost_dollars: float


class Evaluated(Event, frozen=True, kw_only=True, tag="evaluated"):
    """A program was scored on one block of instances."""

    task: str
    solution: str
    split: str
    repeat: int
    outcome: Outcome
    seconds: float = 0.0

    @property
    def key(self) -> str:
        """Task, split, repeat and program."""
        return evaluation_key(self.task, self.split, self.repeat, self.solution)


class Requested(Event, frozen=True, kw_only=True, tag="requested"):
    """An improver asked for a score and was charged; `value` is the number it was told.

    `call` counts the job's charged utility calls from 1; `calls` and `responses` are what it had
    spent on the language model by then: the points of its anytime curve.
    """

    job: str
    call: int
    solution: str
    outcome: str
    value: float
    calls: int
    responses: int

    @property
    def key(self) -> str:
        """Job and call."""
        return f"{self.job}|{self.call}"


class BudgetRefused(Event, frozen=True, kw_only=True, tag="budget_refused"):
    """A request was not served because a limit was reached; `times` counts repetitions."""

    job: str
    limit: str
    times: int = 1


class Attempted(Event, frozen=True, kw_only=True, tag="attempted"):
    """A program tried what it may not: see `selftaught.pool.Attempt`."""

    job: str
    what: str
    detail: str


class Improved(Event, frozen=True, kw_only=True, tag="improved"):
    """An improve job ended.

    Attributes:
        job: its key.
        improver, initial: hashes of the programs.
        target: the task's name, or `meta-utility`.
        outcome: `Returned` with the new text, or a failure.
        unchanged: it returned its input.
    """

    job: str
    improver: str
    initial: str
    target: str
    outcome: Outcome
    unchanged: bool = False
    calls: int = 0
    responses: int = 0
    utility_calls: int = 0
    seconds: float = 0.0

    @property
    def key(self) -> str:
        """The job's key."""
        return self.job


class MetaEvaluated(Event, frozen=True, kw_only=True, tag="meta_evaluated"):
    """An improver's meta-utility was measured.

    Attributes:
        improver: the hash of its solution.
        split: the measurement's name: `validation`, `sealed` or `transfer`.
        outcome: mean normalised utility over tasks and repeats, with its standard error.
        by_task: the mean of each task.
    """

    improver: str
    split: str
    outcome: Outcome
    by_task: dict[str, float] = {}

    @property
    def key(self) -> str:
        """Measurement and improver."""
        return f"{self.split}|{self.improver}"


class RoundEnded(Event, frozen=True, kw_only=True, tag="round_ended"):
    """A round of Algorithm 1 ended.

    Attributes:
        round: from 1; round 0 records the seed improver.
        candidate: hash of the text of the improver that the round produced, if any.
        improver: hash of the text of the improver in force after it.
        accepted: whether the candidate became the improver.
        reason: why, in words.
    """

    round: int
    candidate: str | None
    improver: str
    accepted: bool
    reason: str

    @property
    def key(self) -> str:
        """The round's number."""
        return str(self.round)


class Paused(Event, frozen=True, kw_only=True, tag="paused"):
    """Something outside the run held it up or was retried: `what` happened, `detail` says how."""

    what: str
    detail: str
    seconds: float = 0.0


AnyEvent = (
    RunStarted
    | RunResumed
    | RunEnded
    | Answered
    | Unanswered
    | Evaluated
    | Requested
    | BudgetRefused
    | Attempted
    | Improved
    | MetaEvaluated
    | RoundEnded
    | Paused
)


def evaluation_key(task: str, split: str, repeat: int, solution: str) -> str:
    """The key under which a score is found again."""
    return f"{task}|{split}|{repeat}|{solution}"


def kind(event: AnyEvent) -> str:
    """The name of an event: `answered`, `evaluated`, ..."""
    return str(type(event).__struct_config__.tag)
