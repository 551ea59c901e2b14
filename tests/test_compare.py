"""The second-order test: planted improvers are told apart, equal ones are not, runs resume."""

import functools
import random
import re
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from test_runs import SMALL, CountingModel

from selftaught import anytime, statistics
from selftaught.anytime import Activity, activities, area, curve, improved_by
from selftaught.budget import RunLimits
from selftaught.compare import (
    REFERENCES,
    Comparison,
    Seed,
    differences,
    judge,
    measurement,
    seeds_needed,
)
from selftaught.errors import Interrupted, SelftaughtError, UsageError
from selftaught.events import Attempted, BudgetRefused, Requested
from selftaught.improver import load_improver
from selftaught.language_model import Answer, Request, Usage
from selftaught.meta_utility import Item, Measured
from selftaught.runs.config import RunConfig
from selftaught.runs.launch import resume, start
from selftaught.runs.references import load_field
from selftaught.runs.result import Run
from selftaught.solution import Solution
from selftaught.task import Task
from selftaught.utility import Scored, TimedOut

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "compare-improvers.md"
HEAD = "def improve_algorithm(initial_solution, utility, language_model):\n    "
TRIALS = 100


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals of fewer resamples: these tests look at verdicts."""
    few = functools.partial(statistics.bca_mean, resamples=50)
    monkeypatch.setattr(statistics, "bca_mean", few)


def improver(name: str) -> tuple[str, Solution]:
    return name, Solution(f"# {name}\n{HEAD}return ''\n", "improve_algorithm")


def planted(
    task: Task, rng: random.Random, gains: Mapping[str, float], seeds: int, repeats: int = 2
) -> Comparison:
    """Judge a fake measurement: each gain plus common and individual luck."""
    named = [improver(name) for name in gains]
    measured = []
    for number in range(seeds):
        common = rng.gauss(0, 1)
        by_hash = {
            program.hash: Measured(
                improver=program.hash,
                outcome=Scored(value=0.0),
                items=tuple(
                    Item(
                        task=task.name,
                        repeat=repeat,
                        outcome=Scored(value=0.0),
                        normalised=gains[name] + common + rng.gauss(0, 0.2),
                    )
                    for repeat in range(repeats)
                ),
            )
            for name, program in named
        }
        initial = {(task.name, repeat): -4.0 for repeat in range(repeats)}
        measured.append(Seed(number=number, measured=by_hash, initial=initial))
    return judge(named, measured, {}, tasks=[task], repeats=repeats, budget=SMALL)


def test_equal_improvers_are_not_told_apart(toy: Task, quick: None) -> None:
    """Three that do the same with independent luck: nothing is found in 93 of 100 trials."""
    rng = random.Random(3)
    quiet = sum(
        {one.verdict for one in planted(toy, rng, dict.fromkeys("abc", 0.3), 10).differences}
        == {"none"}
        for _ in range(TRIALS)
    )
    assert quiet >= 93


def test_a_better_improver_is_found_as_often_as_the_page_says(toy: Task, quick: None) -> None:
    """The page: d_z = 1.5, ten seeds, seven comparisons; worse is found as well as better."""
    rng = random.Random(4)
    # Two repeats of luck 0.2 on either side make differences with a deviation of 0.2.
    gains = {"same": 0.0, **{f"equal_{i}": 0.0 for i in range(5)}, "more": 0.3, "less": -0.3}
    verdicts = []
    for _ in range(TRIALS):
        found = {one.name: one.verdict for one in planted(toy, rng, gains, 10).differences}
        verdicts.append((found["more"], found["less"]))
    assert set(verdicts) <= {(a, b) for a in ("better", "none") for b in ("worse", "none")}
    (stated,) = re.findall(r"^\| 10 \|.*\| (\d+) % \| \d+ % \|$", PAGE.read_text(), re.MULTILINE)
    for place, verdict in enumerate(("better", "worse")):
        share = sum(one[place] == verdict for one in verdicts) / TRIALS
        assert share == pytest.approx(int(stated) / 100, abs=0.12)


def test_one_text_under_two_names_differs_by_nothing(toy: Task, toy_folder: Path) -> None:
    _, program = improver("x")
    items = (Item(task="toy", repeat=0, outcome=Scored(value=0.0), normalised=0.1),)
    one = Measured(improver=program.hash, outcome=Scored(value=0.1), items=items)
    seeds = [
        Seed(number=n, measured={program.hash: one}, initial={("toy", 0): 0.0}) for n in range(8)
    ]
    found = judge([("a", program), ("b", program)], seeds, {}, tasks=[toy], repeats=1, budget=SMALL)
    (difference,) = found.differences
    assert difference.verdict == "none"
    assert difference.p == 1.0
    assert difference.ties == 8
    assert "equally well on every one" in difference.sentence


def test_the_numbers_of_a_difference_by_hand() -> None:
    values = {"base": [0.0, 0.1, 0.2, 0.3], "x": [0.2, 0.1, 0.6, 0.1], "y": [1.0, 1.1, 1.2, 1.3]}
    areas = {"base": [0.0] * 4, "x": [0.1, 0.1, 0.1, 0.1], "y": [0.1, -0.1, 0.1, -0.1]}
    x, y = differences(values, areas, "base")
    assert x.by_seed == pytest.approx((0.2, 0.0, 0.4, -0.2))
    assert x.mean.value == pytest.approx(0.1)
    assert (x.wins, x.ties, x.losses) == (2, 1, 1)
    assert x.win_rate.value == 2.5 / 4
    assert x.p == 12 / 16
    assert y.p == 2 / 16
    assert (y.p_holm, x.p_holm) == (4 / 16, 12 / 16)
    assert (x.area.value, x.area_p, x.area_p_holm) == (pytest.approx(0.1), 2 / 16, 4 / 16)
    assert (y.area.value, y.area_p) == (0.0, 1.0)
    assert y.area.low < 0 < y.area.high
    assert y.verdict == "none"
    assert seeds_needed(2) == 7
    assert "it takes 7" in y.sentence
    six = {"base": [0.0] * 6, "z": [0.1, 0.2, 0.3, 0.1, 0.2, 0.3]}
    (seven,) = differences(six, six, "base")
    assert seven.verdict == "better"
    assert seven.sentence.startswith("z is better than base by 0.200 (95 % of the difference +0.")
    assert seven.sentence.endswith("p_Holm = 0.031).")


def test_seeds_share_no_block_with_each_other_or_with_a_run() -> None:
    from selftaught.meta_utility import SEALED, TRANSFER, VALIDATION

    blocks = [measurement(n, 3).inner_block + r for n in range(20) for r in range(3)]
    assert len(set(blocks)) == 60
    for other in (VALIDATION, SEALED, TRANSFER):
        assert max(other.inner_block, other.outer_block) + 900 < min(blocks)
    assert len({measurement(n, 3).name for n in range(20)}) == 20


def requested(job: str, call: int, value: float, calls: int, outcome: str = "scored") -> Requested:
    return Requested(
        job=job, call=call, solution="s", outcome=outcome, value=value, calls=calls, responses=0
    )


def test_a_curve_is_the_best_so_far_and_failures_do_not_count(toy: Task) -> None:
    asked = [
        requested("j", 1, -2.0, 1),
        requested("j", 2, -10.0, 1, "failed"),
        requested("j", 3, -3.0, 2),
        requested("j", 4, -1.0, 2),
    ]
    found = curve(asked, toy, -4.0, scores=5, calls=3)
    assert found.by_score == (0.0, 0.5, 0.5, 0.5, 0.75, 0.75)
    assert found.by_call == (0.0, 0.5, 0.75, 0.75)
    assert area(found.by_score) == pytest.approx(0.6)
    none = curve([], toy, -4.0, 5, 3)
    worse = curve([requested("j", 3, -5.0, 1)], toy, -4.0, 5, 3)
    late = curve([requested("j", 3, -3.9, 1)], toy, -4.0, 5, 3)
    assert improved_by([found, none, worse, late]) == {1: 0.25, 2: 0.25, 4: 0.5}
    assert anytime.average([found, curve([], toy, -4.0, 5, 3)]).by_call == (0, 0.25, 0.375, 0.375)


def test_a_job_that_ran_twice_is_counted_once() -> None:
    refused = BudgetRefused(job="j", limit="calls", times=3)
    tried = [Attempted(job="j", what="open", detail=path) for path in ("a", "b", "a")]
    found = activities([refused, *tried, refused, requested("j", 1, 0.0, 1)])
    assert found == {
        "j": Activity(
            requests=(requested("j", 1, 0.0, 1),), refusals={"calls": 3}, attempts={"open": 2}
        )
    }


def test_places_that_were_not_run_count_as_failures(toy: Task) -> None:
    (_, good), (_, bad) = improver("good"), improver("bad")
    late = TimedOut(reason="slow")
    seeds = [
        Seed(
            number=n,
            measured={
                good.hash: Measured(
                    improver=good.hash,
                    outcome=Scored(value=0.5),
                    items=tuple(
                        Item(task="toy", repeat=r, outcome=Scored(value=-2.0), normalised=0.5)
                        for r in range(3)
                    ),
                ),
                bad.hash: Measured(
                    improver=bad.hash,
                    outcome=late,
                    items=tuple(
                        Item(task="toy", repeat=r, outcome=late, normalised=-1.0) for r in range(2)
                    ),
                ),
            },
            initial={("toy", r): -4.0 for r in range(3)},
        )
        for n in range(2)
    ]
    named = [("good", good), ("bad", bad)]
    found = judge(named, seeds, {}, tasks=[toy], repeats=3, budget=SMALL)
    assert found.standings[1].failures == {"timed_out": 4, "not_run": 2}
    assert found.standings[1].by_seed == (-1.0, -1.0)
    assert found.standings[1].by_task == {"toy": -1.0}
    assert found.standings[0].mean.value == 0.5
    with pytest.raises(UsageError, match="is not among: good, bad"):
        judge(named, seeds, {}, tasks=[toy], repeats=3, budget=SMALL, baseline="ugly")


PROGRAMS = {
    "asks": HEAD + "return max([initial_solution] * 12, key=utility)\n",
    "breaks": HEAD + "return 1 / 0\n",
    "resets": HEAD + "utility.budget = 99; return initial_solution\n",
    "plus_seven": HEAD + "return 'def algorithm(x):\\n    return x + 7\\n'\n",
}


def config(folder: Path, **changes: object) -> RunConfig:
    shipped = [(name, load_improver(name).source) for name in ("greedy", "identity")]
    settings: dict[str, object] = {
        "command": "compare",
        "tasks": (),
        "held_out": (str(folder),),
        "improvers": (*shipped, *PROGRAMS.items(), ("again", shipped[1][1])),
        "seeds": 3,
        "repeats": 2,
        "sealed_repeats": 2,
        "seed": 3,
        "budget": SMALL,
        "slots": 2,
    }
    return RunConfig(**{**settings, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def whole(toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, str]:
    store = str(tmp_path_factory.mktemp("compare") / "s.db")
    return start(config(toy_folder), store, model=CountingModel()), store


def comparison_of(run: Run) -> Comparison:
    assert run.comparison is not None
    return run.comparison


def test_a_comparison_through_the_real_sandbox(whole: tuple[Run, str]) -> None:
    found = comparison_of(whole[0])
    standings = {one.name: one for one in found.standings}
    assert found.seeds == 3
    assert found.baseline == "greedy"
    assert all(len(one.places) == 6 for one in found.standings)
    assert standings["plus_seven"].by_seed == (1.0, 1.0, 1.0)
    assert standings["identity"].by_seed == (0.0, 0.0, 0.0)
    assert standings["identity"].unchanged == 6
    assert standings["breaks"].failures == {"failed": 6}
    assert standings["breaks"].mean.value == -1.0
    assert standings["resets"].attempts == {"budget": 6}
    assert standings["asks"].refusals == {"utility_calls": 6 * (12 - 7)}
    assert standings["asks"].curve.by_score == (0.0,) * 8
    greedy = standings["greedy"]
    assert greedy.curve.by_score[0] == 0.0 < greedy.area_by_score.value
    assert list(greedy.improved_by) == [1, 2, 4]
    assert sorted(greedy.improved_by.values()) == list(greedy.improved_by.values())
    assert set(standings["identity"].improved_by.values()) == {0.0}
    assert len({place.normalised for place in greedy.places}) > 1
    (again,) = [one for one in found.differences if one.name == "again"]
    (identity,) = [one for one in found.differences if one.name == "identity"]
    assert identity.area.value == pytest.approx(-greedy.area_by_score.value)
    assert again.by_seed == identity.by_seed
    assert "so few cannot show any" in again.sentence


def places_of(found: Comparison) -> list[object]:
    """Every raw number; of the curve by scores its end, since scores of one batch race."""
    places = [msgspec.to_builtins(place) for one in found.standings for place in one.places]
    for place in places:
        place["curve"]["by_score"] = place["curve"]["by_score"][-1]
    return places


@pytest.mark.parametrize("stop_after", [2, 9])
def test_a_stopped_comparison_resumes_to_the_same_result(
    whole: tuple[Run, str], toy_folder: Path, tmp_path: Path, stop_after: int
) -> None:
    stop, store = threading.Event(), str(tmp_path / "s.db")
    before = CountingModel(stop_after, stop)
    with pytest.raises(Interrupted):
        start(config(toy_folder), store, model=before, stop=stop)
    after = CountingModel()
    resumed = resume("latest", store, model=after)
    expected, found = comparison_of(whole[0]), comparison_of(resumed)
    assert found.differences == expected.differences
    assert places_of(found) == places_of(expected)
    asked = [key.partition("/")[2] for key in [*before.keys, *after.keys]]
    assert after.keys
    assert len(set(asked)) == len(asked)
    silent = CountingModel()
    again = comparison_of(resume("latest", store, model=silent))
    assert again == found
    assert silent.keys == []


def test_the_queries_of_the_page_recompute_the_table(whole: tuple[Run, str]) -> None:
    run, store = whole
    found = comparison_of(run)
    means, paired, curves, failures, violations = re.findall(
        r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL
    )
    database = sqlite3.connect(f"file:{store}?mode=ro", uri=True)

    def rows(query: str, **more: str) -> list[tuple[object, ...]]:
        return database.execute(query, {"run": run.id, **more}).fetchall()

    assert rows(means) == [(one.name, pytest.approx(one.mean.value), 3) for one in found.standings]
    assert rows(paired, baseline="greedy") == [
        (one.name, seed, pytest.approx(value))
        for one in found.differences
        for seed, value in enumerate(one.by_seed)
    ]
    task = Task.load(run.config.held_out[0])
    best: dict[tuple[object, ...], float] = {}
    for name, seed, repeat, call, value, initial in rows(curves):
        assert isinstance(value, float)
        assert isinstance(initial, float)
        best[name, seed, repeat, call] = max(0.0, task.normalise(value, initial))
    for one in found.standings:
        for place in one.places:
            for call, height in enumerate(place.curve.by_score):
                asked = best.get((one.name, place.seed, place.repeat, call))
                assert asked is None or asked == pytest.approx(height)
    assert len({key[0] for key in best}) >= 2
    assert dict(rows(failures)) == {"breaks": 6}
    assert rows(violations) == [("asks", 30, 0), ("resets", 0, 6)]
    database.close()


class MeteredModel(CountingModel):
    """Every answer costs one token."""

    def respond(self, request: Request, *, seed: int, occurrence: int, key: str) -> Answer:
        answer = super().respond(request, seed=seed, occurrence=occurrence, key=key)
        return msgspec.structs.replace(answer, usage=Usage(prompt_tokens=1))


def test_a_limit_of_the_run_leaves_whole_seeds(toy_folder: Path, tmp_path: Path) -> None:
    """Only greedy asks: two calls on each of two places, so nine tokens end in the third seed."""
    limited = config(toy_folder, seeds=50, limits=RunLimits(tokens=9))
    run = start(limited, str(tmp_path / "s.db"), model=MeteredModel())
    found = comparison_of(run)
    assert run.status == "budget"
    assert found.seeds == 2
    assert {len(one.by_seed) for one in found.standings} == {2}
    early = config(toy_folder, seeds=50, limits=RunLimits(tokens=3))
    assert start(early, str(tmp_path / "s.db"), model=MeteredModel()).comparison is None


def test_improvers_of_a_recorded_run(toy_folder: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "s.db")
    settings: dict[str, object] = {
        "command": "run",
        "tasks": (str(toy_folder),),
        "held_out": (),
        "improvers": (("seed", load_improver("seed").source),),
        "meta_budget": SMALL,
        "rounds": 1,
    }
    run = start(config(toy_folder, **settings), store)
    field = load_field(["latest:1", "seed"], ["seed", "iid"], "latest:1", store)
    names = [name for name, _ in field.improvers]
    assert names == [f"{run.id}:1", "seed", "iid"]
    assert field.improvers[0][1] == run.best.source
    assert field.baseline == names[0]
    assert field.trained_on == run.config.tasks
    refused = config(toy_folder, improvers=field.improvers, tasks=field.trained_on)
    with pytest.raises(UsageError, match="toy cannot be held out"):
        start(refused, store)
    compared = start(
        config(toy_folder, improvers=field.improvers, tasks=field.trained_on, seeds=2,
               held_out=("str_grid_dist",), repeats=1, sealed_repeats=1),
        store,
    )  # fmt: skip
    assert comparison_of(compared).seeds == 2
    assert load_field(["latest:1"], [], None, store).improvers[0][0] == names[0]
    with pytest.raises(SelftaughtError, match="rounds 0 to 1, not 5"):
        load_field(["latest:5"], [], None, store)
    with pytest.raises(SelftaughtError, match="There is no store"):
        load_field(["latest:1"], [], None, str(tmp_path / "none.db"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 1}, "--seeds must be at least 2, not 1"),
        ({"baseline": "nobody"}, "--baseline 'nobody' is not among: greedy"),
        ({"improvers": (("a", "x"),)}, "at least two improvers"),
        ({"improvers": (("a", "x"), ("a", "y"))}, "An improver is named twice"),
        ({"held_out": ("tsp", "tsp")}, "A task is named twice"),
        ({"held_out": (), "tasks": ("tsp",)}, "--tasks must name at least one"),
    ],
)
def test_a_comparison_that_cannot_be_meant(
    toy_folder: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        start(config(toy_folder, **changes), str(tmp_path / "s.db"))


def test_the_references_are_shipped() -> None:
    assert len({load_improver(name).hash for name in REFERENCES}) == len(REFERENCES) == 6
