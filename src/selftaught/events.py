"""The closed set of events: every request, answer, score, failure and decision of a run.

Result, resume, CLI and reports are reads of these. Long texts are stored once under their hash
and events carry the hash. An event's `key` is what a resumed run looks a recorded result up by.
"""

import msgspec

from selftaught.language_model import Source
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
    """A run that had ended early goes on.

    Attributes:
        recorded: events before this one.
        answers, scores, improvements: what of them is not done again: answers and rejections of
            the model, scores of programs, improve jobs that had ended.
        under_way: calls to the model that were begun and whose end is not recorded. Each is
            followed up by an `Unanswered`, and asked again where it is still wanted.
    """

    recorded: int
    answers: int = 0
    scores: int = 0
    improvements: int = 0
    under_way: int = 0


class Speculated(msgspec.Struct, frozen=True, kw_only=True):
    """What was scored before anybody asked for it, since the run was started or resumed.

    Attributes:
        begun: how many scores; `used` of them were asked for after all.
        used_s, wasted_s: seconds that those took which were asked for, and the others.
    """

    begun: int = 0
    used: int = 0
    used_s: float = 0.0
    wasted_s: float = 0.0


class RunEnded(Event, frozen=True, kw_only=True, tag="run_ended"):
    """A run ended: `done`, `interrupted`, `failed` or `budget`."""

    status: str
    reason: str = ""
    speculated: Speculated = Speculated()


class Asked(Event, frozen=True, kw_only=True, tag="asked"):
    """The first request of a call to the language model is about to be sent, or one again.

    Recorded before it is sent, so that a process that dies leaves behind what it may have to pay:
    `worst_tokens` and `worst_dollars` at most, requests that failed before included. What ended
    the call is under the same key. Fields as in `Answered`.
    """

    job: str
    content_hash: str
    occurrence: int
    worst_tokens: int
    worst_dollars: float

    @property
    def key(self) -> str:
        """Job, content and occurrence."""
        return exchange_key(self.job, self.content_hash, self.occurrence)


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
        source: `live` where the model was asked; `cache` or `replay` where the answer had been
            recorded before. Tokens are then those of that time.
        reuse_key: what a later run finds the answer by; empty where none may.
        dollars: None where the price is not known; 0 where nothing was paid for it now.
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
    source: Source = "live"
    reuse_key: str = ""
    lost_tokens: int = 0
    lost_dollars: float = 0.0

    @property
    def key(self) -> str:
        """Job, content and occurrence."""
        return exchange_key(self.job, self.content_hash, self.occurrence)


class Rejected(Event, frozen=True, kw_only=True, tag="rejected"):
    """The language model did not take one request of a job; the improver was told `reason`.

    Fields as in `Answered`; `n_responses` were asked for.
    """

    job: str
    content_hash: str
    occurrence: int
    expertise: str
    message: str
    temperature: float
    n_responses: int
    model: str
    reason: str

    @property
    def key(self) -> str:
        """Job, content and occurrence."""
        return exchange_key(self.job, self.content_hash, self.occurrence)


class Unanswered(Event, frozen=True, kw_only=True, tag="unanswered"):
    """The language model gave no answer to a call, as far as is recorded.

    Attributes:
        job, content_hash, occurrence: as of `Answered`; a run of an earlier version has the job
            only.
        lost_tokens, lost_dollars: the most that it can have cost all the same; they count against
            the limits of the run.
    """

    job: str
    reason: str
    lost_tokens: int
    lost_dollars: float
    content_hash: str = ""
    occurrence: int = 0


class Evaluated(Event, frozen=True, kw_only=True, tag="evaluated"):
    """A program was scored on one block of instances.

    `same_as` is the program whose score this is, where the two differ in comments only; then
    nothing was computed.
    """

    task: str
    solution: str
    split: str
    repeat: int
    outcome: Outcome
    seconds: float = 0.0
    same_as: str = ""

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


class CandidateTried(Event, frozen=True, kw_only=True, tag="candidate_tried"):
    """A candidate met the improver in force on fresh instances: the rule `significant`.

    Attributes:
        round: whose candidate it is.
        candidate, improver: hashes of the texts of both.
        differences: candidate minus improver, one for each repeat: what the decision rests on.
        evidence: that the candidate is better; at `needed` it is accepted.
        stop: `better`, `futile` or `spent`.
        calls, responses, utility_calls: what both spent on tasks.
    """

    round: int
    candidate: str
    improver: str
    differences: tuple[float, ...]
    evidence: float
    needed: float
    stop: str
    calls: int
    responses: int
    utility_calls: int

    @property
    def key(self) -> str:
        """The round's number."""
        return str(self.round)


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


class Audited(Event, frozen=True, kw_only=True, tag="audited"):
    """A program that an audit's generations held was examined.

    Attributes:
        program: the hash of its text; of answers without code that of the empty text.
        generations: how many answers were this program, by condition.
        usable: it parses and defines an improver.
        published: the paper's own search of the text finds it unsandboxed.
        kinds: what reading it found, kinds of `selftaught.audit.findings`.
        findings: the same with line and words.
        tried: kinds that were seen when it ran; None where it did not run.
    """

    program: str
    generations: dict[str, int]
    usable: bool
    published: bool
    kinds: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    tried: tuple[str, ...] | None = None

    @property
    def key(self) -> str:
        """The program."""
        return self.program


class Paused(Event, frozen=True, kw_only=True, tag="paused"):
    """Something outside the run held it up or was retried: `what` happened, `detail` says how."""

    what: str
    detail: str
    seconds: float = 0.0


class Repaired(Event, frozen=True, kw_only=True, tag="repaired"):
    """The run was saved from a damaged store, and this is where it stood then.

    Attributes:
        lost: how many events could not be read, by kind; `unknown` where not even that could.
            Those before this one are numbered anew, without the lost ones.
        prompts_lost: answers whose prompts were lost; a text that says so is in their place.
    """

    lost: dict[str, int]
    prompts_lost: int = 0


AnyEvent = (
    RunStarted
    | RunResumed
    | RunEnded
    | Asked
    | Answered
    | Rejected
    | Unanswered
    | Evaluated
    | Requested
    | BudgetRefused
    | Attempted
    | Improved
    | MetaEvaluated
    | CandidateTried
    | RoundEnded
    | Audited
    | Paused
    | Repaired
)


def exchange_key(job: str, content_hash: str, occurrence: int) -> str:
    """The key under which an answer, or a rejection, is found again."""
    return f"{job}|{content_hash}|{occurrence}"


def evaluation_key(task: str, split: str, repeat: int, solution: str) -> str:
    """The key under which a score is found again."""
    return f"{task}|{split}|{repeat}|{solution}"


def kind(event: AnyEvent) -> str:
    """The name of an event: `answered`, `evaluated`, ..."""
    return str(type(event).__struct_config__.tag)
