"""The sequential test holds its error rate over the whole path, and its power is what is stated."""

import itertools
import math
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from selftaught import sequential
from selftaught.sequential import CAP, Stop, capped, evidence, fewest, stop

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "algorithm.md"
TESTS = 2_000
MOST = 30
ALPHA = 0.05

Draw = Callable[[random.Random], float]

# The mean of what the test sees, the capped difference, is 0 or below in each.
NULLS: dict[str, Draw] = {
    "symmetric": lambda rng: rng.gauss(0, 0.2),
    "heavy-tailed": lambda rng: 0.1 * rng.gauss(0, 1) / math.sqrt(rng.gammavariate(0.75, 2 / 1.5)),
    "mostly ties": lambda rng: rng.choice((-0.3, 0.3)) if rng.random() < 0.1 else 0.0,
    "as far as may be": lambda rng: rng.choice((-CAP, CAP)),
    "small gains, rare large losses": lambda rng: -CAP if rng.random() < 1 / 6 else CAP / 5,
    "small losses, rare large gains": lambda rng: CAP if rng.random() < 1 / 6 else -CAP / 5,
    "worse": lambda rng: rng.gauss(-0.05, 0.2),
}


def path(draw: Draw, rng: random.Random, *, alpha: float, most: int = MOST) -> tuple[Stop, int]:
    """Run the test to its end as a trial does: its stop, and how many differences it took."""
    taken: list[float] = []
    end: Stop | None = None
    while end is None:
        taken.append(capped(draw(rng)))
        end = stop(taken, alpha=alpha, most=most)
    return end, len(taken)


def share(draw: Draw, *, alpha: float, tests: int = TESTS, seed: int = 1) -> float:
    rng = random.Random(seed)
    return sum(path(draw, rng, alpha=alpha)[0] == "better" for _ in range(tests)) / tests


def at_most(alpha: float, tests: int) -> float:
    """What a share with this chance stays below in 999 of 1000 cases."""
    return alpha + 3.1 * math.sqrt(alpha * (1 - alpha) / tests)


@pytest.mark.parametrize("name", NULLS)
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_what_is_not_better_is_seldom_accepted(name: str, alpha: float) -> None:
    assert share(NULLS[name], alpha=alpha) <= at_most(alpha, TESTS)


@pytest.mark.parametrize("name", NULLS)
def test_the_bound_holds_for_whoever_stops_at_the_best_moment(name: str) -> None:
    """Without giving up early, over 150 differences, watched after each: still at most alpha."""
    rng, draw = random.Random(2), NULLS[name]
    hits = 0
    for _ in range(TESTS):
        worth, best = 1.0, 1.0
        for _ in range(150):
            worth *= evidence([capped(draw(rng))])
            best = max(best, worth)
        hits += best >= 1 / ALPHA
    assert hits / TESTS <= at_most(ALPHA, TESTS)


def test_differences_that_depend_on_those_before_are_covered() -> None:
    """After gains larger stakes are laid, by whoever made the improver; the mean stays 0."""

    def lured() -> Iterator[float]:
        sign, size = 1.0, 0.1
        while True:
            gain = sign * size
            size = min(CAP, 2 * size) if gain > 0 else 0.1
            sign = rng.choice((-1.0, 1.0))
            yield gain

    rng = random.Random(3)
    found = 0
    for _ in range(TESTS):
        draws = itertools.islice(lured(), 1, None)
        found += path(lambda _, draws=draws: next(draws), rng, alpha=ALPHA)[0] == "better"  # type: ignore[misc]
    assert found / TESTS <= at_most(ALPHA, TESTS)


def stated() -> list[tuple[float, float, int, int]]:
    """The page's rows: mean and deviation of a difference, share accepted, repeats on average."""
    rows = re.findall(
        r"^\| ([+−][\d.]+) \| ([\d.]+) \| (\d+) % \| (\d+) \|$",
        PAGE.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    return [(float(m.replace("−", "-")), float(s), int(a), int(n)) for m, s, a, n in rows]


@pytest.mark.parametrize("row", stated())
def test_shifts_are_found_as_often_as_the_page_says(row: tuple[float, float, int, int]) -> None:
    """One round of three, 30 repeats at most."""
    shift, spread, accepted, repeats = row
    rng = random.Random(4)
    ends = [path(lambda r: r.gauss(shift, spread), rng, alpha=ALPHA / 3) for _ in range(600)]
    assert sum(end == "better" for end, _ in ends) / 600 == pytest.approx(accepted / 100, abs=0.06)
    assert sum(n for _, n in ends) / 600 == pytest.approx(repeats, abs=1)


def test_the_page_states_power() -> None:
    assert len(stated()) >= 8
    assert f"at most {MOST} repeats" in PAGE.read_text(encoding="utf-8")


def test_the_evidence_by_hand() -> None:
    assert evidence([]) == 1
    assert evidence([CAP]) == pytest.approx(1.9)
    assert evidence([CAP, -CAP]) == pytest.approx(0.19)
    assert evidence([0.1, 0.0, 0.0]) == pytest.approx(1.18)
    assert (capped(3.0), capped(-3.0), capped(0.2)) == (CAP, -CAP, 0.2)


def test_the_end_by_hand() -> None:
    gain = [CAP] * 5
    assert stop(gain[:4], alpha=ALPHA, most=MOST) is None
    assert stop(gain, alpha=ALPHA, most=MOST) == "better"
    assert fewest(ALPHA) == 5
    assert stop(gain[:4], alpha=ALPHA, most=4) == "spent"
    assert stop([0.0] * 3, alpha=ALPHA, most=MOST) is None
    assert stop([0.0] * 4, alpha=ALPHA, most=MOST) == "futile"
    assert stop([0.01] * 4, alpha=ALPHA, most=MOST) == "futile"
    assert stop([0.1] * 4, alpha=ALPHA, most=MOST) is None
    assert stop([0.1] * 4, alpha=ALPHA, most=12) == "futile"


@pytest.mark.parametrize("alpha", [0.5, 0.05, 0.05 / 3, 0.001])
def test_the_fewest_differences_are_those(alpha: float) -> None:
    n = fewest(alpha)
    assert stop([CAP] * n, alpha=alpha, most=MOST) == "better"
    assert stop([CAP] * (n - 1), alpha=alpha, most=MOST) is None


def test_a_lost_hope_is_not_the_end_of_evidence() -> None:
    assert 0 < evidence([-CAP] * 500) < 1e-300 or evidence([-CAP] * 500) == 0
    assert sequential.needed(0.05) == 20
