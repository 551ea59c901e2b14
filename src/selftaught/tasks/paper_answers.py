"""What two of the paper's tasks share: parity instances and the checking of predicted parities."""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from selftaught.tasks.answers import as_bits
from selftaught.utility import Candidate, Score, Split, over_instances

# Chance of each bit to be in the hidden subset (paper, appendix on learning parity with noise).
IN_SUBSET = 0.3

Bits = npt.NDArray[np.int64]


def score_parity(
    solution: Candidate, split: Split, seed: int, *, bits: int, noise: float, train: int, test: int
) -> Score:
    """Score a program: the mean over the instances of the fraction of test parities it got right.

    Args:
        solution: the program; called as `algorithm(train_samples, train_parity, test_samples)`.
        split: how many instances there are.
        seed: of the first instance.
        bits: length of a sample.
        noise: chance of each training parity to be flipped, 0 to 1.
        train: number of training samples.
        test: number of test samples.

    Raises:
        CandidateError: every instance failed, or the first few did.
    """

    def one(instance_seed: int) -> float:
        *shown, hidden = parity_instance(instance_seed, bits, noise, train, test)
        return fraction_right(solution.call("algorithm", *shown), hidden)

    return over_instances(one, split, seed)


@lru_cache(maxsize=1024)
def parity_instance(
    seed: int, bits: int, noise: float, train: int, test: int
) -> tuple[Bits, Bits, Bits, Bits]:
    """Return training samples, their possibly flipped parities, test samples, true parities."""
    rng = np.random.default_rng(seed)
    subset = (rng.random(bits) < IN_SUBSET).astype(np.int64)
    samples = rng.integers(0, 2, size=(train + test, bits))
    parity = samples @ subset % 2
    flips = (rng.random(train) < noise).astype(np.int64)
    return samples[:train], parity[:train] ^ flips, samples[train:], parity[train:]


def fraction_right(answer: Any, parities: Bits) -> float:
    """Return the share of parities that an answer predicts.

    Raises:
        InvalidAnswer: the answer is no flat sequence of as many zeros and ones.
    """
    predicted = as_bits(answer, len(parities), "The prediction")
    return float(np.mean(np.array(predicted) == parities))
