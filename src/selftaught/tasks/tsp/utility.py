"""Trusted scorer of the travelling salesman task: reference length over tour length."""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from selftaught.tasks.answers import as_permutation
from selftaught.utility import Candidate, Score, Split, over_instances

# Lengths are whole thousandths of the square's side, so that sums are exact and a tie is a tie on
# every machine.
SCALE = 1000
# Starts of the reference's descents; each is a nearest-neighbour tour from another city.
STARTS = 8

Matrix = npt.NDArray[np.int64]


def score(solution: Candidate, split: Split, seed: int, *, cities: int) -> Score:
    """Score a program: the mean of reference length / length of the tour it returned."""

    def one(instance_seed: int) -> float:
        distances, rows, reference = instance(instance_seed, cities)
        tour = as_permutation(solution.call("algorithm", rows), cities, "The tour")
        return reference / length(distances, tour)

    return over_instances(one, split, seed)


@lru_cache(maxsize=1024)
def instance(seed: int, cities: int) -> tuple[Matrix, list[list[int]], int]:
    """Return the distances as an array and as lists, and the reference length."""
    points = np.random.default_rng(seed).random((cities, 2))
    legs = points[:, None, :] - points[None, :, :]
    distances = np.rint(SCALE * np.sqrt((legs**2).sum(axis=2))).astype(np.int64)
    return distances, distances.tolist(), reference_length(distances)


def length(distances: Matrix, tour: Any) -> int:
    """The length of a closed tour, at least 1."""
    return max(1, int(distances[tour, np.roll(tour, -1)].sum()))


def reference_length(distances: Matrix) -> int:
    """The shortest of a few 2-opt and or-opt descents from nearest-neighbour tours."""
    cities = len(distances)
    starts = np.unique(np.linspace(0, cities - 1, STARTS).astype(int))
    return min(length(distances, descend(distances, nearest(distances, int(s)))) for s in starts)


def nearest(distances: Matrix, start: int) -> npt.NDArray[np.intp]:
    """The nearest-neighbour tour from a city."""
    far = int(distances.max()) + 1
    to_free = distances.copy()
    tour = [start]
    while len(tour) < len(distances):
        to_free[:, tour[-1]] = far
        tour.append(int(to_free[tour[-1]].argmin()))
    return np.array(tour)


def descend(distances: Matrix, tour: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Make the best reversal, or failing that the best move of a block, until neither helps."""
    n = len(tour)
    if n < 4:
        return tour
    allowed = np.triu(np.ones((n, n), dtype=bool), 1)
    while True:
        after = np.roll(tour, -1)
        there = distances[np.ix_(tour, tour)]
        legs = distances[tour, after]
        change = there + distances[np.ix_(after, after)] - legs[:, None] - legs[None, :]
        best = int(np.where(allowed, change, 0).argmin())
        i, j = divmod(best, n)
        if change[i, j] < 0 and allowed[i, j]:
            tour = np.concatenate((tour[: i + 1], tour[i + 1 : j + 1][::-1], tour[j + 1 :]))
            continue
        moved = move_block(distances, tour)
        if moved is None:
            return tour
        tour = moved


def move_block(distances: Matrix, tour: npt.NDArray[np.intp]) -> npt.NDArray[np.intp] | None:
    """The tour after its best move of one to three neighbouring cities, or None."""
    n = len(tour)
    after = np.roll(tour, -1)
    gaps = distances[tour, after]
    at = np.arange(n)
    best, move = 0, (0, 0, 0, False)
    for size in range(1, min(3, n - 3) + 1):
        last = np.roll(tour, 1 - size)
        before, behind = np.roll(tour, 1), np.roll(tour, -size)
        freed = distances[before, tour] + distances[last, behind] - distances[before, behind]
        # The gap behind position j, counted from the block's start; the block's own gaps and the
        # one before it are no places to go.
        offset = (at[None, :] - at[:, None]) % n
        outside = (offset >= size) & (offset < n - 1)
        for turned, (head, tail) in ((False, (tour, last)), (True, (last, tour))):
            change = distances[np.ix_(head, tour)] + distances[np.ix_(tail, after)]
            change = np.where(outside, change - gaps[None, :] - freed[:, None], 0)
            least = int(change.argmin())
            if change.flat[least] < best:
                best, move = int(change.flat[least]), (size, *divmod(least, n), turned)
    if best == 0:
        return None
    size, start, gap, turned = move
    turning = np.roll(tour, -start)
    block, rest = turning[:size], turning[size:]
    cut = (gap - start) % n - size + 1
    return np.concatenate((rest[:cut], block[::-1] if turned else block, rest[cut:]))
