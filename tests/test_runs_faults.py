"""Whole runs over an endpoint that fails, dies and comes back: same result, all of it explained."""

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from selftaught.budget import Budget
from selftaught.errors import Interrupted, ModelUnreachable
from selftaught.events import Answered, AnyEvent, Improved, Paused
from selftaught.improver import load_improver
from selftaught.language_model import ModelSettings
from selftaught.models.resolve import resolve_model
from selftaught.runs.config import RunConfig
from selftaught.runs.launch import resume, start
from selftaught.runs.result import Run, Watch
from selftaught.store.sqlite import SQLiteStore
from selftaught.testing import ANTHROPIC, GEMINI, OPENAI, LoopbackServer, mixed_faults
from selftaught.testing.loopback_server import MutationAnswers

pytestmark = pytest.mark.slow

BUDGET = Budget(calls=2, responses=2, utility_calls=5)
EXPLAINS = ("model_retry", "model_paused", "model_adapted")


def config_of(task: Path, url: str, provider: str = "openai", **settings: Any) -> RunConfig:
    return RunConfig(
        command="run",
        tasks=(str(task),),
        improvers=(("seed", load_improver("seed").source),),
        rounds=1,
        repeats=1,
        sealed_repeats=1,
        model=f"{provider}/x",
        base_url=url,
        model_settings=ModelSettings(**settings),
        budget=BUDGET,
        meta_budget=BUDGET,
        slots=2,
        # How much is scored ahead in vain depends on the time, and the clean run is compared to.
        speculate=False,
    )


def answers() -> MutationAnswers:
    return MutationAnswers(resolve_model("mutation", base_url=None, environment={}))


def result(run: Run) -> object:
    rounds = [(one.improver.hash, one.accepted, one.validation, one.sealed) for one in run.rounds]
    return rounds, run.sealed_rows, run.spent["scored"]


def events_of(store: Path) -> list[AnyEvent]:
    with SQLiteStore.open(str(store), writable=False) as opened:
        (row,) = opened.runs()
        return [event for _, _, event in opened.events(row.id)]


@pytest.fixture(scope="module")
def clean(toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> object:
    """What the run comes to where nothing fails."""
    store = tmp_path_factory.mktemp("clean") / "clean.db"
    with LoopbackServer(answers()) as server:
        run = start(config_of(toy_folder, server.url), str(store), environment={})
    assert run.spent["live_calls"] >= 4
    return result(run)


@pytest.mark.parametrize("dialect", [OPENAI, ANTHROPIC, GEMINI], ids=lambda one: one.name)
def test_a_run_with_a_third_of_its_requests_failing_ends_as_a_clean_one(
    dialect: Any, clean: object, toy_folder: Path, tmp_path: Path
) -> None:
    store = tmp_path / "faulty.db"
    with LoopbackServer(
        answers(), faults=mixed_faults(0.3, seed=1), retry_after="0.05", dialect=dialect
    ) as server:
        config = config_of(toy_folder, server.url, dialect.name)
        run = start(config, str(store), environment={})
    assert result(run) == clean
    events = events_of(store)
    paused = Counter(event.what for event in events if isinstance(event, Paused))
    answered = [event for event in events if isinstance(event, Answered)]
    failed = [received for received in server.log if not received.answered]
    assert len(failed) >= 2, "nothing was tested"
    assert sum(event.attempts for event in answered) == len(server.log)
    assert sum(paused[what] for what in EXPLAINS) == len(failed)
    for event in events:
        if isinstance(event, Improved):
            assert event.calls <= BUDGET.calls
            assert event.responses <= BUDGET.calls * BUDGET.responses
            assert event.utility_calls <= BUDGET.utility_calls


class Interruption:
    """Ends a server in the middle of a run, and tells what the run says of it."""

    def __init__(self, task: Path, store: Path, **settings: Any) -> None:
        self.paused = threading.Event()
        self.told: list[Paused] = []
        self.stop = threading.Event()
        self.outcome: Run | BaseException | None = None
        self.store = store
        self.dying = threading.Event()
        self._requests = 0
        self.server = LoopbackServer(answers(), on_request=self._on_request)
        config = config_of(task, self.server.url, **settings)
        self.thread = threading.Thread(target=self._run, args=(config,))

    def _on_request(self, received: Any) -> bool:
        self._requests += 1
        if self._requests >= 3:
            self.dying.set()
        return self.dying.is_set()

    def _on_event(self, event: AnyEvent) -> None:
        if isinstance(event, Paused):
            self.told.append(event)
            if event.what == "model_paused":
                self.paused.set()

    def _run(self, config: RunConfig) -> None:
        watch = Watch(on_event=self._on_event)
        try:
            self.outcome = start(
                config, str(self.store), watch=watch, stop=self.stop, environment={}
            )
        except (Interrupted, ModelUnreachable) as error:
            self.outcome = error

    def until_paused(self) -> None:
        """Start the run, let the endpoint die and wait until the run says that it waits."""
        with self.server:
            self.thread.start()
            assert self.dying.wait(60)
        assert self.paused.wait(60)

    def joined(self) -> Run | BaseException | None:
        self.thread.join(60)
        assert not self.thread.is_alive()
        return self.outcome


def test_a_run_waits_for_an_endpoint_that_died_and_goes_on_when_it_is_back(
    clean: object, toy_folder: Path, tmp_path: Path
) -> None:
    one = Interruption(toy_folder, tmp_path / "store.db")
    one.until_paused()
    assert one.outcome is None
    with LoopbackServer(answers(), port=one.server.port):
        run = one.joined()
    assert isinstance(run, Run)
    assert result(run) == clean
    last = one.told[-1]
    assert last.what == "model_resumed"
    assert "answers again" in last.detail
    assert last in events_of(one.store)


def test_a_stop_ends_the_pause_at_once_and_resume_goes_on(
    clean: object, toy_folder: Path, tmp_path: Path
) -> None:
    one = Interruption(toy_folder, tmp_path / "store.db")
    one.until_paused()
    one.stop.set()
    assert isinstance(one.joined(), Interrupted)
    with LoopbackServer(answers(), port=one.server.port) as server:
        run = resume("latest", str(one.store), environment={})
    had, asked = (
        {received.idempotency_key for received in log if received.answered}
        for log in (one.server.log, server.log)
    )
    assert had
    assert not had & asked, "an answer was asked for twice"
    assert result(run)[0] == clean[0]  # type: ignore[index]


def test_patience_ends_the_run_with_how_to_go_on(toy_folder: Path, tmp_path: Path) -> None:
    one = Interruption(toy_folder, tmp_path / "store.db", patience_s=1.0)
    one.until_paused()
    failure = one.joined()
    assert isinstance(failure, ModelUnreachable)
    assert "`selftaught resume` goes on" in str(failure)
