"""The parts of one run, put together and set going."""

import os
import threading
from collections.abc import Callable, Mapping, Sequence

import msgspec

import selftaught.algorithm as algorithm
import selftaught.audit.study as auditing
import selftaught.compare as comparing
import selftaught.improvement as improvement
import selftaught.transfer as transfers
from selftaught.acceptance import Trial
from selftaught.anytime import activities
from selftaught.audit.dynamic import observed
from selftaught.budget import RunAccount
from selftaught.errors import Interrupted, NotRecorded, RunBudgetSpent
from selftaught.events import (
    AnyEvent,
    Attempted,
    Audited,
    CandidateTried,
    MetaEvaluated,
    Paused,
    RoundEnded,
    RunEnded,
    RunResumed,
    RunStarted,
    Speculated,
)
from selftaught.history import SPENT_ON, spent_by_round
from selftaught.improver import ENTRY_POINT
from selftaught.language_model import LanguageModel
from selftaught.meta_utility import SEALED, Measured, Measurement, MetaUtility
from selftaught.models.answer_cache import NO_CACHE, AnswerCache, model_identity
from selftaught.models.bandit import OBSERVED, BanditModel
from selftaught.models.broker import Broker
from selftaught.models.hosted import Waiting
from selftaught.models.providers import address_of
from selftaught.models.resolve import resolve_model
from selftaught.models.tariff import FREE_OF_CHARGE, check_dollars, tariff_of
from selftaught.models.tracing import tracing_of
from selftaught.mutation.proposer import MutationProposer
from selftaught.pool import Attempt, Pool
from selftaught.pools.local import LocalPool
from selftaught.pools.recorded import RecordedPool
from selftaught.pools.traced import TracedPool
from selftaught.redaction import without_credentials
from selftaught.runs.config import RunConfig
from selftaught.runs.result import Run, Watch
from selftaught.solution import Solution
from selftaught.store.event_store import Store
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
        base_url: str | None = None,
    ) -> None:
        self.config = config
        self.watch = watch
        self.stop = stop or threading.Event()
        self._journal: Journal | None = None
        self._environment = os.environ if environment is None else environment
        address = base_url or config.base_url
        self.tariff = tariff_of(
            config.model,
            given=model,
            base_url=address,
            environment=self._environment,
            settings=config.model_settings,
        )
        check_dollars(self.tariff, config.limits)
        self._closes_model = model is None
        self._observe: Callable[[AnyEvent], None] = lambda event: None
        self.model = model or resolve_model(
            config.model,
            base_url=address,
            environment=self._environment,
            settings=config.model_settings,
            waiting=Waiting(on_wait=self._waited, check=self._check),
        )
        _prepare(self.model)
        self.account = RunAccount(config.limits)
        self.tracing = tracing_of(self._environment)
        self.seen_attempts: set[tuple[str, str]] = set()

    def cache(self, store: Store) -> AnswerCache:
        """The cache of answers over all runs of a store; of a replay, none."""
        config = self.config
        if config.replay_of:
            return NO_CACHE
        url = address_of(config.model, config.base_url, self._environment)
        identity = model_identity(
            config.model,
            url=without_credentials(url),
            settings=config.model_settings,
            is_language_model=self.model.is_language_model,
        )
        return AnswerCache(store, identity=identity, reads=config.cache)

    def go(self, journal: Journal, cache: AnswerCache = NO_CACHE) -> Run:
        """Do what the configuration says and record how it ended."""
        with self.tracing.run(journal.run, self.config.command):
            result = self._go(journal, cache)
            self.tracing.status(result.status)
            return result

    def _go(self, journal: Journal, cache: AnswerCache) -> Run:
        config = self.config
        result = Run(id=journal.run, config=config)
        self._journal = journal
        self.account.record(journal.tokens, journal.dollars)
        if isinstance(self.model, BanditModel):
            for event in journal.events(OBSERVED):
                self.model.observe(event)
            self._observe = self.model.observe
        if journal.recorded:
            journal.record(RunResumed(recorded=journal.recorded))
        else:
            journal.record(RunStarted(config=msgspec.to_builtins(config)))
        self.watch.on_started(journal.run, config)
        recorded: RecordedPool | None = None
        broker = Broker(
            self.model, journal, self.account, self._check, self.tariff, self.tracing, cache
        )
        try:
            pool = LocalPool(
                config.slots,
                allow_weak_sandbox=config.allow_weak_sandbox,
                allow_network=config.allow_network,
                on_attempt=lambda program, tried: self._candidate_tried(journal, program, tried),
            )
            recorded = RecordedPool(
                TracedPool(pool, self.tracing), journal, self._check, speculate=config.speculate
            )
            self.do(result, recorded, broker, journal)
        except RunBudgetSpent as spent:
            result.status, result.reason = "budget", str(spent)
        except (Interrupted, KeyboardInterrupt) as interruption:
            _end(journal, recorded, "interrupted", str(interruption))
            raise Interrupted(journal.run) from interruption
        except Exception as error:
            # Recorded and raised again: a run never ends without its last word.
            _end(journal, recorded, "failed", f"{type(error).__name__}: {error}")
            raise
        finally:
            if recorded is not None:
                recorded.close()
            if self._closes_model:
                self._close_model()
        result.spent = {
            "live_calls": broker.live_calls,
            "replayed_calls": broker.replayed_calls,
            "calls_from_cache": broker.calls_by_source["cache"],
            "calls_from_recording": broker.calls_by_source["replay"],
            "scored": recorded.scored if recorded else 0,
            "reused_scores": recorded.reused if recorded else 0,
            **_spent_ahead(recorded),
            "tokens": self.account.tokens,
            "dollars": self.account.dollars,
        }
        _end(journal, recorded, result.status, result.reason)
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
            shows_text=self.config.utility_text == "shown",
        )

    def stop_rounds(self, result: Run, pool: Pool, ask: Broker, journal: Journal) -> None:
        """`run`: Algorithm 1, then the transfer table."""
        config = self.config
        meta = self.meta_utility(config.tasks, pool, ask, journal)

        def on_round(one: algorithm.Round) -> None:
            result.rounds.append(one)
            if one.trial is not None:
                journal.record_once(_tried(one, one.trial, result.rounds[-2].improver))
            self.tracing.round_ended(one.accepted)
            if one.number < config.rounds:
                self.tracing.round_begins(one.number + 1)
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
            self.watch.on_round(one)

        seed_improver = Solution(config.improvers[0][1], ENTRY_POINT)
        self.tracing.round_begins(0)
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

    def audit(self, result: Run, pool: Pool, ask: Broker, journal: Journal) -> None:
        """`audit`: improvers are generated, read, and run once each."""
        config = self.config
        generated: auditing.Generated = {}
        early: RunBudgetSpent | NotRecorded | None = None
        try:
            auditing.generate(
                config.improvers[0][1],
                config.audit,
                ask,
                config.seed,
                generated,
                on_progress=self._by_tenths(config.audit.generations, "generations"),
            )
        except (RunBudgetSpent, NotRecorded) as end:
            early = end
        programs = auditing.examine(generated)
        if config.audit.dynamic and early is None:
            try:
                programs = self._run_audited(programs, pool, journal)
            except (RunBudgetSpent, NotRecorded) as end:
                early = end
        for one in programs:
            journal.record_once(_audited(one), texts=(one.solution.source,))
        if programs:
            result.audit = auditing.judge(programs)
        if early is not None:
            raise early

    def _run_audited(
        self, programs: list[auditing.Program], pool: Pool, journal: Journal
    ) -> list[auditing.Program]:
        # What is watched is what a program does, not how well: mutations are good enough answers,
        # and cost nothing.
        answers = Broker(MutationProposer(), journal, RunAccount(), self._check, FREE_OF_CHARGE)
        meta = self.meta_utility(self.config.tasks, pool, answers, journal)
        (task,) = meta.tasks
        usable = sum(one.usable for one in programs)
        told = self._by_tenths(usable, "distinct programs run")
        auditing.run_programs(
            programs,
            task,
            meta,
            pool,
            on_progress=told,
        )
        return auditing.with_observed(programs, task, observed(journal.events(_SEEN)))

    def _by_tenths(self, of: int, what: str) -> Callable[[int], None]:
        """Tell how far something long is, about ten times."""
        said = 0

        def on_progress(done: int) -> None:
            nonlocal said
            if 10 * done // of > said:
                said = 10 * done // of
                self.watch.on_step(f"{done:,} of {of:,} {what}")

        return on_progress

    def on_event(self, event: AnyEvent) -> None:
        """Tell who wants to know of an event that has been recorded."""
        self._observe(event)
        self.watch.on_event(event)

    def _close_model(self) -> None:
        close = getattr(self.model, "close", None)
        if close is not None:
            close()

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


def _prepare(model: LanguageModel) -> None:
    """Let a model that takes a while to load do so while the sandbox starts."""
    prepare = getattr(model, "prepare", None)
    if prepare is not None:
        threading.Thread(target=prepare, name="prepare", daemon=True).start()


def _end(journal: Journal, recorded: RecordedPool | None, status: str, reason: str) -> None:
    speculated = recorded.speculated if recorded else Speculated()
    journal.record(RunEnded(status=status, reason=reason, speculated=speculated))


def _spent_ahead(recorded: RecordedPool | None) -> dict[str, float]:
    ahead = recorded.speculated if recorded else Speculated()
    return {
        "speculated": ahead.begun,
        "speculated_used": ahead.used,
        "speculated_used_s": ahead.used_s,
        "speculated_wasted": ahead.begun - ahead.used,
        "speculated_wasted_s": ahead.wasted_s,
    }


_COMMANDS = {
    "run": Execution.stop_rounds,
    "improve": Execution.improve,
    "transfer": Execution.transfer,
    "compare": Execution.compare,
    "audit": Execution.audit,
}
_ACTIVITY = ("requested", "budget_refused", "attempted")
_SEEN = ("budget_refused", "attempted", "improved")


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
