"""The rule `significant`: noise does not pass, gains do, no instance decides twice, runs resume."""

import functools
import itertools
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from test_algorithm import FakePool, improver, meta_utility, stop
from test_runs import CountingModel, config, result_of

from selftaught import acceptance, sequential
from selftaught.acceptance import MOST_REPEATS, Trial, Trials, fewest_repeats, measurement
from selftaught.budget import Spent
from selftaught.compare import measurement as compared
from selftaught.errors import Interrupted, UsageError
from selftaught.events import CandidateTried, Improved, RoundEnded
from selftaught.history import read_history, spent_by_round
from selftaught.meta_utility import SEALED, TRANSFER, VALIDATION
from selftaught.pool import ImproveJob
from selftaught.runs.launch import resume, start
from selftaught.store import queries
from selftaught.store.sqlite import SQLiteStore
from selftaught.task import Task
from selftaught.utility import Failed, Outcome, Returned, TimedOut

RUNS = 400
CURRENT, CANDIDATE = improver(0.1), improver(0.2)


class NoisyPool(FakePool):
    """Improvers gain what they are told to, plus luck that follows from their job's key."""

    def __init__(self, luck: Callable[[random.Random], float], seed: int) -> None:
        super().__init__(lambda old: Failed(reason=""))
        self._luck, self._seed = luck, seed

    def improve(self, job: ImproveJob) -> Outcome:
        self.improve_jobs.append(job)
        gain = self._luck(random.Random(f"{self._seed}/{job.key}"))
        return Returned(source=f"worth {-5.0 + 5 * gain}")


def held(toy: Task, pool: FakePool, *, rounds: int = 1, most: int = 30) -> Trial:
    trials = Trials(meta_utility(pool, toy), rounds=rounds, most=most)
    decided = trials.is_better(1, CURRENT, CANDIDATE)
    assert decided == trials.held[1].accepted
    return trials.held[1]


@pytest.fixture
def in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No threads: thousands of fake jobs."""
    monkeypatch.setattr(acceptance, "run_all", lambda calls: [call() for call in calls])


@pytest.mark.parametrize(
    "luck",
    [
        lambda rng: rng.gauss(0.3, 0.2),
        lambda rng: -1.0 if rng.random() < 0.2 else 0.5,
        lambda rng: rng.choice((0.0, 0.0, 0.0, 0.4)),
    ],
    ids=["gaussian", "breaks at times", "mostly ties"],
)
def test_equals_replace_each_other_in_one_run_of_twenty_at_most(
    toy: Task, in_turn: None, luck: Callable[[random.Random], float]
) -> None:
    """Three rounds, each with a candidate that does the same: the guarantee is the run's."""
    replaced = 0
    for run in range(RUNS):
        trials = Trials(meta_utility(NoisyPool(luck, run), toy), rounds=3, most=30)
        candidates = [improver(0.2 + t / 10) for t in range(3)]
        replaced += any(trials.is_better(t + 1, CURRENT, one) for t, one in enumerate(candidates))
    assert replaced / RUNS <= 0.05 + 0.03


def test_a_clear_winner_takes_few_repeats_and_a_clear_loser_four(toy: Task) -> None:
    wins = FakePool(lambda old: Failed(reason=""))
    meta = meta_utility(wins, toy)
    trials = Trials(meta, rounds=3, most=30)
    assert trials.is_better(1, improver(0.1), improver(0.9))
    assert len(trials.held[1].differences) == fewest_repeats(3) == 7
    assert trials.held[1].differences == (sequential.CAP,) * 7
    assert not trials.is_better(2, improver(0.9), improver(0.1))
    assert (len(trials.held[2].differences), trials.held[2].stop) == (4, "futile")
    assert not trials.is_better(3, improver(0.5), improver(-1.0))
    assert trials.held[3].differences == (-sequential.CAP,) * 4


def test_the_words_of_a_decision_hold_its_numbers(toy: Task) -> None:
    trial = held(toy, FakePool(lambda old: Failed(reason="")), most=25)
    assert trial.stop == "better"
    assert trial.words == "better on fresh instances: +0.100 over 19 repeats, evidence 23.2 of 20"
    short = held(toy, FakePool(lambda old: Failed(reason="")), most=10)
    assert short.stop == "futile"
    assert "not shown to be better, and it would not be: +0.100 over 4" in short.words


def test_a_trial_that_is_never_decided_ends_with_its_repeats(toy: Task, in_turn: None) -> None:
    turns = itertools.cycle([0.0, 0.3, 0.0, 0.0])

    class Wavering(FakePool):
        def improve(self, job: ImproveJob) -> Outcome:
            gain = next(turns) if job.improver == CANDIDATE else 0.0
            return Returned(source=f"worth {-5.0 + 5 * gain}")

    trial = held(toy, Wavering(lambda old: Failed(reason="")), most=20, rounds=1)
    assert trial.stop in ("futile", "spent")
    assert not trial.accepted


def test_no_instance_decides_twice_and_none_is_used_elsewhere(toy: Task) -> None:
    used: dict[tuple[str, int], str] = {}

    def use(split: str, block: int, by: str) -> None:
        assert used.setdefault((split, block), by) == by

    rounds = [measurement(t) for t in range(1, 8)]
    others = [compared(number, 50) for number in range(40)]
    for one in (VALIDATION, SEALED, TRANSFER, *others, *rounds):
        repeats = 50 if one in others else MOST_REPEATS
        for repeat in range(repeats):
            use("val", one.inner_block + repeat, f"{one.name} inner")
            use(one.scored_on, one.outer_block + repeat, f"{one.name} outer")
    assert len({one.name for one in rounds}) == len(rounds)
    seeds = {toy.instance_seed(split, block) for split, block in used}
    assert len(seeds) == len(used)
    assert max(seeds) < 2**32


def test_a_trial_meets_fresh_instances_and_common_luck(toy: Task) -> None:
    pool = FakePool(lambda old: Failed(reason=""))
    trial = held(toy, pool)
    judged = {(job.split, job.repeat) for job in pool.score_jobs}
    assert judged == {("val", measurement(1).outer_block + r) for r in range(19)}
    assert len(trial.differences) == 19
    by_seed: dict[int, set[str]] = {}
    for job in pool.improve_jobs:
        by_seed.setdefault(job.seed, set()).add(job.improver.hash)
    assert set(map(len, by_seed.values())) == {2}
    assert len(by_seed) == 19


def test_rounds_of_the_algorithm_hold_trials(toy: Task) -> None:
    def stronger(old: object) -> Outcome:
        return Returned(source=improver(0.6).source)

    _, first, second = stop(toy, stronger, "significant", rounds=2)
    assert first.accepted
    assert first.trial is not None
    assert first.trial.words in first.reason
    assert not second.accepted
    assert second.trial is None
    assert second.reason == "the improver returned its input"


def test_worse_and_broken_candidates_are_kept_out(toy: Task) -> None:
    (_, worse) = stop(
        toy, lambda old: Returned(source=improver(0.05).source), "significant", rounds=1
    )
    assert not worse.accepted
    assert worse.trial is not None
    (_, broken) = stop(
        toy, lambda old: Returned(source=improver(-1.0).source), "significant", rounds=1
    )
    assert not broken.accepted
    assert broken.trial is None, "it failed on validation: no repeat is spent on it"


def test_too_few_repeats_to_show_anything_are_refused(toy_folder: Path, tmp_path: Path) -> None:
    for repeats in (fewest_repeats(2) - 1, 501):
        wrong = config(toy_folder, accept="significant", accept_repeats=repeats)
        with pytest.raises(UsageError, match=r"--accept-repeats must be 6 to 500"):
            start(wrong, str(tmp_path / "s.db"))


PLANTED = (
    "def improve_algorithm(initial_solution, utility, language_model):\n"
    "    if 'def improve' in initial_solution:\n"
    "        return GREEDY\n"
    "    return initial_solution\n"
)
GREEDY = (
    "from helpers import extract_code\n"
    "def improve_algorithm(initial_solution, utility, language_model):\n"
    "    if 'def improve' in initial_solution:\n"
    "        return initial_solution + '# again\\n'\n"
    "    ask = 'Improve this:\\n```python\\n' + initial_solution + '\\n```'\n"
    "    answers = extract_code(language_model.prompt('e', ask, n_responses=3))\n"
    "    return max([initial_solution, *answers], key=utility)\n"
)
SIGNIFICANT = functools.partial(
    config,
    accept="significant",
    improvers=(("planted", PLANTED.replace("GREEDY", repr(GREEDY))),),
    accept_repeats=40,
    sealed_repeats=1,
)


@pytest.fixture(scope="module")
def whole(toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[object, str]:
    store = str(tmp_path_factory.mktemp("accept") / "s.db")
    return start(SIGNIFICANT(toy_folder), store, model=CountingModel()), store


def recorded(store: str, *kinds: str) -> list[object]:
    with SQLiteStore.open(store, writable=False) as opened:
        return [event for _, _, event in opened.events(opened.resolve("latest"), kinds)]


def test_a_real_gain_passes_and_an_equal_does_not(whole: tuple[object, str]) -> None:
    run, store = whole
    _, first, second = run.rounds  # type: ignore[attr-defined]
    assert first.accepted
    assert first.trial.stop == "better"
    assert not second.accepted, "its candidate differs in a comment"
    assert second.trial.differences == (0.0,) * 4
    events = recorded(store, "candidate_tried")
    assert [(e.round, e.stop) for e in events] == [(1, "better"), (2, "futile")]  # type: ignore[attr-defined]
    assert isinstance(events[0], CandidateTried)
    assert events[0].differences == first.trial.differences
    assert events[0].candidate == first.improver.hash


def test_what_a_trial_cost_stands_beside_what_the_search_cost(whole: tuple[object, str]) -> None:
    run, store = whole
    with SQLiteStore.open(store, writable=False) as opened:
        history = read_history(opened, "latest")
    jobs = [e for e in recorded(store, "improved") if isinstance(e, Improved)]

    def total(*phases: str) -> Spent:
        some = [e for e in jobs if e.job.partition("/")[0] in phases]
        return Spent(
            calls=sum(e.calls for e in some),
            responses=sum(e.responses for e in some),
            utility_calls=sum(e.utility_calls for e in some if not e.job.startswith("round/")),
        )

    trials = sum((one.trial.spent for one in run.rounds[1:]), Spent())  # type: ignore[attr-defined]
    assert trials == total("accept-1", "accept-2")
    assert trials.calls > 0
    searches = sum((view.search for view in history.rounds), Spent())
    assert searches == total("round", "validation")
    assert {view.number: view.search for view in history.rounds} == run.searches  # type: ignore[attr-defined]
    assert history.rounds[1].trial is not None
    assert history.rounds[1].trial.calls == run.rounds[1].trial.spent.calls  # type: ignore[attr-defined]


def test_the_search_of_a_round_ends_with_it(tmp_path: Path) -> None:
    def improved(job: str, calls: int) -> Improved:
        return Improved(
            job=job, improver="i", initial="s", target="t",
            outcome=TimedOut(reason=""), calls=calls, utility_calls=2,
        )  # fmt: skip

    def ended(number: int) -> RoundEnded:
        return RoundEnded(round=number, candidate=None, improver="i", accepted=False, reason="")

    with SQLiteStore.open(tmp_path / "s.db", writable=True) as store:
        run = store.new_run({}, "run")
        for event in (
            improved("validation/a/t/0", 1), improved("sealed/a/t/0", 9), ended(0),
            improved("round/1", 4), improved("validation/b/t/0", 2), improved("round/1", 4),
            improved("accept-1/b/t/0", 50), ended(1), ended(1),
            improved("transfer/b/t/0", 7), ended(2),
        ):  # fmt: skip
            store.append(run, event)
        found = spent_by_round(queries.rounds(store, run), queries.applications(store, run))
    assert found == {
        0: Spent(calls=1, utility_calls=2),
        1: Spent(calls=6, utility_calls=2),
        2: Spent(),
    }


@pytest.mark.parametrize("stop_after", [4, 20])
def test_a_trial_that_is_stopped_comes_to_the_same_decision(
    whole: tuple[object, str], toy_folder: Path, tmp_path: Path, stop_after: int
) -> None:
    expected, _ = whole
    halt, store = threading.Event(), str(tmp_path / "s.db")
    before = CountingModel(stop_after, halt)
    with pytest.raises(Interrupted):
        start(SIGNIFICANT(toy_folder), store, model=before, stop=halt)
    after = CountingModel()
    resumed = resume("latest", store, model=after)
    assert result_of(resumed) == result_of(expected)  # type: ignore[arg-type]
    assert [r.trial for r in resumed.rounds] == [r.trial for r in expected.rounds]  # type: ignore[attr-defined]
    assert resumed.searches == expected.searches  # type: ignore[attr-defined]
    asked = [key.partition("/")[2] for key in [*before.keys, *after.keys]]
    assert after.keys
    assert len(set(asked)) == len(asked)
    assert len(recorded(store, "candidate_tried")) == 2


def test_show_tells_of_trials(
    whole: tuple[object, str], capsys: pytest.CaptureFixture[str]
) -> None:
    from selftaught.cli import screen, trials

    with SQLiteStore.open(whole[1], writable=False) as opened:
        history = read_history(opened, "latest")
    lines = trials.of_history(history)
    assert lines == trials.of_run(whole[0])  # type: ignore[arg-type]
    screen.out.print(trials.trials_table(lines))
    told = capsys.readouterr().out
    assert "better" in told
    assert f"{lines[0].search.calls} + {lines[0].trial.calls}" in told
