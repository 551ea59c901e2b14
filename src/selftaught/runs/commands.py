"""What each command that starts a run does with the parts of an execution."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import selftaught.algorithm as algorithm
import selftaught.compare as comparing
import selftaught.improvement as improvement
import selftaught.transfer as transfers
from selftaught.acceptance import Trial
from selftaught.anytime import activities
from selftaught.errors import NotRecorded, RunBudgetSpent
from selftaught.events import CandidateTried, RoundEnded
from selftaught.history import SPENT_ON, spent_by_round
from selftaught.improver import ENTRY_POINT
from selftaught.meta_utility import SEALED
from selftaught.models.broker import Broker
from selftaught.pool import Pool
from selftaught.runs.result import Run
from selftaught.solution import Solution
from selftaught.store.journal import Journal
from selftaught.task import Task

if TYPE_CHECKING:
    from selftaught.runs.execution import Execution

_ACTIVITY = ("requested", "budget_refused", "attempted")


def stop_rounds(
    execution: "Execution", result: Run, pool: Pool, ask: Broker, journal: Journal
) -> None:
    """`run`: Algorithm 1, then the transfer table."""
    config = execution.config
    meta = execution.meta_utility(config.tasks, pool, ask, journal)

    def on_round(one: algorithm.Round) -> None:
        result.rounds.append(one)
        if one.trial is not None:
            journal.record_once(_tried(one, one.trial, result.rounds[-2].improver))
        execution.tracing.round_ended(one.accepted)
        if one.number < config.rounds:
            execution.tracing.round_begins(one.number + 1)
        journal.record_once(
            RoundEnded(
                round=one.number,
                candidate=one.candidate.hash if one.candidate else None,
                improver=one.improver.hash,
                accepted=one.accepted,
                reason=one.reason,
            )
        )
        result.searches = spent_by_round(journal.events(SPENT_ON))
        execution.watch.on_round(one)

    seed_improver = Solution(config.improvers[0][1], ENTRY_POINT)
    execution.tracing.round_begins(0)
    algorithm.self_taught_optimizer(
        seed_improver,
        meta,
        pool,
        rounds=config.rounds,
        budget=config.meta_budget,
        accept=config.accept,
        accept_repeats=config.accept_repeats,
        on_round=on_round,
    )
    named = [("seed", seed_improver), ("final", result.rounds[-1].improver)]

    def on_row(row: transfers.Row) -> None:
        result.sealed_rows.append(row)
        execution.watch.on_row("sealed", row)

    transfers.side_by_side(named, meta, SEALED, on_row=on_row)
    if config.held_out:
        _transfer(execution, result, pool, ask, journal, named)


def transfer(
    execution: "Execution", result: Run, pool: Pool, ask: Broker, journal: Journal
) -> None:
    """`transfer`: frozen improvers on tasks."""
    named = [(n, Solution(s, ENTRY_POINT)) for n, s in execution.config.improvers]
    _transfer(execution, result, pool, ask, journal, named)


def _transfer(
    execution: "Execution",
    result: Run,
    pool: Pool,
    ask: Broker,
    journal: Journal,
    named: Sequence[tuple[str, Solution]],
) -> None:
    config = execution.config

    def on_row(row: transfers.Row) -> None:
        result.rows.append(row)
        execution.watch.on_row("held out", row)

    transfers.transfer(
        named,
        execution.meta_utility(config.held_out, pool, ask, journal),
        trained_on=[Task.load(reference) for reference in config.tasks],
        on_row=on_row,
    )


def improve(execution: "Execution", result: Run, pool: Pool, ask: Broker, journal: Journal) -> None:
    """`improve`: improvers on one task, side by side."""

    def on_done(one: improvement.Improvement) -> None:
        result.improvements.append(one)
        execution.watch.on_improvement(one)

    config = execution.config
    improvement.improve(
        Task.load(config.tasks[0]),
        [(n, Solution(s, ENTRY_POINT)) for n, s in config.improvers],
        execution.meta_utility(config.tasks, pool, ask, journal),
        pool,
        on_done=on_done,
    )


def compare(execution: "Execution", result: Run, pool: Pool, ask: Broker, journal: Journal) -> None:
    """`compare`: the second-order test, over as many seeds as the run's limits allow."""
    config = execution.config
    named = [(n, Solution(s, ENTRY_POINT)) for n, s in config.improvers]
    meta = execution.meta_utility(config.held_out, pool, ask, journal)
    complete: list[comparing.Seed] = []

    def on_seed(seed: comparing.Seed) -> None:
        complete.append(seed)
        execution.watch.on_seed(config, seed)

    early: RunBudgetSpent | NotRecorded | None = None
    try:
        comparing.compare(named, meta, pool, seeds=config.seeds, on_seed=on_seed)
    except (RunBudgetSpent, NotRecorded) as end:
        # The limit, not the result, chose this end: what is complete can be judged.
        early = end
    if len(complete) >= comparing.MIN_SEEDS:
        result.comparison = comparing.judge(
            named,
            complete,
            activities(journal.events(_ACTIVITY)),
            tasks=meta.tasks,
            repeats=config.sealed_repeats,
            budget=config.budget,
            baseline=config.baseline,
        )
    if early is not None:
        raise early


def _tried(one: algorithm.Round, trial: Trial, improver: Solution) -> CandidateTried:
    return CandidateTried(
        round=one.number,
        candidate=one.candidate.hash if one.candidate else "",
        improver=improver.hash,
        differences=trial.differences,
        evidence=trial.evidence,
        needed=trial.needed,
        stop=trial.stop,
        calls=trial.spent.calls,
        responses=trial.spent.responses,
        utility_calls=trial.spent.utility_calls,
    )


def audit(execution: "Execution", result: Run, pool: Pool, ask: Broker, journal: Journal) -> None:
    """`audit`: see `selftaught.runs.auditing`, which no other command needs."""
    from selftaught.runs.auditing import audit

    audit(execution, result, pool, ask, journal)


COMMANDS: dict[str, Callable[["Execution", Run, Pool, Broker, Journal], None]] = {
    "run": stop_rounds,
    "improve": improve,
    "transfer": transfer,
    "compare": compare,
    "audit": audit,
}
