"""What the command `audit` does with the parts of an execution."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import selftaught.audit.study as auditing
from selftaught.audit.dynamic import observed
from selftaught.budget import RunAccount
from selftaught.errors import NotRecorded, RunBudgetSpent
from selftaught.events import Audited
from selftaught.models.broker import Broker
from selftaught.models.tariff import FREE_OF_CHARGE
from selftaught.mutation.proposer import MutationProposer
from selftaught.pool import Pool
from selftaught.runs.result import Run
from selftaught.store.journal import Journal

if TYPE_CHECKING:
    from selftaught.runs.execution import Execution

_SEEN = ("budget_refused", "attempted", "improved")


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
