"""Statistics of small samples, against published values and by simulation."""

import math
import random
from collections.abc import Callable
from fractions import Fraction
from itertools import product

import pytest

from selftaught import statistics

DIFFERENCES = [0.3, -0.1, 0.25, 0.4, 0.0, 0.15, 0.2]


def test_wilson_gives_the_published_intervals() -> None:
    """R. G. Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3."""
    for successes, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        found = statistics.wilson(successes, n)
        assert found.value == successes / n
        assert (round(found.low, 4), round(found.high, 4)) == (low, high)
    assert statistics.wilson(20, 20).high == 1.0


def test_student_t_has_the_tabulated_quantiles() -> None:
    for probability, freedom, value in (
        (0.975, 1, 12.7062),
        (0.975, 2, 4.3027),
        (0.975, 9, 2.2622),
        (0.975, 30, 2.0423),
        (0.8, 4, 0.9410),
        (0.995, 7, 3.4995),
    ):
        assert statistics.t_quantile(probability, freedom) == pytest.approx(value, abs=5e-5)
        assert statistics.t_quantile(1 - probability, freedom) == pytest.approx(-value, abs=5e-5)


def test_holm_by_hand() -> None:
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.5, 0.9]) == [1.0, 1.0]
    assert statistics.holm([]) == []


def test_sign_flips_are_all_counted() -> None:
    """Against all flips in exact fractions."""
    exact = [Fraction(d).limit_denominator(100) for d in DIFFERENCES]
    signs = list(product((1, -1), repeat=len(exact)))
    sums = [abs(sum(s * d for s, d in zip(row, exact, strict=True))) for row in signs]
    expected = sum(s >= abs(sum(exact)) for s in sums) / len(sums)
    assert statistics.sign_flip_p(DIFFERENCES) == expected
    assert statistics.sign_flip_p([0.1] * 10) == statistics.least_p(10) == 2 / 2**10
    assert statistics.sign_flip_p([0.0] * 5) == 1.0


def test_sampled_flips_agree_with_all_of_them() -> None:
    rng = random.Random(5)
    values = [rng.gauss(0.4, 1) for _ in range(16)]
    exact = statistics.sign_flip_p(values)
    # A zero changes no sum, but makes the list too long to count all flips.
    sampled = statistics.sign_flip_p([*values, 0.0])
    assert sampled == pytest.approx(exact, abs=4 * math.sqrt(exact / 10_000))
    assert sampled == statistics.sign_flip_p([*values, 0.0])


def test_the_p_value_is_uniform_under_the_null() -> None:
    rng = random.Random(2)
    p_values = [statistics.sign_flip_p([rng.gauss(0, 1) for _ in range(10)]) for _ in range(2000)]
    for level in (0.05, 0.25, 0.5, 0.75):
        share = sum(p <= level for p in p_values) / len(p_values)
        assert share == pytest.approx(level, abs=3.5 * math.sqrt(level * (1 - level) / 2000))


DRAW: dict[str, Callable[[random.Random], float]] = {
    "normal": lambda rng: rng.gauss(0, 1),
    "uniform": lambda rng: rng.random() - 0.5,
    "exponential": lambda rng: rng.expovariate(1) - 1,
}


def coverage(draw: Callable[[random.Random], float], n: int) -> float:
    rng = random.Random(n)
    held = 0
    for i in range(400):
        found = statistics.bca_mean([draw(rng) for _ in range(n)], resamples=500, seed=i)
        held += found.low <= 0 <= found.high
    return held / 400


@pytest.mark.parametrize(
    ("name", "n"), [("normal", 10), ("uniform", 10), ("normal", 20), ("exponential", 20)]
)
def test_bca_intervals_of_small_samples_cover(name: str, n: int) -> None:
    assert 0.91 <= coverage(DRAW[name], n) <= 0.98


def test_bca_intervals_of_ten_very_skewed_values_cover_a_little_less() -> None:
    """As the docstring says: ten values of a skewness of 2 tell too little of their tail."""
    assert 0.88 <= coverage(DRAW["exponential"], 10) <= 0.95


def test_bca_follows_skew_and_repeats() -> None:
    skewed = [0.0, 0.01, 0.02, 0.02, 0.03, 0.05, 0.1, 0.9]
    found = statistics.bca_mean(skewed)
    assert found == statistics.bca_mean(skewed)
    assert found.high - found.value > 2 * (found.value - found.low)
    assert min(skewed) <= found.low < found.value < found.high <= max(skewed)
    mirrored = statistics.bca_mean([-v for v in skewed])
    assert mirrored.low == pytest.approx(-found.high, abs=0.03)


def test_a_sample_without_spread_has_an_interval_without_width() -> None:
    for values in ([0.25] * 6, [0.25]):
        found = statistics.bca_mean(values)
        assert found.low == found.value == found.high == 0.25
    with pytest.raises(ValueError, match="no values"):
        statistics.bca_mean([])


def test_effect_size_is_mean_over_deviation() -> None:
    assert statistics.effect_size([1.0, 2.0, 3.0]) == 2.0
    assert statistics.effect_size([0.0, 0.0]) == 0.0
    assert statistics.effect_size([0.5, 0.5]) is None


def test_the_detectable_difference_is_found_eight_times_in_ten() -> None:
    rng = random.Random(11)
    n, n_trials = 10, 1000
    scale = math.sqrt((n - 1) / n)
    # A sample whose standard deviation is exactly 1.
    unit = [scale if i % 2 else -scale for i in range(n)]
    difference = statistics.detectable_difference(unit)
    assert difference == pytest.approx((2.26216 + 0.88340) / math.sqrt(n), abs=1e-4)
    found = sum(
        statistics.sign_flip_p([rng.gauss(difference, 1) for _ in range(n)]) <= 0.05
        for _ in range(n_trials)
    )
    assert 0.75 <= found / n_trials <= 0.87
    assert statistics.detectable_difference(unit, comparisons=7) > difference
    assert statistics.detectable_difference([0.5]) == 0.0


@pytest.mark.parametrize(
    ("counts", "interval"),
    [
        # Newcombe (1998), table II, method 10.
        ((56, 70, 48, 80), "0.2000 0.0524 0.3339"),
        ((9, 10, 3, 10), "0.6000 0.1705 0.8090"),
        ((5, 56, 0, 29), "0.0893 -0.0381 0.1926"),
        ((0, 10, 0, 10), "0.0000 -0.2775 0.2775"),
        ((10, 10, 0, 10), "1.0000 0.6075 1.0000"),
    ],
)
def test_differences_of_proportions_have_the_published_intervals(
    counts: tuple[int, int, int, int], interval: str
) -> None:
    found = statistics.share_difference(*counts)
    assert f"{found.value:.4f} {found.low:.4f} {found.high:.4f}" == interval
