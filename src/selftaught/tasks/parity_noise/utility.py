"""Trusted scorer of learning parity with noise: the fraction of test parities predicted."""

from selftaught.tasks.paper_answers import score_parity
from selftaught.utility import Candidate, Score, Split


def score(
    solution: Candidate, split: Split, seed: int, *, bits: int, noise: float, train: int, test: int
) -> Score:
    """Score a program; see `score_parity` for the parameters."""
    return score_parity(solution, split, seed, bits=bits, noise=noise, train=train, test=test)
