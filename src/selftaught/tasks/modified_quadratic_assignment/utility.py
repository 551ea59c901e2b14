"""Trusted scorer of the modified quadratic assignment problem: flow times distance, higher wins."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from selftaught.tasks.answers import as_permutation
from selftaught.utility import Candidate, Score, Split, over_instances

Matrix = npt.NDArray[np.float64]


def score(solution: Candidate, split: Split, seed: int, *, size: int) -> Score:
    """Score a program: the mean objective of the permutations it returned.

    Args:
        solution: the program; called as `algorithm(F, D, P)`.
        split: how many instances there are.
        seed: of the first instance.
        size: number of facilities, and of places.
    """

    def one(instance_seed: int) -> float:
        matrices = instance(instance_seed, size)
        order = as_permutation(solution.call("algorithm", *matrices), size, "The assignment")
        return objective(*matrices, order)

    return over_instances(one, split, seed)


@lru_cache(maxsize=1024)
def instance(seed: int, size: int) -> tuple[Matrix, Matrix, Matrix]:
    """Return flows, distances and preferences, uniform on [0, 1)."""
    flows, distances, preferences = np.random.default_rng(seed).random((3, size, size))
    return flows, distances, preferences


def objective(flows: Matrix, distances: Matrix, preferences: Matrix, order: list[int]) -> float:
    """Flow times distance over all pairs, less half the preferences, over size squared."""
    n = len(order)
    cost = (flows * distances[np.ix_(order, order)]).sum()
    return float(cost - 0.5 * preferences[np.arange(n), order].sum()) / n**2
