"""A sequential test of "the mean of the differences is above 0", valid wherever it stops.

    H0: the mean of each capped difference, given those before it, is at most 0.
    evidence after n differences:  E_n = (1 + b d_1) (1 + b d_2) ... (1 + b d_n),  b = STAKE / CAP
    better, as soon as E_n >= 1 / alpha

Each d lies in [-CAP, CAP], so no factor is negative. Under H0 each has a mean of at most 1, so E is
a nonnegative supermartingale that begins at 1: the chance that it *ever* reaches 1 / alpha is at
most alpha, whatever the distribution, and however the moment to stop is chosen otherwise. It is
the worth of 1 that is bet on every next difference. Nothing is asked of the differences but their
bounds: no normality, symmetry or equal variance, and ties do nothing.

Sources:
    The bound: J. Ville, Etude critique de la notion de collectif (1939); in short G. Shafer,
        Testing by betting, J. R. Stat. Soc. A 184 (2021) 407.
    Bets on bounded means: I. Waudby-Smith and A. Ramdas, Estimating means of bounded random
        variables by betting, J. R. Stat. Soc. B 86 (2024) 1, section 4.
    Giving up early (`stop`) is a rule of thumb of this project. It costs power, never validity.
"""

import math
from collections.abc import Sequence
from typing import Literal

from selftaught.statistics import deviation, mean

Stop = Literal["better", "futile", "spent"]

# Half the way from a task's initial program to the best known one. A smaller cap finds small
# differences sooner and weighs rare large losses less.
CAP = 0.5
# Of what may be lost on one difference. At 1 a single capped loss would end every hope.
STAKE = 0.9
# Fewer differences than this tell nothing of their spread.
LEAST = 4


def capped(difference: float) -> float:
    """A difference, cut off at CAP on either side."""
    return max(-CAP, min(CAP, difference))


def evidence(differences: Sequence[float]) -> float:
    """E_n, from 1 for no difference.

    Args:
        differences: capped.
    """
    return math.exp(_log_evidence(differences))


def needed(alpha: float) -> float:
    """The evidence at which H0 is rejected: 1 / alpha."""
    return 1 / alpha


def stop(differences: Sequence[float], *, alpha: float, most: int) -> Stop | None:
    """Whether the test is over, looked at after each difference.

    It is futile where even this would not do: that all differences to come are the mean so far
    plus its standard error.

    Args:
        differences: capped, in the order they came.
        alpha: the chance of "better" under H0, at most.
        most: differences that may be taken.

    Returns:
        `better`, `futile`, `spent` where `most` are taken, or None to go on.
    """
    n, target = len(differences), math.log(needed(alpha))
    so_far = _log_evidence(differences)
    if n > 0 and so_far >= target:
        return "better"
    if n >= most:
        return "spent"
    if n < LEAST:
        return None
    hoped = capped(mean(differences) + deviation(differences) / math.sqrt(n))
    return "futile" if so_far + (most - n) * _log_factor(hoped) < target else None


def fewest(alpha: float) -> int:
    """The fewest differences with which "better" can be said, each of them CAP."""
    return math.ceil(math.log(needed(alpha)) / math.log1p(STAKE))


def _log_evidence(differences: Sequence[float]) -> float:
    return math.fsum(_log_factor(difference) for difference in differences)


def _log_factor(difference: float) -> float:
    return math.log1p(STAKE / CAP * difference)
