"""The bandit over models: what it learns from events, what it prefers, and that it resumes."""

import random
import threading
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from selftaught.budget import Budget
from selftaught.errors import Interrupted, UsageError
from selftaught.events import Answered, Improved, Requested
from selftaught.improver import load_improver
from selftaught.language_model import ModelSettings
from selftaught.models.bandit import OBSERVED, BanditModel, Ledger
from selftaught.models.mix import members, parse_bandit, parse_mix
from selftaught.models.resolve import resolve_model
from selftaught.models.tariff import tariff_of
from selftaught.runs.config import RunConfig
from selftaught.runs.execution import Execution
from selftaught.runs.launch import resume, start
from selftaught.runs.result import Watch
from selftaught.store.journal import Journal
from selftaught.store.sqlite import SQLiteStore
from selftaught.testing import LanguageModelContract, ScriptedModel
from selftaught.utility import Returned


def answered(model: str, job: str = "validation/i/t/0", *, dollars=0.01, tokens=100) -> Answered:
    return Answered(
        job=job,
        content_hash="c",
        occurrence=0,
        expertise="e",
        message="m",
        temperature=0.7,
        texts=("t",),
        model=model,
        prompt_tokens=tokens,
        dollars=dollars,
    )


def scored(value: float, job: str = "validation/i/t/0", outcome: str = "scored") -> Requested:
    return Requested(
        job=job, call=1, solution="s", outcome=outcome, value=value, calls=1, responses=1
    )


def ended(job: str = "validation/i/t/0") -> Improved:
    return Improved(
        job=job, improver="i", initial="s", target="t", outcome=Returned(source="x"), calls=1
    )


def folded(*events: object) -> Ledger:
    ledger = Ledger(["a", "b"])
    for event in events:
        ledger.add(event)
    return ledger


class TestABanditKeepsTheContract(LanguageModelContract):
    repeats_itself = True

    @pytest.fixture
    def model(self) -> BanditModel:
        def saying(name: str) -> ScriptedModel:
            return ScriptedModel(
                lambda request, seed, occurrence: [name] * request.n_responses, name=name
            )

        return BanditModel("bandit(a,b)", [saying("a"), saying("b")])


def test_a_reward_is_the_share_of_earlier_answers_at_the_place_that_are_beaten() -> None:
    jobs = [f"validation/i{number}/t/0" for number in range(4)]
    ledger = folded(
        *(answered("a", jobs[0]), scored(0.2, jobs[0]), scored(0.5, jobs[0]), ended(jobs[0])),
        *(answered("b", jobs[1]), scored(0.9, jobs[1]), ended(jobs[1])),
        *(answered("b", jobs[2]), scored(0.5, jobs[2]), scored(0.7, jobs[2]), ended(jobs[2])),
        # Another place of the run: its numbers have nothing to do with those above.
        *(answered("a", "sealed/i/t/0"), scored(-900.0, "sealed/i/t/0"), ended("sealed/i/t/0")),
        *(answered("a", jobs[3]), scored(0.5, jobs[3]), ended(jobs[3])),
    )
    assert ledger.arms["b"].reward == 1.0 + 0.5
    assert ledger.arms["a"].reward == pytest.approx(0.5 + 0.5 + 0.5 / 3)
    assert (ledger.arms["a"].rewarded, ledger.arms["b"].rewarded) == (3, 2)


def test_answers_of_one_job_are_told_apart_by_the_scores_between_them() -> None:
    ledger = folded(
        answered("a"),
        scored(0.5),
        answered("b"),
        scored(0.8),
        answered("a"),
        answered("b"),
        ended(),
    )
    # The last two brought nothing that was scored.
    assert (ledger.arms["a"].reward, ledger.arms["b"].reward) == (0.5, 1.0)
    assert (ledger.arms["a"].rewarded, ledger.arms["b"].rewarded) == (2, 2)
    failed = folded(answered("a"), scored(-1.0, outcome="failed"), ended())
    assert (failed.arms["a"].rewarded, failed.arms["a"].reward) == (1, 0.0)


def test_costs_are_money_where_all_prices_are_known_and_tokens_else() -> None:
    known = folded(answered("a", dollars=0.3, tokens=10), answered("b", dollars=0.1, tokens=90))
    assert known.costs() == {"a": (1.0, 1), "b": (pytest.approx(1 / 3), 1)}
    unknown = folded(answered("a", dollars=None, tokens=10), answered("b", tokens=40))
    assert unknown.costs() == {"a": (0.25, 1), "b": (1.0, 1)}
    free = folded(answered("a", dollars=0.0, tokens=0), answered("a", dollars=0.0, tokens=0))
    assert free.costs() == {"a": (2.0, 2), "b": (0.0, 0)}


@pytest.mark.parametrize(
    ("chances", "prices", "favourite"),
    [
        ((0.9, 0.2), (0.01, 0.01), "a"),
        ((0.5, 0.5), (0.1, 0.01), "b"),
        ((0.9, 0.3), (0.1, 0.01), "b"),
    ],
)
def test_it_comes_to_prefer_what_brings_most_for_the_money(chances, prices, favourite) -> None:
    ledger, luck = Ledger(["a", "b"]), random.Random(5)
    chosen = Counter()
    for number in range(300):
        name = ledger.choose(luck)
        chosen[name] += number >= 100
        job = f"validation/{number}/t/0"
        quality = chances["ab".index(name)]
        for event in (
            answered(name, job, dollars=prices["ab".index(name)]),
            scored(quality + luck.gauss(0, 0.1), job),
            ended(job),
        ):
            ledger.add(event)
    assert chosen[favourite] > 150


def test_a_bandit_is_written_with_its_models() -> None:
    assert parse_bandit("bandit(openai/a:1, local/b.gguf)") == ("openai/a:1", "local/b.gguf")
    assert members("bandit(openai/a,openai/b)") == ("openai/a", "openai/b")
    assert parse_bandit("openai/a") == parse_mix("bandit(openai/a,openai/b)") == ()
    for name in ("bandit(a,b", "bandit(a)", "bandit(a,a)", "bandit(a,)", "bandit()"):
        with pytest.raises(UsageError, match="names each of two or more once"):
            resolve_model(name, base_url=None, environment={})
    tariff = tariff_of(
        "bandit(openai/gpt-5,openai/x)", base_url=None, environment={}, settings=ModelSettings()
    )
    assert tariff.unknown == ["openai/x"]


def config(folder: Path) -> RunConfig:
    budget = Budget(calls=2, responses=2, utility_calls=4)
    return RunConfig(
        command="run",
        tasks=(str(folder),),
        improvers=(("greedy", load_improver("greedy").source),),
        rounds=2,
        repeats=1,
        sealed_repeats=1,
        budget=budget,
        meta_budget=budget,
        model="bandit(mutation,mutation-first-order)",
        slots=1,
    )


def test_a_resumed_run_knows_what_it_had_learned(toy_folder: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "s.db")
    stop = threading.Event()
    seen = []

    def on_event(event: object) -> None:
        seen.append(event)
        if sum(isinstance(one, Improved) for one in seen) == 3:
            stop.set()

    with pytest.raises(Interrupted):
        start(config(toy_folder), store, watch=Watch(on_event=on_event), stop=stop)
    with SQLiteStore.open(store, writable=True) as opened:
        journal = Journal(opened, opened.resolve("latest"))
        again = Execution(config(toy_folder), Watch(), None, {}, None)
        recorded = list(journal.events(OBSERVED))
        for event in recorded:
            again.model.observe(event)
        learned = Ledger(list(again.model._models))
        for event in seen:
            learned.add(event)
        assert learned.arms == again.model._ledger.arms
        assert sum(arm.rewarded for arm in learned.arms.values()) > 0
    answers = {e.key: e.model for e in seen if isinstance(e, Answered)}
    run = resume("latest", store)
    assert run.status == "done"
    with SQLiteStore.open(store, writable=False) as opened:
        events = [event for _, _, event in opened.events(run.id)]
    after = {e.key: e.model for e in events if isinstance(e, Answered)}
    # What was answered before stands, and both were tried.
    assert answers.items() <= after.items()
    assert set(after.values()) == {"mutation", "mutation-first-order"}
    assert msgspec.to_builtins(run.config)["model"] == "bandit(mutation,mutation-first-order)"
