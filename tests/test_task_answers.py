"""The checks that verifiers share: what they accept, and every trick that they must refuse."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from selftaught.tasks.answers import as_bits, as_integer, as_permutation
from selftaught.utility import InvalidAnswer, kind

HUGE = 10**5000


@pytest.mark.parametrize(
    "answer",
    [
        [0, 1, 1],
        (0, 1, 1),
        [False, True, True],
        [0.0, 1.0, 1.0],
        [np.int64(0), np.float32(1.0), np.bool_(True)],
        np.array([0, 1, 1]),
        np.array([0.0, 1.0, 1.0]),
        np.array([False, True, True]),
        np.array([0, 1, 1], dtype=np.uint8),
    ],
)
def test_whole_numbers_of_any_kind_are_bits(answer: Any) -> None:
    bits = as_bits(answer, 3)
    assert bits == [0, 1, 1]
    assert {type(bit) for bit in bits} == {int}


def test_a_permutation_comes_back_as_plain_integers() -> None:
    assert as_permutation(np.array([2.0, 0.0, 1.0]), 3) == [2, 0, 1]


BAD_SEQUENCES: dict[str, Any] = {
    "nothing": None,
    "a number": 1,
    "a number that would be broadcast": np.int64(1),
    "an array of no dimension": np.array(1),
    "a text of the right length": "011",
    "bytes": b"\x00\x01\x01",
    "a dict": {0: 0, 1: 1, 2: 1},
    "a set": {0, 1, 2},
    "too short": [0, 1],
    "too long": [0, 1, 2, 0],
    "empty": [],
    "a row": np.array([[0, 1, 2]]),
    "a column": np.array([[0], [1], [2]]),
    "one entry to be broadcast": np.array([1]),
    "nested lists": [[0], [1], [2]],
    "a list within": [[0, 1, 2]],
    "NaN": [0, 1, float("nan")],
    "infinity": [0, 1, float("inf")],
    "an array with NaN": np.array([0, 1, np.nan]),
    "a fraction": [0, 1, 0.5],
    "nearly whole": [0, 1, 1.0000001],
    "None within": [0, 1, None],
    "texts within": ["0", "1", "2"],
    "an array of texts": np.array(["0", "1", "2"]),
    "complex numbers": [0, 1, 1 + 0j],
    "arrays within": [np.array([0]), np.array([1]), np.array([2])],
    "negative": [0, 1, -1],
    "out of range": [0, 1, 3],
    "huge": [0, 1, HUGE],
    "a huge float": [0, 1, 1e308],
}


@pytest.mark.parametrize("answer", BAD_SEQUENCES.values(), ids=BAD_SEQUENCES)
@pytest.mark.parametrize("check", [as_bits, as_permutation])
def test_what_is_no_flat_sequence_of_fitting_numbers_is_refused(
    check: Callable[[Any, int], list[int]], answer: Any
) -> None:
    with pytest.raises(InvalidAnswer) as caught:
        check(answer, 3)
    assert kind(caught.value.outcome) == "invalid_value"
    assert 10 < len(caught.value.outcome.reason) < 300


@pytest.mark.parametrize("answer", [[0, 1, 1], [0, 0, 0], [True, 1, 0], np.array([2, 2, 0])])
def test_a_number_that_is_there_twice_is_no_permutation(answer: Any) -> None:
    with pytest.raises(InvalidAnswer, match="twice"):
        as_permutation(answer, 3)


def test_the_reason_names_the_entry_that_is_wrong() -> None:
    with pytest.raises(InvalidAnswer, match="entry 2 is 7"):
        as_bits([0, 1, 7], 3, "The partition")
    with pytest.raises(InvalidAnswer, match=r"0\.5"):
        as_integer(0.5)
