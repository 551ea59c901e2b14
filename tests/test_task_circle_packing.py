"""The circle packing task: an exact verifier, instances by seed, an initial program that scores."""

import importlib
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from selftaught.pool import ScoreJob
from selftaught.pools.local import LocalPool
from selftaught.solution import Solution
from selftaught.task import Task
from selftaught.utility import InvalidAnswer, InvalidValue, Scored

packing = importlib.import_module("selftaught.tasks.circle_packing.utility")

# Four circles of radius 1/4 that touch each other and the sides; all numbers are exact floats.
GRID = [(x, y, 0.25) for x in (0.25, 0.75) for y in (0.25, 0.75)]


def total(circles: Any, n: int = 4, width: float = 1.0, height: float = 1.0) -> float:
    value: float = packing.sum_of_radii(circles, n, width, height)
    return value


def refusal(circles: Any, n: int = 4) -> str:
    with pytest.raises(InvalidAnswer) as caught:
        total(circles, n)
    return str(caught.value)


@pytest.mark.parametrize(
    "circles", [GRID, tuple(GRID), [list(c) for c in GRID], np.array(GRID)], ids=repr
)
def test_a_grid_of_touching_circles_is_valid_and_sums_exactly(circles: Any) -> None:
    assert total(circles) == 1.0


def test_a_grid_of_64_circles_sums_to_half_its_side() -> None:
    grid = [((2 * i + 1) / 16, (2 * j + 1) / 16, 1 / 16) for i in range(8) for j in range(8)]
    assert total(grid, 64) == 4.0


def test_whole_numbers_and_numpy_numbers_are_numbers() -> None:
    assert total([(1, np.int64(1), np.float64(0.5)), (2, 1, np.float32(0.5))], 2, 3.0, 2.0) == 1.0


def test_a_radius_of_zero_is_valid() -> None:
    assert total([(0.5, 0.5, 0.5), (0.0, 0.0, 0.0)], 2) == 0.5


@pytest.mark.parametrize("excess", [1e-3, 1e-12, 2.0**-54])
def test_an_overlap_however_small_is_refused(excess: float) -> None:
    left, right = (0.25, 0.5, 0.25), (0.625, 0.5, 0.125)
    assert total([left, right], 2) == 0.375
    assert "overlap" in refusal([left, (0.625, 0.5, 0.125 + excess)], 2)


@pytest.mark.parametrize("side", range(4))
@pytest.mark.parametrize("excess", [1e-3, 1e-12, 2.0**-53])
def test_a_circle_that_leaves_the_rectangle_is_refused(side: int, excess: float) -> None:
    centre = [(0.25, 0.5), (0.75, 0.5), (0.5, 0.25), (0.5, 0.75)][side]
    assert total([(*centre, 0.25)], 1) == 0.25
    assert "leaves" in refusal([(*centre, 0.25 + excess)], 1)


def test_an_overlap_that_float_arithmetic_cannot_see_is_refused() -> None:
    tiny = 2.0**-60
    circles = [(tiny, 0.5, tiny), (0.25, 0.5, 0.25)]
    # Both differ from 0.25 by 2^-60, and both are rounded to it.
    assert 0.25 - tiny == 0.25 + tiny
    assert Fraction(0.25) - Fraction(tiny) < Fraction(0.25) + Fraction(tiny)
    assert "overlap" in refusal(circles, 2)
    assert total([(tiny, 0.75, tiny), circles[1]], 2) == 0.25


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 10**400, np.float64("nan")])
@pytest.mark.parametrize("place", range(3))
def test_a_number_that_is_not_finite_is_refused(place: int, bad: float) -> None:
    circle: list[float] = [0.5, 0.5, 0.25]
    circle[place] = bad
    assert "finite" in refusal([circle], 1)


@pytest.mark.parametrize("bad", [True, None, "0.5", 0.5 + 0j, [0.5], Fraction(1, 2)], ids=repr)
def test_an_entry_of_another_type_is_refused(bad: Any) -> None:
    assert "real number" in refusal([(0.5, 0.5, bad)], 1)


@pytest.mark.parametrize(
    "bad", [GRID[:3], [*GRID, GRID[0]], [], None, 1.0, "four", {0: GRID}, [0.25] * 4, [(0, 0)] * 4]
)
def test_another_number_or_shape_of_circles_is_refused(bad: Any) -> None:
    assert refusal(bad)


@pytest.mark.parametrize("shape", [(3, 4), (4, 2), (1, 4, 3), (12,), (1, 3)])
def test_an_array_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    assert "shape" in refusal(np.zeros(shape))


def test_a_negative_radius_is_refused() -> None:
    assert "below 0" in refusal([(0.5, 0.5, -(2.0**-60))], 1)


def test_growing_every_radius_of_a_packing_by_a_usual_tolerance_is_refused() -> None:
    assert refusal([(x, y, r + 4.99e-7) for x, y, r in GRID])


@pytest.mark.parametrize("split", ["val", "test"])
def test_an_instance_follows_from_its_seed_and_holds_area_one(split: str) -> None:
    drawn = [packing.instance(split, seed) for seed in range(4321, 4361)]
    assert drawn == [packing.instance(split, seed) for seed in range(4321, 4361)]
    assert {n for n, _ in drawn} == set(packing.CIRCLES[split])
    assert len({aspect for _, aspect in drawn}) > 5
    for _, aspect in drawn:
        width, height = packing.sides(aspect)
        assert 0.6 <= height / width <= 1.0
        assert width * height == pytest.approx(1.0, abs=1e-15)


def test_no_number_of_circles_is_in_both_splits() -> None:
    assert not set(packing.CIRCLES["val"]) & set(packing.CIRCLES["test"])


def test_parameters_fix_the_number_and_the_square_of_the_benchmark() -> None:
    assert packing.instance("val", 7, 26, 1.0) == (26, 1.0)
    assert packing.sides(1.0) == (1.0, 1.0)
    assert packing.reference(26, 1.0) == 2.6359830849
    assert packing.reference(32, 1.0) == 2.9395727712


def test_every_instance_drawn_has_a_reference_below_the_bound_by_area() -> None:
    for n in (*packing.CIRCLES["val"], *packing.CIRCLES["test"]):
        assert len(packing.FOUND[n]) == len(packing.ASPECTS)
        for aspect in packing.ASPECTS:
            # Areas add up to at most 1, so radii to at most sqrt(n / pi), by Cauchy-Schwarz.
            assert 0.48 * math.sqrt(n) < packing.reference(n, aspect) < math.sqrt(n / math.pi)


def test_other_numbers_and_shapes_are_scored_against_an_estimate() -> None:
    assert packing.reference(50, 1.0) == pytest.approx(0.52 * math.sqrt(50))
    assert packing.reference(26, 0.5) == pytest.approx(0.52 * math.sqrt(26))


def test_the_initial_program_scores_the_same_twice_and_has_headroom(pool: LocalPool) -> None:
    task = Task.load("circle_packing")
    for split in ("val", "test"):
        job = ScoreJob(task=task, solution=task.initial, split=split)
        first = pool.score(job)
        assert isinstance(first, Scored)
        assert first == pool.score(job)
        assert first.failures == {}
        assert 0.2 < first.value < 0.6


def test_the_initial_program_solves_the_benchmark_instance_validly(pool: LocalPool) -> None:
    task = Task.load("circle_packing?circles=26&aspect=1.0")
    outcome = pool.score(ScoreJob(task=task, solution=task.initial, split="val"))
    assert isinstance(outcome, Scored)
    assert len(set(outcome.values)) == 1
    assert 0.2 < outcome.value < 0.7


def test_a_grid_of_equal_circles_beats_the_initial_program(pool: LocalPool) -> None:
    grid = """
import math

def algorithm(n, width, height):
    across = max(1, math.ceil(math.sqrt(n * width / height)))
    down = -(-n // across)
    a, b = width / across, height / down
    r = min(a, b) / 2 * (1 - 1e-12)
    return [((i % across + 0.5) * a, (i // across + 0.5) * b, r) for i in range(n)]
"""
    task = Task.load("circle_packing")
    outcome = pool.score(ScoreJob(task=task, solution=Solution(grid), split="val"))
    assert isinstance(outcome, Scored)
    assert 0.7 < outcome.value < 1.0


def test_overlapping_circles_are_an_invalid_value_and_not_a_low_score(pool: LocalPool) -> None:
    source = "def algorithm(n, width, height):\n    return [(0.5, 0.5, 0.1)] * n\n"
    task = Task.load("circle_packing")
    outcome = pool.score(ScoreJob(task=task, solution=Solution(source), split="val"))
    assert isinstance(outcome, InvalidValue)
    assert "overlap" in outcome.reason


def test_the_model_is_told_the_call_the_margin_and_the_limit() -> None:
    task = Task.load("circle_packing")
    for words in ("algorithm(n, width, height)", "no tolerance", f"{task.file.limits.work:,}"):
        assert words in task.utility_text
    assert "{" not in task.utility_text
