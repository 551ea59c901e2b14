"""The parts of one run, put together and set going."""

import os
import threading
from collections.abc import Callable, Mapping, Sequence

import msgspec

from selftaught.budget import RunAccount
from selftaught.errors import Interrupted, RunBudgetSpent
from selftaught.events import (
    AnyEvent,
    Attempted,
    Improved,
    MetaEvaluated,
    Paused,
    RunEnded,
    RunStarted,
    Speculated,
)
from selftaught.language_model import LanguageModel
from selftaught.meta_utility import Measured, Measurement, MetaUtility
from selftaught.models.answer_cache import NO_CACHE, AnswerCache, model_identity
from selftaught.models.bandit import OBSERVED, BanditModel
from selftaught.models.broker import Broker
from selftaught.models.hosted import Waiting
from selftaught.models.providers import address_of
from selftaught.models.resolve import resolve_model
from selftaught.models.tariff import check_dollars, tariff_of
from selftaught.models.tracing import tracing_of
from selftaught.pool import JOB_LOST, AheadPool, Attempt, Pool
from selftaught.pools.opening import PoolSettings, open_pool
from selftaught.pools.recorded import RecordedPool
from selftaught.pools.traced import TracedPool
from selftaught.redaction import without_credentials
from selftaught.runs.commands import COMMANDS
from selftaught.runs.config import RunConfig
from selftaught.runs.result import Run, Watch
from selftaught.store.event_store import Store
from selftaught.store.journal import Journal
from selftaught.task import Task

_OF_PROGRAM = "program/"


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
        self._broker: Broker | None = None
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
        self._scored_anew = 0
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
        if isinstance(self.model, BanditModel):
            for event in journal.events(OBSERVED):
                self.model.observe(event)
            self._observe = self.model.observe
        if journal.recorded:
            result.resumed = journal.record_resumed(self.tariff.at_most)
            self.seen_attempts |= _attempts_of_programs(journal)
        else:
            journal.record(RunStarted(config=msgspec.to_builtins(config)))
        # With what calls may have cost that were under way when the run ended.
        self.account.record(journal.tokens, journal.dollars)
        self.watch.on_started(journal.run, config)
        recorded: RecordedPool | None = None
        broker = self._broker = Broker(
            self.model, journal, self.account, self._check, self.tariff, self.tracing, cache
        )
        try:
            recorded = RecordedPool(
                TracedPool(self._pool(journal), self.tracing),
                journal,
                self._check,
                speculate=config.speculate,
                begin_again=broker.forget,
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
            "repeated_calls": journal.repeated,
            "calls_from_cache": broker.calls_by_source["cache"],
            "calls_from_recording": broker.calls_by_source["replay"],
            "scored": recorded.scored if recorded else 0,
            "reused_scores": recorded.reused if recorded else 0,
            "deduplicated_scores": recorded.deduplicated if recorded else 0,
            "jobs_begun_again": self._scored_anew + (recorded.begun_again if recorded else 0),
            **_spent_ahead(recorded),
            "tokens": self.account.tokens,
            "dollars": self.account.dollars,
        }
        _end(journal, recorded, result.status, result.reason)
        return result

    def do(self, result: Run, pool: Pool, ask: Broker, journal: Journal) -> None:
        """Do what the command says; `result` holds what is complete, however this ends."""
        COMMANDS[self.config.command](self, result, pool, ask, journal)

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

    def _pool(self, journal: Journal) -> AheadPool:
        config = self.config
        return open_pool(
            PoolSettings(
                url=config.pool,
                slots=config.slots,
                allow_weak_sandbox=config.allow_weak_sandbox,
                allow_network=config.allow_network,
                allow_open_cluster=config.allow_open_cluster,
            ),
            on_attempt=lambda program, tried: self._candidate_tried(journal, program, tried),
            on_event=self._waited,
            check=self._check,
            environment=self._environment,
        )

    def _check(self) -> None:
        """Raise where the run is told to stop, its time is over, or its store is nearly full."""
        if self.stop.is_set():
            raise Interrupted("The run was told to stop.")
        self.account.check_time()
        if self._journal is not None:
            self._journal.require_room()

    def on_event(self, event: AnyEvent) -> None:
        """Tell who wants to know of an event that has been recorded."""
        self._observe(event)
        if self._broker is not None and isinstance(event, Improved):
            self._broker.forget(event.job)
        self.watch.on_event(event)

    def _close_model(self) -> None:
        close = getattr(self.model, "close", None)
        if close is not None:
            close()

    def _waited(self, what: str, detail: str, seconds: float) -> None:
        self._scored_anew += what == JOB_LOST
        if self._journal is not None:
            self._journal.record(Paused(what=what, detail=detail, seconds=seconds))

    def _candidate_tried(self, journal: Journal, program: str, attempt: Attempt) -> None:
        # A program tries the same on every instance; once tells all of it.
        if (program, attempt.what) not in self.seen_attempts:
            self.seen_attempts.add((program, attempt.what))
            journal.record(
                Attempted(job=f"{_OF_PROGRAM}{program}", what=attempt.what, detail=attempt.detail)
            )


def _prepare(model: LanguageModel) -> None:
    """Let a model that takes a while to load do so while the sandbox starts."""
    prepare = getattr(model, "prepare", None)
    if prepare is not None:
        threading.Thread(target=prepare, name="prepare", daemon=True).start()


def _attempts_of_programs(journal: Journal) -> set[tuple[str, str]]:
    """What candidates were seen to try before; one that was being scored is scored again."""
    return {
        (event.job.removeprefix(_OF_PROGRAM), event.what)
        for event in journal.events(("attempted",))
        if isinstance(event, Attempted) and event.job.startswith(_OF_PROGRAM)
    }


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
