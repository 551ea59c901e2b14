"""Trusted scorer of maximum cut: the share of a graph's edge weight that the cut runs through."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from selftaught.tasks.answers import as_bits
from selftaught.utility import Candidate, Score, Split, over_instances

Adjacency = npt.NDArray[np.int64]


def score(
    solution: Candidate,
    split: Split,
    seed: int,
    *,
    smallest: int,
    largest: int,
    edge_probability: float,
    heaviest: int,
) -> Score:
    """Score a program: the mean of cut weight over total edge weight.

    Args:
        solution: the program; called as `algorithm(adjacency)`.
        split: how many instances there are.
        seed: of the first instance.
        smallest: least number of nodes, 2 or more.
        largest: greatest number of nodes; the number is uniform.
        edge_probability: chance of each pair of nodes to be joined.
        heaviest: greatest weight of an edge; weights are uniform from 1 on.
    """

    def one(instance_seed: int) -> float:
        adjacency = instance(instance_seed, smallest, largest, edge_probability, heaviest)
        sides = as_bits(solution.call("algorithm", adjacency), len(adjacency), "The partition")
        return cut_share(adjacency, sides)

    return over_instances(one, split, seed)


@lru_cache(maxsize=512)
def instance(
    seed: int, smallest: int, largest: int, edge_probability: float, heaviest: int
) -> Adjacency:
    """Return a symmetric matrix of edge weights, 0 for no edge and on the diagonal."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(smallest, largest + 1))
    present = rng.random((n, n)) < edge_probability
    weights = np.triu(present * rng.integers(1, heaviest + 1, size=(n, n)), 1)
    return weights + weights.T


def cut_share(adjacency: Adjacency, sides: list[int]) -> float:
    """Weight of the edges between the sides over the weight of all; 0 for a graph without edges."""
    apart = np.not_equal.outer(sides, sides)
    return float(adjacency[apart].sum() / max(1, adjacency.sum()))
