"""Trusted scorer of 3SAT: the share of satisfiable formulas that were satisfied."""

from functools import lru_cache
from typing import Any

import numpy as np

from selftaught.tasks.answers import as_bits, as_items
from selftaught.utility import Candidate, Score, Split, over_instances

# What a valid assignment that leaves clauses unsatisfied is worth.
UNSATISFYING = 0.01

Formula = list[list[int]]


def score(
    solution: Candidate,
    split: Split,
    seed: int,
    *,
    fewest: int,
    most: int,
    clauses_per_variable: float,
) -> Score:
    """Score a program: 1 for each formula satisfied, 0.01 for each that was not.

    Args:
        solution: the program; called as `algorithm(formula)`.
        split: how many instances there are.
        seed: of the first instance.
        fewest: least number of variables, 3 or more.
        most: greatest number of variables; the number is uniform.
        clauses_per_variable: clauses over variables, rounded to a whole number of clauses.
    """

    def one(instance_seed: int) -> float:
        n, formula = instance(instance_seed, fewest, most, clauses_per_variable)
        assignment = as_assignment(solution.call("algorithm", formula), n)
        return 1.0 if satisfies(assignment, formula) else UNSATISFYING

    return over_instances(one, split, seed)


@lru_cache(maxsize=1024)
def instance(seed: int, fewest: int, most: int, clauses_per_variable: float) -> tuple[int, Formula]:
    """Return the highest variable in use and clauses that a hidden assignment satisfies."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(fewest, most + 1))
    hidden = [0, *rng.integers(0, 2, size=n).tolist()]
    formula: Formula = []
    while len(formula) < round(clauses_per_variable * n):
        variables = rng.choice(n, size=3, replace=False) + 1
        clause = [int(v) for v in variables * rng.choice([-1, 1], size=3)]
        if satisfies(hidden, [clause]):
            formula.append(clause)
    # With few clauses the last variables may be in none; a program cannot know of those.
    return max(abs(v) for clause in formula for v in clause), formula


def as_assignment(answer: Any, n: int) -> list[int]:
    """Return the answer as n + 1 zeros and ones, of which element 0 means nothing."""
    items = as_items(answer, n + 1, "The assignment")
    return [0, *as_bits(items[1:], n, "The assignment of variables 1 onwards")]


def satisfies(assignment: list[int], formula: Formula) -> bool:
    """Whether every clause has a literal that is true."""
    return all(any(assignment[abs(v)] == (v > 0) for v in clause) for clause in formula)
