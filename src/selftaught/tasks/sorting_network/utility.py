"""Trusted scorer of the sorting network task: inputs sorted, then comparators used."""

from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from selftaught.errors import TaskError
from selftaught.tasks.answers import as_integer, as_items
from selftaught.utility import Candidate, InvalidAnswer, Score, Split, over_instances

# The numbers of wires of each split, none in both; an instance takes the one its seed falls on.
WIRES = {"val": (6, 8, 9, 11), "test": (5, 7, 10, 12)}
# Fewest comparators known, by wires; up to 12 wires proven to be the fewest possible.
FEWEST = {
    4: 5, 5: 9, 6: 12, 7: 16, 8: 19, 9: 25, 10: 29,
    11: 35, 12: 39, 13: 45, 14: 51, 15: 56, 16: 60,
}  # fmt: skip
# What a network that sorts nearly every input may reach; every one that sorts all is above it.
PARTIAL = 0.7


def score(solution: Candidate, split: Split, seed: int, *, extra_wires: int) -> Score:
    """Score a program: the mean over the wire numbers of what its networks are worth.

    Raises:
        TaskError: there are no best known sizes for so many wires.
    """
    least, most = min(FEWEST), max(FEWEST)
    for n in WIRES["val"] + WIRES["test"]:
        if not least <= n + extra_wires <= most:
            raise TaskError(
                f"extra_wires={extra_wires} asks for {n + extra_wires} wires; the fewest "
                f"comparators are on record for {least} to {most}."
            )

    def one(instance_seed: int) -> float:
        n = wires(split, instance_seed) + extra_wires
        return worth(as_network(solution.call("algorithm", n), n), n)

    return over_instances(one, split, seed)


def wires(split: str, seed: int) -> int:
    """The number of wires of an instance, without the extra ones."""
    choice = WIRES[split]
    return choice[seed % len(choice)]


def as_network(answer: Any, n: int) -> list[tuple[int, int]]:
    """Return the answer as comparators (i, j) with 0 <= i < j < n, or raise InvalidAnswer."""
    most = 2 * n * n
    # An array's rows are themselves arrays, which the check of a pair accepts.
    if not isinstance(answer, list | tuple | np.ndarray) or (
        isinstance(answer, np.ndarray) and answer.ndim == 0
    ):
        raise InvalidAnswer(f"The network must be a list of pairs, not {type(answer).__name__}.")
    if len(answer) > most:
        raise InvalidAnswer(f"{len(answer)} comparators are over the limit of {most}.")
    network = []
    for pair in answer:
        i, j = (as_integer(wire, "A wire") for wire in as_items(pair, 2, "A comparator"))
        if not 0 <= i < j < n:
            raise InvalidAnswer(f"A comparator must have 0 <= i < j < {n}; one has not.")
        network.append((i, j))
    return network


def worth(network: list[tuple[int, int]], n: int) -> float:
    """PARTIAL times the share of 0/1 inputs sorted; past that, fewer comparators earn the rest."""
    share = sorted_share(network, n)
    if share < 1:
        return PARTIAL * share
    return PARTIAL + (1 - PARTIAL) * min(1.0, FEWEST[n] / len(network))


def sorted_share(network: list[tuple[int, int]], n: int) -> float:
    """The share of all 2^n inputs of zeros and ones that the network sorts.

    By the 0-1 principle it sorts every input if it sorts these. Bit x of a wire's integer is that
    wire's value on input x, so that one comparator on all inputs is one `and` and one `or`.
    """
    values = list(inputs(n))
    for i, j in network:
        low, high = values[i] & values[j], values[i] | values[j]
        values[i], values[j] = low, high
    unsorted = 0
    for above, below in pairwise(values):
        unsorted |= above & ~below
    return 1 - unsorted.bit_count() / float(1 << n)


@lru_cache(maxsize=16)
def inputs(n: int) -> tuple[int, ...]:
    """Each wire's values over all 2^n inputs: wire k of input x is bit k of x."""
    columns = []
    for wire in range(n):
        half = 1 << wire
        period = ((1 << half) - 1) << half
        column, filled = period, 2 * half
        while filled < 2**n:
            column |= column << filled
            filled *= 2
        columns.append(column)
    return tuple(columns)
