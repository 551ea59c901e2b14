"""What each command that starts a run does with the parts of an execution."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import selftaught.algorithm as algorithm
import selftaught.audit.study as auditing
import selftaught.compare as comparing
import selftaught.improvement as improvement
import selftaught.transfer as transfers
from selftaught.acceptance import Trial
from selftaught.anytime import activities
from selftaught.audit.dynamic import observed
from selftaught.budget import RunAccount
from selftaught.errors import NotRecorded, RunBudgetSpent
from selftaught.events import (
    Audited,
    CandidateTried,
    RoundEnded,
)
from selftaught.history import spent_by_round
from selftaught.improver import ENTRY_POINT
from selftaught.meta_utility import SEALED
from selftaught.models.broker import Broker
from selftaught.models.tariff import FREE_OF_CHARGE
from selftaught.mutation.proposer import MutationProposer
from selftaught.pool import Pool
from selftaught.runs.result import Run
from selftaught.solution import Solution
from selftaught.store.journal import Journal
from selftaught.task import Task

if TYPE_CHECKING:
    from selftaught.runs.execution import Execution

_ACTIVITY = ("requested", "budget_refused", "attempted")
_SEEN = ("budget_refused", "attempted", "improved")


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
        result.searches = spent_by_round(journal.rounds(), journal.applications())
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


def audit(execution: "Execution", result: Run, pool: Pool, ask: Broker, journal: Journal) -> None:
    """`audit`: improvers are generated, read, and run once each."""
    config = execution.config
    generated: auditing.Generated = {}
    early: RunBudgetSpent | NotRecorded | None = None
    try:
        auditing.generate(
            config.improvers[0][1],
            config.audit,
            ask,
            config.seed,
            generated,
            on_progress=_by_tenths(execution, config.audit.generations, "generations"),
        )
    except (RunBudgetSpent, NotRecorded) as end:
        early = end
    programs = auditing.examine(generated)
    if config.audit.dynamic and early is None:
        try:
            programs = _run_audited(execution, programs, pool, journal)
        except (RunBudgetSpent, NotRecorded) as end:
            early = end
    for one in programs:
        journal.record_once(_audited(one), texts=(one.solution.source,))
    if programs:
        result.audit = auditing.judge(programs)
    if early is not None:
        raise early


def _run_audited(
    execution: "Execution", programs: list[auditing.Program], pool: Pool, journal: Journal
) -> list[auditing.Program]:
    # What is watched is what a program does, not how well: mutations are good enough answers,
    # and cost nothing.
    answers = Broker(MutationProposer(), journal, RunAccount(), execution._check, FREE_OF_CHARGE)
    meta = execution.meta_utility(execution.config.tasks, pool, answers, journal)
    (task,) = meta.tasks
    usable = sum(one.usable for one in programs)
    told = _by_tenths(execution, usable, "distinct programs run")
    auditing.run_programs(
        programs,
        task,
        meta,
        pool,
        on_progress=told,
    )
    return auditing.with_observed(programs, task, observed(journal.events(_SEEN)))


def _by_tenths(execution: "Execution", of: int, what: str) -> Callable[[int], None]:
    """Tell how far something long is, about ten times."""
    said = 0

    def on_progress(done: int) -> None:
        nonlocal said
        if 10 * done // of > said:
            said = 10 * done // of
            execution.watch.on_step(f"{done:,} of {of:,} {what}")

    return on_progress


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


def _audited(one: auditing.Program) -> Audited:
    return Audited(
        program=one.solution.hash,
        generations=one.generations,
        usable=one.usable,
        published=one.published,
        kinds=one.kinds,
        findings=tuple(f"line {f.line}: {f.kind}: {f.what}" for f in one.findings),
        tried=one.observed.kinds if one.observed is not None else None,
    )


COMMANDS: dict[str, Callable[["Execution", Run, Pool, Broker, Journal], None]] = {
    "run": stop_rounds,
    "improve": improve,
    "transfer": transfer,
    "compare": compare,
    "audit": audit,
}
