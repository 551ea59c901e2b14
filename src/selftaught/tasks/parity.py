"""Learning a parity of hidden bits: what the tasks with and without noise have in common.

Source: the learning parity with noise task of arXiv 2310.02304, section 4 and appendix. The draws
and their order are those of the public scorer, so that the instances are the same ones; numpy
promises that the streams of `RandomState` never change.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from selftaught.tasks.answers import as_bits
from selftaught.utility import Candidate, Score, Split, over_instances

# The chance of each bit to be one of the hidden ones.
HIDDEN = 0.3

Bits = npt.NDArray[np.int64]


class Parities(NamedTuple):
    """One instance: samples with their parities to learn from, and samples to predict."""

    train_samples: Bits
    train_parity: Bits
    test_samples: Bits
    test_parity: Bits


@lru_cache(maxsize=512)
def instance(seed: int, bits: int, noise: float, train: int, test: int) -> Parities:
    """Return the instance of a seed.

    Args:
        seed: the instance's seed.
        bits: the length of a sample.
        noise: the share of training parities that are flipped, each by chance.
        train: how many samples there are to learn from.
        test: how many samples there are to predict.
    """
    random = np.random.RandomState(seed)
    hidden = random.binomial(1, HIDDEN, bits)
    samples = random.binomial(1, 0.5, (train + test, bits)).astype(np.int64)
    parity = (samples @ hidden) % 2
    flipped = random.binomial(1, noise, train) if noise > 0 else np.zeros(train, dtype=np.int64)
    parts = (samples[:train], (parity[:train] + flipped) % 2, samples[train:], parity[train:])
    for part in parts:
        part.setflags(write=False)
    return Parities(*parts)


def score_parity(
    solution: Candidate, split: Split, seed: int, bits: int, noise: float, train: int, test: int
) -> Score:
    """Score a program: the mean share of test samples whose parity it predicts."""

    def one(instance_seed: int) -> float:
        task = instance(instance_seed, bits, noise, train, test)
        answer = solution.call(
            "algorithm", task.train_samples, task.train_parity, task.test_samples
        )
        predicted = as_bits(answer, test, "The prediction")
        right = sum(p == t for p, t in zip(predicted, task.test_parity.tolist(), strict=True))
        return right / test

    return over_instances(one, split, seed)
