"""A landscape for improvers to climb, in this process: one number, written in a program.

The fake model finds the first program of a prompt and moves its number a little; it and the fake
utility hold hard budgets. Nothing here runs a sandbox.
"""

import random
import re
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from selftaught.improver import ENTRY_POINT, load_improver
from selftaught.solution import extract_code

PROGRAMS = Path(__file__).parent / "programs"
WRITTEN_FOR_TESTS = ["dynamic_temperature", "published_seed"]

WORST = -1000.0
TARGET = 10.0
FIRST_BLOCK = re.compile(r"```python\n(.*?)\n```", re.DOTALL)
NUMBER = re.compile(r"return (-?[0-9.]+)")
UTILITY_TEXT = "def utility(solution):\n    return -abs(run(solution) - hidden)"


class BudgetSpent(RuntimeError):
    """As the guest raises it."""


def program(number: float) -> str:
    return f"def algorithm():\n    return {number:.6f}"


START = program(0.0)


class FakeUtility:
    """Scores a program by its number's distance to TARGET; anything over budget scores 0."""

    def __init__(self, budget: int, value: Callable[[str], float] | None = None) -> None:
        self.str = UTILITY_TEXT
        self.budget = budget
        self.uses = 0
        self.over_budget = 0
        self.paid: list[str | None] = []
        self._value = value or distance_score

    @property
    def initial(self) -> float:
        return self._value(START)

    @property
    def remaining(self) -> int:
        return self.budget - self.uses

    def __call__(self, solution: str | None = None) -> float:
        if self.uses >= self.budget:
            self.over_budget += 1
            return 0.0
        self.uses += 1
        self.paid.append(solution)
        return WORST if solution is None else self._value(solution)

    def map(self, solutions: Sequence[str | None]) -> list[float]:
        return [self(solution) for solution in solutions]

    def evaluate(self, solution: str | None) -> types.SimpleNamespace:
        value = self(solution)
        outcome = "failed" if value == WORST else "scored"
        return types.SimpleNamespace(
            value=value, standard_error=0.0, feedback="as expected", outcome=outcome
        )


class FakeModel:
    """Moves the number of the first program in a prompt; refuses what its budget does not cover."""

    def __init__(
        self, calls: int, responses: int, seed: int = 0, answer: Callable[..., str] | None = None
    ) -> None:
        self.budget = calls
        self.max_responses_per_call = responses
        self.times_used = 0
        self.refused = 0
        self.asked: list[tuple[str, str, float]] = []
        self._answer = answer or moved
        self._random = random.Random(seed)

    @property
    def remaining(self) -> int:
        return self.budget - self.times_used

    def prompt(
        self, expertise: str, message: str, n_responses: int = 1, temperature: float = 0.7
    ) -> list[str]:
        return self.batch_prompt(expertise, [message] * n_responses, temperature)

    def batch_prompt(
        self, expertise: str, message_batch: list[str], temperature: float = 0.7
    ) -> list[str]:
        too_many = len(message_batch) > self.max_responses_per_call
        if too_many or self.times_used >= self.budget:
            self.refused += 1
            raise BudgetSpent("spent")
        self.times_used += 1
        self.asked += [(expertise, message, temperature) for message in message_batch]
        return [self._answer(message, self._random) for message in message_batch]


def distance_score(text: str) -> float:
    found = NUMBER.search(text)
    return -abs(float(found.group(1)) - TARGET) if found else WORST


def first_program(message: str) -> str:
    found = FIRST_BLOCK.search(message)
    assert found is not None, "the prompt shows no program"
    return found.group(1)


def moved(message: str, source: random.Random) -> str:
    """An answer whose number lies near that of the first program in the prompt."""
    found = NUMBER.search(first_program(message))
    number = float(found.group(1)) if found else 0.0
    return f"My idea.\n\n```python\n{program(number + source.gauss(0, 1.5))}\n```\n"


def source_of(name: str) -> str:
    if name in WRITTEN_FOR_TESTS:
        return (PROGRAMS / f"{name}.py").read_text(encoding="utf-8")
    return load_improver(name).source


def improve(
    source: str, utility: FakeUtility, model: FakeModel, *, seed: int = 0, initial: str = START
) -> Any:
    """Run an improver as the sandbox does: its random source seeded, `helpers` at hand."""
    stub = types.ModuleType("helpers")
    stub.__dict__["extract_code"] = extract_code
    scope: dict[str, Any] = {"__name__": "improver"}
    random.seed(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "helpers", stub)
        exec(compile(source, "improver", "exec"), scope)
        return scope[ENTRY_POINT](initial, utility, model)


def run(
    name: str,
    budget: tuple[int, int, int] = (4, 6, 25),
    *,
    seed: int = 0,
    value: Callable[[str], float] | None = None,
    answer: Callable[..., str] | None = None,
) -> tuple[Any, FakeUtility, FakeModel]:
    calls, responses, scores = budget
    utility = FakeUtility(scores, value)
    model = FakeModel(calls, responses, seed, answer)
    return improve(source_of(name), utility, model, seed=seed), utility, model
