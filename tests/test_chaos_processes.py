"""Processes of the sandbox that are killed or stopped under a run: it goes on, with the same result."""

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chaos_run import Case, Driver, Running, Whole, endpoint, until
from process_tree import below, processes

from selftaught.budget import Account, Budget, RunAccount
from selftaught.errors import SandboxUnavailable
from selftaught.events import kind
from selftaught.improver import ENTRY_POINT
from selftaught.language_model import Answer, Request, Usage
from selftaught.meta_utility import MetaUtility
from selftaught.models.broker import Broker
from selftaught.models.tariff import FREE_OF_CHARGE
from selftaught.pool import MAX_STARTS, ScoreJob
from selftaught.pools.evaluator_process import EvaluatorProcess
from selftaught.pools.local import LocalPool
from selftaught.pools.recorded import RecordedPool
from selftaught.sandbox.guest import wire
from selftaught.sandbox.layers import WEAK
from selftaught.solution import Solution
from selftaught.store.journal import Journal
from selftaught.store.sqlite import SQLiteStore
from selftaught.task import Task
from selftaught.utility import Outcome, Returned, Scored


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def machinery(host: int) -> list[int]:
    """Evaluators and zygotes of a host: what it has started itself, and what these have."""
    parents = processes()
    ids = {int(one.split()[0]): parent for one, parent in parents.items()}
    direct = [pid for pid, parent in ids.items() if parent == host]
    evaluators = [pid for pid in direct if "selftaught.sandbox.evaluator" in command_of(pid)]
    return sorted({*direct, *(pid for pid, parent in ids.items() if parent in evaluators)})


def disturbed(running: Running, luck: random.Random, number: int) -> int:
    """Kill or stop for a while some processes at random moments; how many were hit."""
    hit = 0
    for _ in range(number):
        time.sleep(luck.uniform(0.05, 0.3))
        there = machinery(running.pid)
        if not there:
            continue
        pid = luck.choice(there)
        how = luck.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP])
        try:
            os.kill(pid, how)
            hit += 1
            if how is signal.SIGSTOP:
                time.sleep(luck.uniform(0.05, 0.3))
                os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            continue
    return hit


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_a_run_goes_on_whatever_is_killed_or_stopped_under_it(
    seed: int, driver: Driver, whole: Callable[..., Whole], tmp_path: Path
) -> None:
    luck = random.Random(f"processes {seed}")
    with endpoint() as server:
        case = Case(driver, tmp_path, server)
        running = case.start()
        until(lambda: len(case.raw()) > 3)
        assert disturbed(running, luck, 4)
        children = below(running.pid)
        ended = running.end()
        if ended.code:
            # The same job was hit three times, which is told.
            assert "ive the run more memory, or fewer --slots" in ended.said
            case.left_behind()
            ended = case.resume().end()
        case.check(ended.document, whole())
        until(lambda: not processes().keys() & children, 10.0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    with SQLiteStore.open(tmp_path / "runs.db", writable=True) as opened:
        yield opened


class Frail:
    """A pool of one slot whose processes are killed a number of times while they are at work.

    It is also the model, since the moment to kill an improver's is when it waits for an answer.
    """

    name, is_language_model = "frail", False

    def __init__(self, store: SQLiteStore, task: Task, kills: int) -> None:
        self.store, self.task = store, task
        self.run = store.new_run({}, "x")
        self.local = LocalPool(1)
        journal = Journal(store, self.run)
        self.broker = Broker(self, journal, RunAccount(), lambda: None, FREE_OF_CHARGE)
        self.pool = RecordedPool(self.local, journal, lambda: None, begin_again=self.broker.forget)
        self.job = ScoreJob(task=task, solution=task.initial, split="val")
        self.asked: list[Request] = []
        self._kills = kills
        self.account = Account(Budget(calls=3, responses=2, utility_calls=2))

    def score(self) -> Outcome:
        evaluator = self.local.machine._all_evaluators[0].result()
        send = evaluator._frames.__class__.send

        def sending(frames: wire.Pipe, message: dict[str, Any]) -> None:
            if "split" in message and self._kills:
                self._kills -= 1
                evaluator._process.kill()
                evaluator._process.wait()
            send(frames, message)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(wire.Pipe, "send", sending)
            return self.pool.score(self.job)

    def improve(self, *lines: str) -> Outcome:
        source = "def improve_algorithm(initial_solution, utility, language_model):\n" + "".join(
            f"    {line}\n" for line in lines
        )
        meta = MetaUtility(
            [self.task], repeats=1, budget=self.account.budget, pool=self.pool,
            ask=self.broker, seed=0,
        )  # fmt: skip
        improver = Solution(source, ENTRY_POINT)
        job = meta.job_on_task(improver, self.task, "validation", 0, 0, self.account)
        return self.pool.improve(job)

    def respond(self, request: Request, *, seed: int, occurrence: int, key: str) -> Answer:
        self.asked.append(request)
        if self._kills:
            self._kills -= 1
            zygote = self.local.machine._zygotes[()].result()
            inside = below(zygote._process.pid)
            zygote._process.kill()
            zygote._process.wait()
            # The kernel takes its time to end what is in it.
            until(lambda: not processes().keys() & inside)
        return Answer(texts=(f"# answer {len(self.asked)}",) * request.n_responses, usage=Usage())

    def recorded(self) -> Counter[str]:
        return Counter(kind(event) for _, _, event in self.store.events(self.run))


@pytest.fixture
def frail(store: SQLiteStore, toy: Task) -> Iterator[Callable[[int], Frail]]:
    made: list[Frail] = []

    def get(kills: int) -> Frail:
        made.append(Frail(store, toy, kills))
        return made[-1]

    yield get
    for one in made:
        one.pool.close()


def test_an_evaluator_that_is_killed_again_and_again_is_no_outcome_of_the_program(
    frail: Callable[[int], Frail],
) -> None:
    few, many = frail(MAX_STARTS - 1), frail(MAX_STARTS)
    assert isinstance(few.score(), Scored)
    with pytest.raises(SandboxUnavailable, match=r"could not be scored.*SIGKILL.*resume"):
        many.score()
    assert not many.recorded(), "the program was charged for it"
    # The next one finds the pool in order.
    assert many.pool.score(few.job) == few.pool.score(few.job)


def test_an_improver_whose_process_is_killed_begins_again_and_asks_nothing_twice(
    frail: Callable[[int], Frail],
) -> None:
    work = (
        "texts = language_model.prompt('e', 'one', n_responses=2)",
        "texts += language_model.prompt('e', 'two')",
        "utility(initial_solution)",
        "return repr((texts, utility.uses, language_model.times_used))",
    )
    whole, killed = frail(0), frail(2)
    expected = whole.improve(*work)
    assert isinstance(expected, Returned)
    assert killed.improve(*work) == expected
    # Each kill came with the answer to a request, and the next try was given that answer.
    assert [one.message for one in killed.asked] == ["one", "two"]
    assert (killed.account.calls, killed.account.utility_calls) == (2, 1)
    recorded = killed.recorded()
    assert recorded.pop("paused") == killed.pool.begun_again == 2
    assert recorded == whole.recorded()


def test_a_machine_that_kills_an_improver_again_and_again_ends_the_run_with_a_sentence(
    frail: Callable[[int], Frail],
) -> None:
    many = frail(MAX_STARTS)
    with pytest.raises(SandboxUnavailable, match=r"was lost 3 times.*Give the run more memory"):
        many.improve(
            "return ''.join(language_model.prompt('e', str(n))[0] for n in range(3))",
        )
    assert "improved" not in many.recorded()


@pytest.mark.parametrize("what", ["evaluator", "zygote"])
def test_a_process_that_is_killed_while_it_starts_is_started_again(
    what: str, toy: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []
    start = subprocess.Popen.__init__

    def starting(process: Any, command: list[str], *args: Any, **options: Any) -> None:
        start(process, command, *args, **options)
        is_evaluator = "selftaught.sandbox.evaluator" in command
        if len(killed) < 2 and is_evaluator == (what == "evaluator"):
            killed.append(process.pid)
            process.kill()

    monkeypatch.setattr(subprocess.Popen, "__init__", starting)
    pool = LocalPool(1)
    try:
        job = ScoreJob(task=toy, solution=toy.initial, split="val")
        assert isinstance(pool.score(job), Scored)
        child = pool.machine._fork("")
        child.close()
    finally:
        pool.close()
    assert len(killed) == 2


def test_an_evaluator_that_is_killed_at_each_start_ends_the_run_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    killed: list[int] = []
    launch = EvaluatorProcess._launch

    def dying(one: EvaluatorProcess) -> None:
        launch(one)
        killed.append(one._process.pid)
        one._process.kill()

    monkeypatch.setattr(EvaluatorProcess, "_launch", dying)
    with pytest.raises(
        SandboxUnavailable, match=r"could not start.*SIGKILL.*3 times\. Give the run"
    ):
        EvaluatorProcess(WEAK)
    assert len(killed) == MAX_STARTS
