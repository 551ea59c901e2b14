"""The parts of one run, put together and set going."""

import os
import threading
from collections.abc import Mapping, Sequence

import msgspec

import selftaught.algorithm as algorithm
import selftaught.compare as comparing
import selftaught.improvement as improvement
import selftaught.transfer as transfers
from selftaught.anytime import activities
from selftaught.budget import RunAccount
from selftaught.errors import Interrupted, NotRecorded, RunBudgetSpent
from selftaught.events import (
    Attempted,
    MetaEvaluated,
    Paused,
    RoundEnded,
    RunEnded,
    RunResumed,
    RunStarted,
)
from selftaught.improver import ENTRY_POINT
from selftaught.language_model import LanguageModel
from selftaught.meta_utility import SEALED, Measured, Measurement, MetaUtility
from selftaught.models.broker import Broker
from selftaught.models.resolve import resolve_model
from selftaught.pool import Attempt, Pool
from selftaught.pools.local import LocalPool
from selftaught.pools.recorded import RecordedPool
from selftaught.runs.config import RunConfig
from selftaught.runs.result import Run, Watch
from selftaught.solution import Solution
from selftaught.store.journal import Journal
from selftaught.task import Task


class Execution:
    """The parts of one run, put together."""

    def __init__(
        self,
        config: RunConfig,
        watch: Watch,
        stop: threading.Event | None,
        environment: Mapping[str, str] | None,
        model: LanguageModel | None,
    ) -> None:
        self.config = config
        self.watch = watch
        self.stop = stop or threading.Event()
        self._journal: Journal | None = None
        self.model = model or resolve_model(
            config.model,
            base_url=config.base_url,
            environment=os.environ if environment is None else environment,
            settings=config.model_settings,
            on_wait=self._waited,
        )
        self.account = RunAccount(config.limits)
        self.seen_attempts: set[tuple[str, str]] = set()

    def go(self, journal: Journal) -> Run:
        """Do what the configuration says and record how it ended."""
        config = self.config
        result = Run(id=journal.run, config=config)
        self._journal = journal
        self.account.record(journal.tokens, journal.dollars)
        if journal.recorded:
            journal.record(RunResumed(recorded=journal.recorded))
        else:
            journal.record(RunStarted(config=msgspec.to_builtins(config)))
        self.watch.on_started(journal.run, config)
        recorded: RecordedPool | None = None
        broker = Broker(self.model, journal, self.account, self._check)
        try:
            pool = LocalPool(
                config.slots,
                allow_weak_sandbox=config.allow_weak_sandbox,
                on_attempt=lambda program, tried: self._candidate_tried(journal, program, tried),
            )
            recorded = RecordedPool(pool, journal, self._check)
            self.do(result, recorded, broker, journal)
        except RunBudgetSpent as spent:
            result.status, result.reason = "budget", str(spent)
        except (Interrupted, KeyboardInterrupt) as interruption:
            journal.record(RunEnded(status="interrupted", reason=str(interruption)))
            raise Interrupted(journal.run) from interruption
        except Exception as error:
            # Recorded and raised again: a run never ends without its last word.
            journal.record(RunEnded(status="failed", reason=f"{type(error).__name__}: {error}"))
            raise
        finally:
            if recorded is not None:
                recorded.close()
        result.spent = {
            "live_calls": broker.live_calls,
            "replayed_calls": broker.replayed_calls,
            "scored": recorded.scored if recorded else 0,
            "reused_scores": recorded.reused if recorded else 0,
            "tokens": self.account.tokens,
            "dollars": self.account.dollars,
        }
        journal.record(RunEnded(status=result.status, reason=result.reason))
        return result

    def do(self, result: Run, pool: Pool, ask: Broker, journal: Journal) -> None:
        """Do what the command says; `result` holds what is complete, however this ends."""
        _COMMANDS[self.config.command](self, result, pool, ask, journal)

    def meta_utility(
        self, references: Sequence[str], pool: Pool, ask: Broker, journal: Journal
    ) -> MetaUtility:
        """The meta-utility on some of the run's tasks."""

        def measured(measurement: Measurement, value: Measured) -> None:
            journal.record_once(
                MetaEvaluated(
                    improver=value.improver,
                    split=measurement.name,
                    outcome=value.outcome,
                    by_task=value.by_task,
                )
            )

        return MetaUtility(
            [Task.load(reference) for reference in references],
            repeats=self.config.repeats,
            sealed_repeats=self.config.sealed_repeats,
            budget=self.config.budget,
            pool=pool,
            ask=ask,
            seed=self.config.seed,
            on_measured=measured,
        )

    def stop_rounds(self, result: Run, pool: Pool, ask: Broker, journal: Journal) -> None:
        """`run`: Algorithm 1, then the transfer table."""
        config = self.config
        meta = self.meta_utility(config.tasks, pool, ask, journal)

        def on_round(one: algorithm.Round) -> None:
            result.rounds.append(one)
            journal.record_once(
                RoundEnded(
                    round=one.number,
                    candidate=one.candidate.hash if one.candidate else None,
                    improver=one.improver.hash,
                    accepted=one.accepted,
                    reason=one.reason,
                )
            )
            self.watch.on_round(one)

        seed_improver = Solution(config.improvers[0][1], ENTRY_POINT)
        algorithm.self_taught_optimizer(
            seed_improver,
            meta,
            pool,
            rounds=config.rounds,
            budget=config.meta_budget,
            accept=config.accept,
            on_round=on_round,
        )
        named = [("seed", seed_improver), ("final", result.rounds[-1].improver)]

        def on_row(row: transfers.Row) -> None:
            result.sealed_rows.append(row)
            self.watch.on_row("sealed", row)

        transfers.side_by_side(named, meta, SEALED, on_row=on_row)
        if config.held_out:
            self._transfer(result, pool, ask, journal, named)

    def transfer(self, result: Run, pool: Pool, ask: Broker, journal: Journal) -> None:
        """`transfer`: frozen improvers on tasks."""
        named = [(n, Solution(s, ENTRY_POINT)) for n, s in self.config.improvers]
        self._transfer(result, pool, ask, journal, named)

    def _transfer(
        self,
        result: Run,
        pool: Pool,
        ask: Broker,
        journal: Journal,
        named: Sequence[tuple[str, Solution]],
    ) -> None:
        config = self.config

        def on_row(row: transfers.Row) -> None:
            result.rows.append(row)
            self.watch.on_row("held out", row)

        transfers.transfer(
            named,
            self.meta_utility(config.held_out, pool, ask, journal),
            trained_on=[Task.load(reference) for reference in config.tasks],
            on_row=on_row,
        )

    def improve(self, result: Run, pool: Pool, ask: Broker, journal: Journal) -> None:
        """`improve`: improvers on one task, side by side."""

        def on_done(one: improvement.Improvement) -> None:
            result.improvements.append(one)
            self.watch.on_improvement(one)

        config = self.config
        improvement.improve(
            Task.load(config.tasks[0]),
            [(n, Solution(s, ENTRY_POINT)) for n, s in config.improvers],
            self.meta_utility(config.tasks, pool, ask, journal),
            pool,
            on_done=on_done,
        )

    def _check(self) -> None:
        """Raise where the run is told to stop, or its time is over."""
        if self.stop.is_set():
            raise Interrupted("The run was told to stop.")
        self.account.check_time()

    def compare(self, result: Run, pool: Pool, ask: Broker, journal: Journal) -> None:
        """`compare`: the second-order test, over as many seeds as the run's limits allow."""
        config = self.config
        named = [(n, Solution(s, ENTRY_POINT)) for n, s in config.improvers]
        meta = self.meta_utility(config.held_out, pool, ask, journal)
        complete: list[comparing.Seed] = []

        def on_seed(seed: comparing.Seed) -> None:
            complete.append(seed)
            self.watch.on_seed(config, seed)

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

    def _waited(self, what: str, detail: str, seconds: float) -> None:
        if self._journal is not None:
            self._journal.record(Paused(what=what, detail=detail, seconds=seconds))

    def _candidate_tried(self, journal: Journal, program: str, attempt: Attempt) -> None:
        # A program tries the same on every instance; once tells all of it.
        if (program, attempt.what) not in self.seen_attempts:
            self.seen_attempts.add((program, attempt.what))
            journal.record(
                Attempted(job=f"program/{program}", what=attempt.what, detail=attempt.detail)
            )


_COMMANDS = {
    "run": Execution.stop_rounds,
    "improve": Execution.improve,
    "transfer": Execution.transfer,
    "compare": Execution.compare,
}
_ACTIVITY = ("requested", "budget_refused", "attempted")
