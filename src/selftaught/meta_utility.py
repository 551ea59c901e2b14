"""The meta-utility: how good an improver is.

Paper, section 3: u^(I) = E over (u, s) of u(I(u, s, L)).

Measured as the mean, over tasks and repeats, of the normalised utility of the program that the
improver returns. Every improver meets the same instances and the same random proposals (common
random numbers), so that differences between improvers are not differences in luck.
"""

import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from selftaught.budget import Account, Budget
from selftaught.improver import API_VERSION
from selftaught.language_model import Answer, Request
from selftaught.pool import Attempt, ImproveJob, Pool, ScoreJob, run_all
from selftaught.solution import Solution
from selftaught.task import Task
from selftaught.utility import (
    Failed,
    Failure,
    Outcome,
    Returned,
    Scored,
    kind,
    standard_error,
)

WORST = -1.0


class Ask(Protocol):
    """How a job reaches the language model; recorded, replayed and paid for behind it."""

    def __call__(self, job: str, request: Request, seed: int) -> Answer:
        """Return the answers to a request of a job."""
        ...


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """Which blocks of instances and which luck an improver is measured on.

    Attributes:
        name: part of job keys: `validation`, `sealed`, `transfer`, `accept-3`, `compare-7`.
        scored_on: the split on which the returned program is scored.
        inner_block: repeat r lets the improver score on block `inner_block + r` of `val`.
        outer_block: the returned program is scored on block `outer_block + r`, which the
            improver never saw.
    """

    name: str
    scored_on: str
    inner_block: int
    outer_block: int


VALIDATION = Measurement(name="validation", scored_on="val", inner_block=0, outer_block=500)
SEALED = Measurement(name="sealed", scored_on="test", inner_block=1000, outer_block=0)
TRANSFER = Measurement(name="transfer", scored_on="test", inner_block=2000, outer_block=2000)


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One task and repeat of a measurement: what the improver made of it.

    Attributes:
        task, repeat: which.
        outcome: of the improver, or of scoring what it returned; Scored holds the raw value.
        normalised: 0 is the initial program, 1 the best known; WORST for a failure.
        unchanged: the improver returned its input.
    """

    task: str
    repeat: int
    outcome: Outcome
    normalised: float
    unchanged: bool = False
    calls: int = 0
    responses: int = 0
    utility_calls: int = 0


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """An improver's meta-utility with the items it is the mean of."""

    improver: str
    outcome: Scored | Failure
    items: tuple[Item, ...]

    @property
    def by_task(self) -> dict[str, float]:
        """The mean normalised utility of each task."""
        names = dict.fromkeys(item.task for item in self.items)
        return {name: _mean([i.normalised for i in self.items if i.task == name]) for name in names}


class MetaUtility:
    """Measures improvers on tasks.

    Args:
        tasks: the sample of D; at least one.
        repeats: how often each task is met, with other instances and other luck, where an
            improver is validated.
        sealed_repeats: the same for measurements on test instances; as `repeats` where left out.
        budget: what one application of an improver to a task may spend.
        pool: runs the jobs.
        ask: the language model.
        seed: of the run; all luck follows from it.
        on_measured: told of every measurement when it is complete.
        on_attempt: told of what programs tried and may not, with the job's key.
        shows_text: whether the language model is told what the meta-utility is.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        repeats: int,
        sealed_repeats: int | None = None,
        budget: Budget,
        pool: Pool,
        ask: Ask,
        seed: int,
        on_measured: Callable[[Measurement, Measured], None] = lambda m, v: None,
        on_attempt: Callable[[str, Attempt], None] = lambda job, attempt: None,
        shows_text: bool = True,
    ) -> None:
        self.tasks = tuple(tasks)
        self.repeats = repeats
        self.sealed_repeats = sealed_repeats or repeats
        self.budget = budget
        self._pool = pool
        self._ask = ask
        self._seed = seed
        self._on_measured = on_measured
        self._on_attempt = on_attempt
        self._shows_text = shows_text

    @property
    def text(self) -> str:
        """What the language model is shown as `utility.str` when it improves an improver."""
        if not self._shows_text:
            return _WITHHELD
        budget = self.budget
        names = ", ".join(task.name for task in self.tasks)
        return _TEXT.format(
            version=API_VERSION,
            tasks=names,
            n_tasks=len(self.tasks),
            repeats=self.repeats,
            calls=budget.calls,
            responses=budget.responses,
            utility_calls=budget.utility_calls,
        )

    def __call__(self, improver: Solution, measurement: Measurement = VALIDATION) -> Outcome:
        """The meta-utility of an improver: a Scored outcome, or how it failed on everything."""
        return self.measure(improver, measurement).outcome

    def measure(self, improver: Solution, measurement: Measurement = VALIDATION) -> Measured:
        """Apply the improver to every task and repeat and average what comes of it."""
        repeats = self.repeats if measurement is VALIDATION else self.sealed_repeats
        places = [(task, r) for r in range(repeats) for task in self.tasks]
        calls = [
            functools.partial(self._item, improver, measurement, task, repeat)
            for task, repeat in places
        ]
        if measurement is VALIDATION:
            # Broken on the first two: a round has many such candidates, and none is accepted.
            items = run_all(calls[:2])
            if len(calls) > 2 and not all(_failed(item) for item in items):
                items += run_all(calls[2:])
        else:
            items = run_all(calls)
        measured = Measured(improver=improver.hash, outcome=_average(items), items=tuple(items))
        self._on_measured(measurement, measured)
        return measured

    def meet(self, improver: Solution, where: Measurement, repeat: int) -> tuple[Item, ...]:
        """Apply the improver to every task once, on one repeat of a measurement."""
        calls = [
            functools.partial(self._item, improver, where, task, repeat) for task in self.tasks
        ]
        return tuple(run_all(calls))

    def _item(self, improver: Solution, measurement: Measurement, task: Task, repeat: int) -> Item:
        inner, outer = measurement.inner_block + repeat, measurement.outer_block + repeat
        account = Account(self.budget)
        job = self.job_on_task(improver, task, measurement.name, repeat, inner, account)
        outcome = self._pool.improve(job)
        if not isinstance(outcome, Returned):
            return _item_of(task, repeat, account, outcome, WORST)
        final = task.initial.rewritten(outcome.source)
        unchanged = final.source.strip() == task.initial.source.strip()
        split = measurement.scored_on
        judged = functools.partial(
            ScoreJob, task=task, split=split, repeat=outer, share=improver.hash
        )
        start = self._pool.score(judged(solution=task.initial))
        end = self._pool.score(judged(solution=final))
        base = start.value if isinstance(start, Scored) else task.worst
        value = end.value if isinstance(end, Scored) else task.worst
        normalised = task.normalise(value, base)
        return _item_of(task, repeat, account, end, normalised, unchanged=unchanged)

    def job_on_task(
        self,
        improver: Solution,
        task: Task,
        phase: str,
        repeat: int,
        block: int,
        account: Account,
    ) -> ImproveJob:
        """The job of applying an improver to a task's initial program on one block of `val`."""
        key = job_key(phase, improver.hash, task.name, repeat)
        # Not of the improver: whoever asks the same question at the same place is equally lucky.
        seed = derive_seed(self._seed, phase, task.name, repeat)

        def score_job(solution: Solution) -> ScoreJob:
            return ScoreJob(
                task=task, solution=solution, split="val", repeat=block, share=improver.hash
            )

        def score(solution: Solution) -> Outcome:
            return self._pool.score(score_job(solution))

        return ImproveJob(
            key=key,
            improver=improver,
            initial=task.initial,
            target=task.name,
            utility_text=task.utility_text,
            utility=score,
            initial_outcome=lambda: score(task.initial),
            worst=task.worst,
            ask=lambda request: self._ask(key, request, seed),
            account=account,
            seed=seed,
            on_attempt=lambda attempt: self._on_attempt(key, attempt),
            score_job=score_job,
        )

    def job_on_improver(
        self, improver: Solution, initial: Solution, round_: int, account: Account
    ) -> ImproveJob:
        """The job of applying an improver to an improver: I(u^, s, L), the step of Algorithm 1."""
        key = f"round/{round_}"
        seed = derive_seed(self._seed, "round", round_)
        return ImproveJob(
            key=key,
            improver=improver,
            initial=initial,
            target="meta-utility",
            utility_text=self.text,
            utility=self,
            initial_outcome=lambda: self(initial),
            worst=WORST,
            ask=lambda request: self._ask(key, request, seed),
            account=account,
            seed=seed,
            on_attempt=lambda attempt: self._on_attempt(key, attempt),
        )


def job_key(phase: str, improver: str, task: str, repeat: int) -> str:
    """The key of the job of applying an improver, by its hash, to a task."""
    return f"{phase}/{improver}/{task}/{repeat}"


def derive_seed(seed: int, *path: object) -> int:
    """A seed for one place of a run, below 2**63, from the run's seed and the place's name."""
    text = "/".join(map(str, (seed, *path)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _item_of(
    task: Task,
    repeat: int,
    account: Account,
    outcome: Outcome,
    normalised: float,
    *,
    unchanged: bool = False,
) -> Item:
    return Item(
        task=task.name,
        repeat=repeat,
        outcome=outcome,
        normalised=normalised,
        unchanged=unchanged,
        calls=account.calls,
        responses=account.responses,
        utility_calls=account.utility_calls,
    )


def _failed(item: Item) -> bool:
    return not isinstance(item.outcome, Scored)


def _average(items: Sequence[Item]) -> Scored | Failure:
    if all(_failed(item) for item in items):
        first = items[0].outcome
        return Failed(reason="no outcome") if isinstance(first, (Scored, Returned)) else first
    values = tuple(item.normalised for item in items)
    failures: dict[str, int] = {}
    for item in items:
        if _failed(item):
            failures[kind(item.outcome)] = failures.get(kind(item.outcome), 0) + 1
    return Scored(
        value=_mean(values),
        standard_error=standard_error(values),
        values=values,
        failures=failures,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


_WITHHELD = "# A utility of program texts. What it measures is not told. Higher is better.\n"

_TEXT = '''\
# The utility of an improver (improver API v{version}): how much better it makes programs.
# Tasks: {tasks}.

def utility(improver_source):
    """Mean of what `improve_algorithm` of improver_source achieves; higher is better."""
    gains = []
    for task in tasks:                      # {n_tasks} of them
        for repeat in range({repeats}):             # other instances, other luck
            language_model = LanguageModel(budget={calls}, max_responses_per_call={responses})
            task_utility = Utility(task, budget={utility_calls})
            improved = improve_algorithm(task.initial_solution, task_utility, language_model)
            # 0: no better than the task's initial solution. 1: as good as the best known one.
            gains.append(normalised(task.score_on_fresh_instances(improved)))
    return mean(gains)

# What improve_algorithm gets:
#   language_model.prompt(expertise, message, n_responses=1, temperature=0.7) -> list of texts
#   language_model.batch_prompt(expertise, messages, temperature=0.7) -> one text per message
#   A prompt or a batch is one call of {calls}; a call holds at most {responses} responses.
#   One call too many raises an exception.
#   task_utility(program_text) -> number, {utility_calls} times at most; then the worst number.
#   task_utility.str describes the task. task_utility.budget and .remaining count its calls.
#   from helpers import extract_code: the code in an answer, or None; a list for a list.
# An improver that raises, does not return a program text, or runs for ever gets the worst number.
# There is no network, no file and no other process, and the counts above are kept outside.
'''
