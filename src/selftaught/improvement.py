"""Improving one task's program with one or more improvers, side by side at the same budget."""

from collections.abc import Callable, Sequence

import msgspec

from selftaught.budget import Account
from selftaught.meta_utility import MetaUtility
from selftaught.pool import Pool, ScoreJob
from selftaught.solution import Solution
from selftaught.task import Task
from selftaught.utility import Outcome, Returned, Scored

PHASE = "improve"


class Improvement(msgspec.Struct, frozen=True, kw_only=True):
    """What one improver made of a task's initial program.

    Attributes:
        name: the improver's, as shown.
        improver: its program.
        outcome: `Returned`, or how the improver failed.
        program: what it returned; the initial program where it failed.
        validation: the program's score on the instances that the improver could see.
        sealed: its score on test instances, which no improver ever meets.
        account: what the improver spent.
    """

    name: str
    improver: Solution
    outcome: Outcome
    program: Solution
    validation: Outcome
    sealed: Outcome
    calls: int
    responses: int
    utility_calls: int


def improve(
    task: Task,
    improvers: Sequence[tuple[str, Solution]],
    meta_utility: MetaUtility,
    pool: Pool,
    *,
    on_done: Callable[[Improvement], None] = lambda one: None,
) -> list[Improvement]:
    """Apply improvers to a task's initial program, one after another, and score what they return.

    Args:
        task: whose initial program is improved.
        improvers: names and programs.
        meta_utility: brings budget, language model and luck; its own tasks do not matter.
        pool: runs the jobs.
        on_done: told of each improver's result.
    """
    # First of all: a task that cannot score its own initial program is told at once.
    score(pool, task, task.initial, "val")
    results = []
    for name, improver in improvers:
        account = Account(meta_utility.budget)
        job = meta_utility.job_on_task(improver, task, PHASE, 0, 0, account)
        outcome = pool.improve(job)
        returned = isinstance(outcome, Returned)
        program = (
            task.initial.rewritten(outcome.source)
            if isinstance(outcome, Returned)
            else task.initial
        )
        results.append(
            Improvement(
                name=name,
                improver=improver,
                outcome=outcome,
                program=program,
                validation=score(pool, task, program, "val") if returned else outcome,
                sealed=score(pool, task, program, "test") if returned else outcome,
                calls=account.calls,
                responses=account.responses,
                utility_calls=account.utility_calls,
            )
        )
        on_done(results[-1])
    return results


def score(pool: Pool, task: Task, program: Solution, split: str) -> Outcome:
    """Score a program on the first block of a split."""
    return pool.score(ScoreJob(task=task, solution=program, split=split, repeat=0))


def best(improvements: Sequence[Improvement]) -> Improvement | None:
    """The improvement with the highest validation score: chosen without a look at the seal."""
    valid = [one for one in improvements if isinstance(one.validation, Scored)]
    return max(valid, key=lambda one: one.validation.value, default=None)  # type: ignore[union-attr]
