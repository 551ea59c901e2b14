"""Trusted scorer of learning parity with noise."""

from selftaught.tasks.parity import score_parity
from selftaught.utility import Candidate, Score, Split


def score(
    solution: Candidate, split: Split, seed: int, *, bits: int, noise: float, train: int, test: int
) -> Score:
    """Score a program: the mean share of test samples whose parity it predicts."""
    return score_parity(solution, split, seed, bits, noise, train, test)
