"""The benches on planted improvers and scripted models, smaller: their findings hold by seed."""

import functools
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from selftaught import statistics
from selftaught.testing.strengths import MIDDLING, STRONG, WEAK

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "how-to" / "compare-improvers.md"
TRIALS = 100


def bench(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "bench" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


second_order = bench("second_order")
three_strengths = bench("three_strengths")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals of fewer resamples: these tests look at verdicts."""
    few = functools.partial(statistics.bca_mean, resamples=20)
    monkeypatch.setattr(statistics, "bca_mean", few)


@pytest.mark.parametrize("luck", second_order.LUCK)
def test_equals_with_any_luck_are_not_told_apart(quick: None, luck: str) -> None:
    """At least 93 of 100 comparisons, of 300, say nothing of any of three that do the same."""
    share = second_order.told_apart(second_order.LUCK[luck], 3, 10, 3 * TRIALS, 1)
    assert share <= 0.07


def test_another_shape_with_the_same_mean_may_be_told_apart_as_the_page_says(quick: None) -> None:
    breaks, steady = second_order.LUCK["breaks at times"], second_order.STEADY
    found = second_order.told_apart(breaks, 1, 12, 3 * TRIALS, 1, of_base=steady)
    (stated,) = re.findall(r"(\d+) % with 12 and", PAGE.read_text("utf-8"))
    assert found == pytest.approx(int(stated) / 100, abs=0.08)


@pytest.mark.parametrize(
    ("others", "d_z", "seeds", "column"), [(1, 1.5, 8, 2), (7, 2.0, 10, 5), (7, 1.5, 12, 4)]
)
def test_a_better_one_is_found_as_often_as_the_page_says(
    quick: None, others: int, d_z: float, seeds: int, column: int
) -> None:
    (row,) = re.findall(rf"^\| {seeds} \|(.*)\|$", PAGE.read_text("utf-8"), re.MULTILINE)
    stated = int(row.split("|")[column - 1].strip(" %"))
    found = second_order.found_better(d_z, others, seeds, TRIALS, 1)
    assert found == pytest.approx(stated / 100, abs=0.12)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_planted_improvers_through_the_sandbox(seed: int) -> None:
    """Twins that word their prompts differently have other luck and no difference to be found."""
    found = second_order.stack(seed)
    base, twin, more = found.standings
    assert base.improver != twin.improver
    assert base.by_seed != twin.by_seed, "other words, other luck"
    verdicts = {one.name: one.verdict for one in found.differences}
    assert verdicts == {"twin": "none", "more": "better"}
    assert more.mean.low > base.mean.high


@pytest.mark.slow
def test_a_strong_model_makes_its_improver_better_under_either_rule() -> None:
    for rule in ("always", "significant"):
        cell = three_strengths.cell(STRONG, rule, range(2), rounds=1)
        assert min(cell.changes) > 0.1
        assert cell.fell == 0


@pytest.mark.slow
def test_a_weak_model_makes_its_improver_worse_unless_it_must_be_shown_to_be_better() -> None:
    seeds = range(3)
    always = three_strengths.cell(WEAK, "always", seeds, rounds=4)
    assert always.change.value < -0.1
    assert always.fell >= 2
    guarded = three_strengths.cell(WEAK, "significant", seeds, rounds=4)
    assert guarded.changes == (0.0, 0.0, 0.0)
    assert guarded.accepted == 0
    assert guarded.by_round[0] == always.by_round[0]


def test_the_strengths_are_in_order() -> None:
    assert STRONG.slips < MIDDLING.slips < WEAK.slips
    assert STRONG.recalls > MIDDLING.recalls > WEAK.recalls
