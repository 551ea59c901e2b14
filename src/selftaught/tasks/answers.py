"""Checks that several tasks apply to what a candidate returns.

An answer is data from an untrusted program: Python numbers, strings, lists, tuples, dicts or
numpy arrays. Each check returns the answer in one plain form or raises `InvalidAnswer` with a
reason that an improver can act on. Nothing is broadcast, reshaped, rounded or cut to fit: a
prediction of the wrong shape once scored over 1000 % in the paper's experiments by broadcasting.
"""

from typing import Any

import numpy as np

from selftaught.utility import InvalidAnswer


def as_items(answer: Any, n: int, what: str = "The answer") -> list[Any]:
    """Return a flat sequence of n entries as a list of plain Python objects.

    Args:
        answer: what the candidate returned.
        n: the length wanted.
        what: the subject of the sentence that says what is wrong.

    Raises:
        InvalidAnswer: it is no list, tuple or one-dimensional numpy array, or has another length.
    """
    if isinstance(answer, np.ndarray):
        if answer.shape != (n,):
            raise InvalidAnswer(f"{what} must have shape ({n},), not {answer.shape}.")
        return list(answer.tolist())
    if not isinstance(answer, list | tuple):
        raise InvalidAnswer(
            f"{what} must be a list, tuple or array of {n} entries, not {type(answer).__name__}."
        )
    if len(answer) != n:
        raise InvalidAnswer(f"{what} must have {n} entries, not {len(answer)}.")
    return list(answer)


def as_integer(entry: Any, what: str = "An entry") -> int:
    """Return a number that is integral as an int; True, 1.0 and numpy's 1 are all 1.

    Raises:
        InvalidAnswer: it is no real number, or has a fraction, or is NaN or infinite.
    """
    if isinstance(entry, int | np.integer | np.bool_):
        return int(entry)
    if isinstance(entry, float | np.floating):
        # NaN and the infinities are not integral either, so this one test refuses them too.
        if float(entry).is_integer():
            return int(entry)
        raise InvalidAnswer(f"{what} must be a whole number, not {float(entry)!r}.")
    raise InvalidAnswer(f"{what} must be a whole number, not {type(entry).__name__}.")


def as_bits(answer: Any, n: int, what: str = "The answer") -> list[int]:
    """Return n entries that are each 0 or 1.

    Raises:
        InvalidAnswer: wrong type, shape or length, or an entry that is neither 0 nor 1.
    """
    bits = [as_integer(entry, f"{what}: an entry") for entry in as_items(answer, n, what)]
    for i, bit in enumerate(bits):
        if bit not in (0, 1):
            raise InvalidAnswer(f"{what} must hold 0 and 1 only; entry {i} is {_shown(bit)}.")
    return bits


def as_permutation(answer: Any, n: int, what: str = "The answer") -> list[int]:
    """Return n entries that are 0 .. n-1 in some order.

    Raises:
        InvalidAnswer: wrong type, shape or length, an entry out of range or one that is there
            twice.
    """
    order = [as_integer(entry, f"{what}: an entry") for entry in as_items(answer, n, what)]
    seen: set[int] = set()
    for entry in order:
        if not 0 <= entry < n:
            raise InvalidAnswer(f"{what} must hold 0 .. {n - 1}; {_shown(entry)} is out of range.")
        if entry in seen:
            raise InvalidAnswer(f"{what} must be a permutation; {entry} is in it twice.")
        seen.add(entry)
    return order


def _shown(number: int) -> str:
    """A number for a message; a huge one only by its size, since printing it is slow."""
    return str(number) if -(2**63) <= number < 2**64 else f"a number of {number.bit_length()} bits"
