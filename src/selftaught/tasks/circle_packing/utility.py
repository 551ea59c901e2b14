"""Trusted scorer of the circle packing task: sum of radii over a reference, checked exactly."""

import math
import random
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np

from selftaught.tasks.answers import as_items
from selftaught.utility import Candidate, InvalidAnswer, Score, Split, over_instances

# The numbers of circles of each split; an instance takes the one that its seed falls on.
CIRCLES = {"val": (7, 12, 19, 26), "test": (9, 15, 22, 32)}
# The shapes drawn from: 0.60, 0.65, ..., 1.00.
ASPECTS = tuple(k / 20 for k in range(12, 21))
# The largest sums of radii found (README.md says how): by number of circles, as in ASPECTS.
FOUND: dict[int, tuple[float, ...]] = {
    7: (1.31426, 1.31197, 1.30989, 1.31764, 1.32889, 1.30929, 1.30000, 1.29956, 1.30652),
    9: (1.49522, 1.49547, 1.49481, 1.49650, 1.50997, 1.50547, 1.51017, 1.52287, 1.52435),
    12: (1.75426, 1.75956, 1.77035, 1.76525, 1.76238, 1.75571, 1.75983, 1.75398, 1.76594),
    15: (1.98253, 1.97258, 1.97500, 1.97486, 1.97427, 1.97529, 1.97691, 1.97789, 1.98022),
    19: (2.23243, 2.23383, 2.23700, 2.23822, 2.24402, 2.23670, 2.23633, 2.23574, 2.23496),
    22: (2.41349, 2.41792, 2.41653, 2.41474, 2.41246, 2.41109, 2.41320, 2.40969, 2.41439),
    26: (2.63386, 2.63374, 2.63037, 2.63198, 2.63237, 2.63716, 2.63944, 2.62894, 2.6359830849),
    32: (2.92132, 2.93221, 2.93338, 2.92651, 2.92817, 2.92379, 2.92211, 2.92807, 2.9395727712),
}  # fmt: skip
# Sum of radii over sqrt(n), for numbers and shapes without a reference of their own: the two
# published records of the unit square have 0.51696 (n = 26) and 0.51965 (n = 32).
PER_ROOT = 0.52

# x, y and radius as whole multiples of one unit.
Circle = tuple[int, int, int]


def score(solution: Candidate, split: Split, seed: int, *, circles: int, aspect: float) -> Score:
    """Score a program: the mean of the sum of radii over the reference.

    Args:
        solution: the program; called as `algorithm(n, width, height)`.
        split: how many instances there are, and which numbers of circles.
        seed: of the first instance.
        circles: the number of circles; 0 for one of the split's by the instance's seed.
        aspect: height over width, above 0 and at most 1; 0.0 for one by the instance's seed.
    """

    def one(instance_seed: int) -> float:
        n, shape = instance(split, instance_seed, circles, aspect)
        width, height = sides(shape)
        packing = solution.call("algorithm", n, width, height)
        return sum_of_radii(packing, n, width, height) / reference(n, shape)

    return over_instances(one, split, seed)


def instance(split: str, seed: int, circles: int = 0, aspect: float = 0.0) -> tuple[int, float]:
    """Return the number of circles and the aspect ratio; 0 leaves one to the seed."""
    choice = CIRCLES[split]
    n = circles or choice[seed % len(choice)]
    return n, aspect or random.Random(seed).choice(ASPECTS)


def sides(aspect: float) -> tuple[float, float]:
    """Width and height of the rectangle of area 1; exactly 1.0 and 1.0 for the square."""
    return 1 / math.sqrt(aspect), math.sqrt(aspect)


def reference(n: int, aspect: float) -> float:
    """The largest sum of radii found in the rectangle, or an estimate where none was looked for."""
    if n in FOUND and aspect in ASPECTS:
        return FOUND[n][ASPECTS.index(aspect)]
    return PER_ROOT * math.sqrt(n)


def sum_of_radii(packing: Any, n: int, width: float, height: float) -> float:
    """Return the sum of radii of a packing of n circles that is valid without any tolerance.

    Raises:
        InvalidAnswer: it is no sequence of n triples of finite real numbers, a radius is below 0,
            a circle leaves the rectangle from (0, 0) to (width, height), or two overlap, by
            however little. Circles may touch.
    """
    circles = as_circles(packing, n)
    verify(circles, width, height)
    return float(math.fsum(radius for _, _, radius in circles))


def as_circles(packing: Any, n: int) -> list[tuple[float, float, float]]:
    """Return n triples of finite floats, or raise InvalidAnswer."""
    if isinstance(packing, np.ndarray):
        if packing.shape != (n, 3):
            raise InvalidAnswer(f"The packing must have shape ({n}, 3), not {packing.shape}.")
        packing = packing.tolist()
    circles = []
    for i, entry in enumerate(as_items(packing, n, "The packing")):
        x, y, radius = (
            as_real(number, f"Circle {i}: an entry") for number in as_items(entry, 3, f"Circle {i}")
        )
        circles.append((x, y, radius))
    return circles


def as_real(number: Any, what: str) -> float:
    """Return a finite real number as a float of the same value, or raise InvalidAnswer."""
    if isinstance(number, bool) or not isinstance(number, int | float | np.integer | np.floating):
        raise InvalidAnswer(f"{what} must be a real number, not {type(number).__name__}.")
    try:
        real = float(number)
    except OverflowError:
        real = math.inf
    if not math.isfinite(real):
        raise InvalidAnswer(f"{what} must be finite.")
    return real


def verify(circles: Sequence[tuple[float, float, float]], width: float, height: float) -> None:
    """Raise InvalidAnswer unless all circles lie inside and no two overlap, in exact arithmetic."""
    exact, (right, top) = in_whole_units(circles, (width, height))
    for i, (x, y, radius) in enumerate(exact):
        if radius < 0:
            raise InvalidAnswer(f"Circle {i} has a radius below 0: {circles[i][2]!r}.")
        out = radius - min(x, y, right - x, top - y)
        if out > 0:
            raise InvalidAnswer(f"Circle {i} {circles[i]} leaves the rectangle.")
    for (i, (a, b, r)), (j, (c, d, s)) in combinations(enumerate(exact), 2):
        if (a - c) ** 2 + (b - d) ** 2 < (r + s) ** 2:
            raise InvalidAnswer(f"Circles {i} {circles[i]} and {j} {circles[j]} overlap.")


def in_whole_units(
    circles: Sequence[tuple[float, float, float]], corner: tuple[float, float]
) -> tuple[list[Circle], tuple[int, int]]:
    """Return the numbers as multiples of one unit that measures them all without a remainder.

    A finite float is a fraction over a power of 2, so that the largest of those powers serves
    all. Whole numbers are as exact as fractions, and comparing them is much faster.
    """
    fractions = [[Fraction(number) for number in row] for row in (*circles, corner)]
    per_unit = max(f.denominator for row in fractions for f in row)
    whole = [[f.numerator * (per_unit // f.denominator) for f in row] for row in fractions]
    right, top = whole.pop()
    return [(x, y, radius) for x, y, radius in whole], (right, top)
