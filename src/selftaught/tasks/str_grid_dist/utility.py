"""Trusted scorer of string grid distance: is the string as far away as it should be?"""

from functools import lru_cache
from typing import Any

import numpy as np

from selftaught.utility import Candidate, InvalidAnswer, Score, Split, over_instances


def score(solution: Candidate, split: Split, seed: int, *, longest: int) -> Score:
    """Score a program: the mean worth of the strings it returned.

    Args:
        solution: the program; called as `algorithm(t, dist)`.
        split: how many instances there are.
        seed: of the first instance.
        longest: the greatest length of a string; lengths are uniform from 1 on.
    """

    def one(instance_seed: int) -> float:
        t, distance = instance(instance_seed, longest)
        return worth(as_letters(solution.call("algorithm", t, distance), len(t)), t, distance)

    return over_instances(one, split, seed)


@lru_cache(maxsize=1024)
def instance(seed: int, longest: int) -> tuple[str, int]:
    """Return a string and a distance that at least one string has from it."""
    rng = np.random.default_rng(seed)
    length = int(rng.integers(1, longest + 1))
    s, t = ("".join("AB"[k] for k in rng.integers(0, 2, size=length)) for _ in range(2))
    return t, grid_dist(s, t)


def grid_dist(s: str, t: str) -> int:
    """Places where s and t differ, plus changes between neighbours in s and in t."""
    return unlike(s, t) + unlike(s, s[1:]) + unlike(t, t[1:])


def unlike(s: str, t: str) -> int:
    """Places where two strings differ, up to the shorter one's end."""
    return sum(a != b for a, b in zip(s, t, strict=False))


def worth(s: str, t: str, distance: int) -> float:
    """1 for the right distance, else 0.5 less a penalty; never below 0: it is under 3 x length."""
    error = abs(grid_dist(s, t) - distance)
    return 1.0 if error == 0 else 0.5 - error / (6 * len(t))


def as_letters(answer: Any, length: int) -> str:
    """Return the answer as a string of A and B, or raise InvalidAnswer."""
    if not isinstance(answer, str):
        raise InvalidAnswer(f"The answer must be a string, not {type(answer).__name__}.")
    if len(answer) != length:
        raise InvalidAnswer(f"The string must have {length} letters, not {len(answer)}.")
    if not set(answer) <= {"A", "B"}:
        raise InvalidAnswer("The string must hold the letters A and B only.")
    return answer
