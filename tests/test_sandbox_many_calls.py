"""Many calls at once: the same answers as one by one, whatever the program does in between."""

from collections.abc import Iterator

import pytest

from selftaught.sandbox.candidate import AHEAD, SandboxedCandidate
from selftaught.sandbox.layers import choose_layers
from selftaught.sandbox.zygote import Zygote
from selftaught.task import Limits
from selftaught.utility import CandidateError, kind

LIMITS = Limits(time_s=0.3, work=0)


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    made = Zygote(choose_layers(False))
    yield made
    made.close()


def told(result: object) -> object:
    return kind(result.outcome) if isinstance(result, CandidateError) else result


def one_by_one(candidate: SandboxedCandidate, calls: list[tuple[object, ...]]) -> list[object]:
    results: list[object] = []
    for arguments in calls:
        try:
            results.append(candidate.call("algorithm", *arguments))
        except CandidateError as error:
            results.append(error)
    return results


PROGRAMS = {
    "counts": "seen = 0\ndef algorithm(x):\n    global seen\n    seen += 1\n    return x * seen",
    "draws": "import random\ndef algorithm(x):\n    return random.random()",
    "raises": "def algorithm(x):\n    return 1 / (x % 5)",
    "exits": "import os\ndef algorithm(x):\n    if x % 7 == 3: os._exit(0)\n    return x",
    "loops": "def algorithm(x):\n    while x == 20: pass\n    return x",
    "hoards": "def algorithm(x):\n    return len(bytearray(2**40)) if x == 11 else x",
    "is_refused": "import os\ndef algorithm(x):\n    return os.fork() if x == 4 else x",
    "does_not_compile": "def algorithm(x:\n",
    "returns_no_data": "def algorithm(x):\n    return object() if x == 30 else x",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_many_calls_are_that_many_calls(zygote: Zygote, name: str) -> None:
    calls: list[tuple[object, ...]] = [(x,) for x in range(2 * AHEAD + 5)]
    one, many = (SandboxedCandidate(zygote, PROGRAMS[name], LIMITS, seed=3) for _ in range(2))
    expected = list(map(told, one_by_one(one, calls)))
    results = list(map(told, many.call_many("algorithm", calls)))
    one.close()
    many.close()
    assert results == expected
    assert len(results) == len(calls)


def test_a_loop_ends_its_own_call_only(zygote: Zygote) -> None:
    candidate = SandboxedCandidate(zygote, PROGRAMS["loops"], LIMITS, seed=3)
    results = list(map(told, candidate.call_many("algorithm", [(x,) for x in range(40)])))
    assert results == [*range(20), "timed_out", *range(21, 40)]
    candidate.close()


def test_long_and_unsendable_arguments_are_among_them(zygote: Zygote) -> None:
    candidate = SandboxedCandidate(
        zygote, "def algorithm(x):\n    return len(x) if x else 0", LIMITS, seed=3
    )
    calls: list[tuple[object, ...]] = [("a",), ("b" * 100_000,), (object(),), ("cc",), ([],)]
    assert list(map(told, candidate.call_many("algorithm", calls))) == [
        1, 100_000, "invalid_value", 2, 0,
    ]  # fmt: skip
    assert candidate.call_many("algorithm", []) == []
    candidate.close()
