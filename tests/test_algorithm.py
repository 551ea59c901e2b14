"""Algorithm 1 and the meta-utility against a pool that is told what improvers return."""

from collections.abc import Callable

import pytest

from selftaught.algorithm import ACCEPT, Round, self_taught_optimizer
from selftaught.budget import Account, Budget
from selftaught.errors import UsageError
from selftaught.improver import load_improver
from selftaught.language_model import Answer
from selftaught.meta_utility import SEALED, TRANSFER, VALIDATION, MetaUtility, derive_seed
from selftaught.pool import ImproveJob, ScoreJob
from selftaught.solution import Solution
from selftaught.task import Task
from selftaught.transfer import transfer
from selftaught.utility import Failed, Outcome, Returned, Scored, TimedOut


def improver(strength: float) -> Solution:
    """A program that the fake pool reads as an improver of a given strength."""
    return Solution(
        f"STRENGTH = {strength}\ndef improve_algorithm(s, u, l): ...\n", "improve_algorithm"
    )


def strength(program: Solution) -> float:
    return float(program.source.split("= ")[1].split("\n")[0])


class FakePool:
    """Improvers return programs worth their strength; those below zero fail."""

    slots = 1

    def __init__(self, on_improver: Callable[[Solution], Outcome]) -> None:
        self._on_improver = on_improver
        self.score_jobs: list[ScoreJob] = []
        self.improve_jobs: list[ImproveJob] = []

    def score(self, job: ScoreJob) -> Outcome:
        self.score_jobs.append(job)
        if job.solution == job.task.initial:
            return Scored(value=-5.0)
        return Scored(value=float(job.solution.source.rsplit(" ", 1)[1]))

    def improve(self, job: ImproveJob) -> Outcome:
        self.improve_jobs.append(job)
        if job.target == "meta-utility":
            return self._on_improver(job.initial)
        if strength(job.improver) < 0:
            return TimedOut(reason="looped")
        return Returned(source=f"worth {-5.0 + 5 * strength(job.improver)}")

    def close(self) -> None: ...


def meta_utility(pool: FakePool, toy: Task, repeats: int = 2, seed: int = 0) -> MetaUtility:
    return MetaUtility(
        [toy],
        repeats=repeats,
        budget=Budget(),
        pool=pool,
        ask=lambda job, request, seed: Answer(texts=()),
        seed=seed,
    )


def stop(
    toy: Task, on_improver: Callable[[Solution], Outcome], accept: str = "always", rounds: int = 3
) -> list[Round]:
    pool = FakePool(on_improver)
    return self_taught_optimizer(
        improver(0.1),
        meta_utility(pool, toy),
        pool,
        rounds=rounds,
        budget=Budget(),
        accept=accept,
    )


def test_each_round_improves_the_improver_of_the_last(toy: Task) -> None:
    rounds = stop(toy, lambda old: Returned(source=improver(strength(old) + 0.1).source))
    assert [round(strength(r.improver), 1) for r in rounds] == [0.1, 0.2, 0.3, 0.4]
    assert [round(r.sealed.outcome.value, 3) for r in rounds] == [0.1, 0.2, 0.3, 0.4]  # type: ignore[union-attr]
    assert [r.accepted for r in rounds] == [False, True, True, True]


def test_a_failing_round_keeps_the_previous_improver(toy: Task) -> None:
    rounds = stop(toy, lambda old: Failed(reason="it raised"))
    assert {r.improver.hash for r in rounds} == {improver(0.1).hash}
    assert "round failed: failed (it raised)" in rounds[1].reason


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (improver(0.1).source, "returned its input"),
        ("def other(): ...", "does not define improve_algorithm"),
        ("def (", "not valid Python"),
        (improver(-1.0).source, "timed_out"),
    ],
)
def test_what_is_no_better_improver_is_not_accepted(toy: Task, returned: str, reason: str) -> None:
    (_, first) = stop(toy, lambda old: Returned(source=returned), rounds=1)
    assert not first.accepted
    assert first.improver.hash == improver(0.1).hash
    assert reason in first.reason


def test_always_takes_a_worse_improver_and_better_does_not(toy: Task) -> None:
    def worse(old: Solution) -> Outcome:
        return Returned(source=improver(strength(old) / 2).source)

    assert strength(stop(toy, worse, "always")[-1].improver) < 0.1
    assert strength(stop(toy, worse, "better")[-1].improver) == 0.1
    assert set(ACCEPT) == {"always", "better", "significant"}


def test_every_improver_meets_the_same_instances_and_luck(toy: Task) -> None:
    """Common random numbers: what differs between two improvers' jobs is the improver alone."""
    pool = FakePool(lambda old: Failed(reason=""))
    meta = meta_utility(pool, toy, repeats=3)
    meta.measure(improver(0.2))
    first, pool.improve_jobs, pool.score_jobs = pool.improve_jobs, [], []
    meta.measure(improver(0.3))
    assert sorted(j.seed for j in first) == sorted(j.seed for j in pool.improve_jobs)
    assert len({j.seed for j in first}) == 3
    assert not {j.key for j in first} & {j.key for j in pool.improve_jobs}


def test_what_an_improver_scores_on_is_never_what_it_is_judged_by(toy: Task) -> None:
    for measurement in (VALIDATION, SEALED, TRANSFER):
        pool = FakePool(lambda old: Failed(reason=""))
        meta_utility(pool, toy, repeats=3).measure(improver(0.2), measurement)
        judged = {(j.split, j.repeat) for j in pool.score_jobs}
        pool.score_jobs = []
        for job in pool.improve_jobs:
            job.utility(Solution("worth 1.0"))
        seen = {(j.split, j.repeat) for j in pool.score_jobs}
        assert {split for split, _ in seen} == {"val"}
        assert not judged & seen
        if measurement is not VALIDATION:
            assert {split for split, _ in judged} == {"test"}


def test_the_meta_utility_is_the_mean_of_normalised_gains(toy: Task) -> None:
    pool = FakePool(lambda old: Failed(reason=""))
    measured = meta_utility(pool, toy, repeats=4).measure(improver(0.5))
    assert measured.outcome == Scored(value=0.5, values=(0.5,) * 4)
    assert measured.by_task == {"toy": 0.5}


def test_an_improver_that_fails_everywhere_has_a_failure_and_no_number(toy: Task) -> None:
    pool = FakePool(lambda old: Failed(reason=""))
    measured = meta_utility(pool, toy, repeats=9).measure(improver(-1.0))
    assert measured.outcome == TimedOut(reason="looped")
    assert len(pool.improve_jobs) == 2, "broken on two tasks: the rest need not be tried"


def test_the_meta_utility_text_states_the_budgets_it_uses(toy: Task) -> None:
    meta = MetaUtility(
        [toy],
        repeats=5,
        budget=Budget(calls=7, responses=3, utility_calls=22),
        pool=FakePool(lambda old: Failed(reason="")),
        ask=lambda job, request, seed: Answer(texts=()),
        seed=0,
    )
    for fact in ("budget=7", "max_responses_per_call=3", "budget=22", "range(5)", "version"):
        assert fact.replace("version", "API v1") in meta.text
    account = Account(meta.budget)
    assert meta.job_on_improver(improver(0.1), improver(0.1), 1, account).utility_text == meta.text


def test_luck_follows_from_the_seed_and_the_place() -> None:
    assert derive_seed(1, "a", 2) == derive_seed(1, "a", 2)
    assert len({derive_seed(s, p, r) for s in (0, 1) for p in "ab" for r in (0, 1)}) == 8


def test_transfer_pairs_every_line_with_the_first(toy: Task) -> None:
    pool = FakePool(lambda old: Failed(reason=""))
    rows = transfer(
        [("weak", improver(0.2)), ("strong", improver(0.6))],
        meta_utility(pool, toy),
        references=(),
    )
    assert [row.name for row in rows] == ["weak", "strong"]
    assert rows[1].difference == pytest.approx(0.4)
    assert rows[1].difference_error == pytest.approx(0.0)


def test_a_trained_task_cannot_be_held_out(toy: Task) -> None:
    meta = meta_utility(FakePool(lambda old: Failed(reason="")), toy)
    with pytest.raises(UsageError, match="toy cannot be held out"):
        transfer([("seed", load_improver("seed"))], meta, trained_on=[toy])


def test_jobs_say_on_whose_behalf_they_are_and_what_can_be_scored_ahead(toy: Task) -> None:
    """Scores of a task can be; the meta-utility asks a language model and cannot."""
    pool = FakePool(lambda initial: Returned(source=initial.source))
    meta = meta_utility(pool, toy)
    one = improver(0.3)
    meta.measure(one)
    assert {job.share for job in pool.score_jobs} == {one.hash}
    for job in pool.improve_jobs:
        assert job.score_job is not None
        assert job.score_job(toy.initial).split == "val"
        assert job.score_job(toy.initial).share == one.hash
    assert meta.job_on_improver(one, one, 1, Account(Budget())).score_job is None
