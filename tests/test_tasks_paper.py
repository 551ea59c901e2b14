"""The paper's six tasks: instances, verifiers, parameters, known-good solvers."""

import copy
import importlib.util
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from selftaught.pool import ScoreJob
from selftaught.pools.local import LocalPool
from selftaught.solution import Solution
from selftaught.task import Task
from selftaught.utility import InvalidAnswer, Score, Scored, Split, kind

# Instances of val and test, as published.
COUNTS = {
    "maxcut": (100, 100), "modified_quadratic_assignment": (10, 10), "parity_noise": (20, 50),
    "parity_noiseless": (20, 20), "str_grid_dist": (50, 50), "three_sat": (30, 30),
}  # fmt: skip
TASKS = sorted(COUNTS)
# Small enough for the initial solution to be quick, where the defaults are not.
QUICK: dict[str, dict[str, Any]] = {"maxcut": {"smallest": 10, "largest": 20}}
HARDER: dict[str, dict[str, Any]] = {
    "maxcut": {"smallest": 60, "largest": 60}, "modified_quadratic_assignment": {"size": 20},
    "parity_noise": {"bits": 20, "noise": 0.1}, "parity_noiseless": {"bits": 20},
    "str_grid_dist": {"longest": 60}, "three_sat": {"fewest": 60, "most": 60},
}  # fmt: skip


class InProcess:
    """Calls trusted test programs here; every call gets its own copy of the arguments."""

    def __init__(self, program: str | Callable[..., Any]) -> None:
        self.source = program if isinstance(program, str) else ""
        self.calls: list[tuple[Any, ...]] = []
        self._names: dict[str, Any] = {"algorithm": program}
        if isinstance(program, str):
            exec(program, self._names)

    def call(self, entry_point: str, *args: Any, time_limit_s: float | None = None) -> Any:
        self.calls.append(args)
        random.seed(len(self.calls))
        np.random.seed(len(self.calls))
        return self._names[entry_point](*copy.deepcopy(args))


@cache
def scorer(name: str) -> ModuleType:
    path = Path(Task.load(name).folder) / "utility.py"
    spec = importlib.util.spec_from_file_location(f"scorer_of_{name}", path)
    assert spec is not None and spec.loader is not None  # noqa: PT018 - no test's own claim
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(
    name: str,
    program: str | Callable[..., Any],
    split: str = "val",
    instances: int | None = None,
    **parameters: Any,
) -> tuple[Score, InProcess]:
    task = Task.load(name, **parameters)
    candidate = InProcess(program)
    part = Split(split, instances or task.file.splits[split].instances)
    seed = task.instance_seed(split, 0)
    score = scorer(name).score(candidate, part, seed, **task.file.parameters)
    assert isinstance(score, Score)
    return score, candidate


# Known-good solvers, one for each task.

ELIMINATION = """
def algorithm(train_samples, train_parity, test_samples):
    rows = [[*map(int, s), int(p)] for s, p in zip(train_samples, train_parity)]
    n, leads = len(rows[0]) - 1, []
    for column in range(n):
        at = len(leads)
        lead = next((r for r in range(at, len(rows)) if rows[r][column]), None)
        if lead is None:
            continue
        rows[at], rows[lead] = rows[lead], rows[at]
        for r in range(len(rows)):
            if r != at and rows[r][column]:
                rows[r] = [a ^ b for a, b in zip(rows[r], rows[at])]
        leads.append(column)
    subset = [0] * n
    for row, column in zip(rows, leads):
        subset[column] = row[n]
    return [sum(int(b) * s for b, s in zip(sample, subset)) % 2 for sample in test_samples]
"""

VOTING = """
import numpy as np

def algorithm(train_samples, train_parity, test_samples):
    bits = train_samples.shape[1]
    subsets = (np.arange(2**bits)[None, :] >> np.arange(bits)[:, None]) & 1
    right = (train_samples @ subsets % 2 == train_parity[:, None]).sum(axis=0)
    return test_samples @ subsets[:, right.argmax()] % 2
"""

GRID = """
def algorithm(t, dist):
    # The strings that end in each letter at each distance so far, one for each.
    left = dist - sum(a != b for a, b in zip(t, t[1:]))
    found = {("A", int(t[0] != "A")): "A", ("B", int(t[0] != "B")): "B"}
    for letter in t[1:]:
        found = {
            (new, d + (new != letter) + (new != last)): s + new
            for (last, d), s in found.items() for new in "AB"
        }
    return next(s for (_, d), s in found.items() if d == left)
"""

ASSIGNMENT = """
import random
import numpy as np

def algorithm(F, D, P):
    n = len(F)
    def value(a):
        return (F * D[np.ix_(a, a)]).sum() - 0.5 * P[range(n), a].sum()
    best, best_value = None, -1.0
    for start in range(6):
        a = random.sample(range(n), n)
        now, better = value(a), True
        while better:
            better = False
            for i in range(n):
                for j in range(i):
                    b = a[:]
                    b[i], b[j] = b[j], b[i]
                    other = value(b)
                    if other > now + 1e-12:
                        a, now, better = b, other, True
        if now > best_value:
            best, best_value = a, now
    return best
"""

WALKSAT = """
import random

def algorithm(formula):
    n = max(abs(v) for c in formula for v in c)
    value = [random.random() < 0.5 for _ in range(n + 1)]
    uses = [[c for c in formula if v in c or -v in c] for v in range(n + 1)]
    def broken(clauses):
        return [c for c in clauses if not any(value[abs(v)] == (v > 0) for v in c)]
    def broken_after(v):
        value[v] = not value[v]
        count = len(broken(uses[v]))
        value[v] = not value[v]
        return count
    for _ in range(3000):
        todo = broken(formula)
        if not todo:
            break
        names = [abs(v) for v in random.choice(todo)]
        v = random.choice(names) if random.random() < 0.3 else min(names, key=broken_after)
        value[v] = not value[v]
    return value
"""

CUT = """
import numpy as np

def algorithm(adjacency):
    side = np.arange(len(adjacency)) % 2 * 2 - 1
    while True:
        gain = side * (adjacency @ side)
        best = gain.argmax()
        if gain[best] <= 0:
            return ((side + 1) // 2).tolist()
        side[best] = -side[best]
"""

SOLVERS = {
    "maxcut": (CUT, 0.58),
    "modified_quadratic_assignment": (ASSIGNMENT, 0.26),
    "parity_noise": (VOTING, 1.0),
    "parity_noiseless": (ELIMINATION, 1.0),
    "str_grid_dist": (GRID, 1.0),
    "three_sat": (WALKSAT, 0.95),
}


@pytest.mark.parametrize("name", TASKS)
def test_seeds_and_counts_are_the_published_ones(name: str) -> None:
    val, test = (Task.load(name).file.splits[split] for split in ("val", "test"))
    assert (val.seed, test.seed) == (4321, 5678)
    assert (val.instances, test.instances) == COUNTS[name]


@pytest.mark.parametrize("name", TASKS)
def test_the_initial_solution_scores_and_repeats(name: str) -> None:
    task, few = Task.load(name), QUICK.get(name, {})
    first, _ = run(name, task.initial.source, **few)
    again, _ = run(name, task.initial.source, **few)
    assert first == again
    assert not first.failures
    assert task.file.normalisation.worst < first.value <= 1.0
    assert task.normalise(first.value, first.value) == 0


@pytest.mark.parametrize("name", TASKS)
def test_val_and_test_share_no_instance_and_instances_repeat(name: str) -> None:
    initial, few = Task.load(name).initial.source, QUICK.get(name, {})
    shown = {}
    for split in ("val", "test", "val again"):
        _, candidate = run(name, initial, split.split()[0], 5, **few)
        shown[split] = [repr([np.asarray(a).tolist() for a in args]) for args in candidate.calls]
    assert shown["val"] == shown["val again"]
    assert len(set(shown["val"] + shown["test"])) == 10


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("name", TASKS)
def test_a_known_good_solver_scores_high_and_not_above_best(name: str, split: str) -> None:
    task = Task.load(name)
    program, least = SOLVERS[name]
    score, _ = run(name, program, split)
    assert not score.failures
    assert least <= score.value <= task.file.normalisation.best


ANY_BAD: list[Any] = [
    None, float("nan"), 1, "0", {}, b"01", [], np.zeros(()), np.array([0.5]), set(),
]  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("answer", ANY_BAD, ids=repr)
def test_no_task_takes_what_is_no_answer_at_all(name: str, answer: Any) -> None:
    with pytest.raises(InvalidAnswer) as caught:
        run(name, lambda *args: answer, instances=1)
    assert kind(caught.value.outcome) == "invalid_value"


BITS: dict[str, Callable[[int], Any]] = {
    "a row": lambda n: np.zeros((1, n), dtype=int), "a column": lambda n: np.zeros((n, 1)),
    "a square": lambda n: np.zeros((n, n)), "complex": lambda n: np.zeros(n, dtype=complex),
    "one too few": lambda n: [0] * (n - 1), "one too many": lambda n: [0] * (n + 1),
    "NaN": lambda n: [0] * (n - 1) + [float("nan")], "infinity": lambda n: np.full(n, np.inf),
    "a half": lambda n: [0.5] * n, "two": lambda n: [2] * n, "minus one": lambda n: [-1] * n,
    "a huge number": lambda n: [10**5000] * n, "None": lambda n: [0] * (n - 1) + [None],
    "nested": lambda n: [[0]] * n, "digits": lambda n: ["0"] * n, "a string": lambda n: "0" * n,
    "a dict": lambda n: dict.fromkeys(range(n), 0),
}  # fmt: skip
LENGTHS: dict[str, Callable[..., int]] = {
    "maxcut": len,
    "parity_noise": lambda train, parity, test: len(test),
    "parity_noiseless": lambda train, parity, test: len(test),
    "three_sat": lambda formula: max(abs(v) for c in formula for v in c) + 1,
}


@pytest.mark.parametrize("name", sorted(LENGTHS))
@pytest.mark.parametrize("bad", sorted(BITS))
def test_zeros_and_ones_of_another_shape_or_kind_are_refused(name: str, bad: str) -> None:
    with pytest.raises(InvalidAnswer):
        run(name, lambda *args: BITS[bad](LENGTHS[name](*args)), instances=1)


@pytest.mark.parametrize("name", sorted(LENGTHS))
@pytest.mark.parametrize(
    "make",
    [list, tuple, np.array, lambda b: np.array(b) == 1],
    ids=["list", "tuple", "array", "booleans"],
)
def test_lists_tuples_arrays_and_booleans_are_taken(name: str, make: Callable[..., Any]) -> None:
    score, _ = run(name, lambda *args: make([0, 1] * 200)[: LENGTHS[name](*args)], instances=4)
    assert not score.failures


@pytest.mark.parametrize(
    "order",
    [
        [0] * 15, [0, *range(14)], range(1, 16), [-1, *range(1, 15)], [*range(14)], [*range(16)],
        [0.5, *range(1, 15)], [float("nan"), *range(1, 15)], [None, *range(1, 15)],
        [[0], *range(1, 15)], ["0", *range(1, 15)], [*range(15), 14], np.arange(15)[None, :],
        np.arange(15)[:, None], np.eye(15), np.full(15, np.inf),
    ],
    ids=lambda order: str(order)[:40],
)  # fmt: skip
def test_an_assignment_must_be_a_permutation(order: Any) -> None:
    with pytest.raises(InvalidAnswer):
        run("modified_quadratic_assignment", lambda *args: order)


@pytest.mark.parametrize(
    "change",
    [str.lower, list, str.encode, lambda t: t + "A", lambda t: t[1:], lambda t: "C" * len(t)],
    ids=["lower case", "letters", "bytes", "longer", "shorter", "other letters"],
)
def test_a_grid_string_must_be_letters_a_and_b_of_the_right_length(
    change: Callable[[str], Any],
) -> None:
    with pytest.raises(InvalidAnswer):
        run("str_grid_dist", lambda t, dist: change(t))


def test_strings_and_cuts_are_worth_what_the_formulas_say() -> None:
    grid = scorer("str_grid_dist")
    assert grid.grid_dist("ABBA", "AAAA") == 2 + 2 + 0
    assert grid.worth("ABBA", "AAAA", 4) == 1.0
    assert grid.worth("ABBA", "AAAA", 7) == 0.5 - 3 / 24
    triangle = np.array([[0, 1, 2], [1, 0, 4], [2, 4, 0]])
    assert scorer("maxcut").cut_share(triangle, [0, 0, 1]) == 6 / 7
    assert scorer("maxcut").cut_share(np.zeros((2, 2), dtype=int), [0, 1]) == 0


def test_an_assignment_is_worth_what_the_published_formula_says() -> None:
    flows, distances, preferences = np.random.default_rng(1).random((3, 4, 4))
    a = [2, 0, 3, 1]
    cost = sum(flows[i, j] * distances[a[i], a[j]] for i in range(4) for j in range(4))
    cost -= 0.5 * sum(preferences[i, a[i]] for i in range(4))
    qap = scorer("modified_quadratic_assignment")
    assert qap.objective(flows, distances, preferences, a) == pytest.approx(cost / 16)


def test_formulas_have_four_clauses_of_three_different_variables_for_each_variable() -> None:
    for seed in range(4321, 4351):
        n, formula = scorer("three_sat").instance(seed, 5, 50, 4.0)
        assert 5 <= n <= 50
        assert len(formula) == 4 * n
        assert all(len({abs(v) for v in c}) == 3 and 0 not in c for c in formula)


def test_an_assignment_that_breaks_a_clause_earns_a_hundredth_and_element_0_nothing() -> None:
    score, _ = run("three_sat", lambda f: [None] + [0] * (LENGTHS["three_sat"](f) - 1))
    assert set(score.values) <= {0.01, 1.0}
    assert 0.01 in score.values


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("parity_noise", 0.03, 0.07),
        ("parity_noiseless", 0.0, 0.0),
    ],
)
def test_as_many_training_parities_are_wrong_as_the_task_says(
    name: str, low: float, high: float
) -> None:
    _, candidate = run(name, VOTING)
    solver = InProcess(VOTING)
    wrong = []
    for x, y, z in candidate.calls:
        assert (x.shape, y.shape, z.shape) == ((100, 10), (100,), (20, 10))
        wrong.append(np.mean(solver.call("algorithm", x, y, x) != y))
    assert low <= np.mean(wrong) <= high


@pytest.mark.parametrize("name", TASKS)
def test_parameters_change_the_instances_and_the_text(name: str) -> None:
    task = Task.load(name)
    harder = Task.load(name, **HARDER[name])
    assert set(task.file.parameters) >= set(HARDER[name])
    assert harder.utility_text != task.utility_text
    assert harder.digest != task.digest

    def sizes(**parameters: Any) -> list[int]:
        _, candidate = run(name, SOLVERS[name][0], instances=1, **parameters)
        return [a if isinstance(a, int) else int(np.size(list(a))) for a in candidate.calls[0]]

    # Voting over the subsets of 20 bits would take long.
    assert sizes(**({"bits": 12} if "bits" in HARDER[name] else HARDER[name])) != sizes()


@pytest.mark.parametrize("name", TASKS)
def test_the_text_states_every_parameter_the_limit_and_the_call(name: str) -> None:
    task = Task.load(name)
    raw = (Path(task.folder) / "utility.str").read_text(encoding="utf-8")
    for parameter, value in task.file.parameters.items():
        assert "{" + parameter + "}" in raw
        assert str(value) in task.utility_text
    assert f"{task.file.limits.time_s:g} seconds" in task.utility_text
    assert "algorithm(" in task.utility_text


def test_in_the_sandbox_a_good_parity_solver_gets_everything(pool: LocalPool) -> None:
    task = Task.load("parity_noise")
    outcome = pool.score(ScoreJob(task=task, solution=Solution(VOTING, "algorithm"), split="val"))
    assert isinstance(outcome, Scored)
    assert outcome.value == 1.0


def test_in_the_sandbox_an_overrun_costs_its_instance_alone(pool: LocalPool) -> None:
    source = "def algorithm(a):\n    while len(a) > 190: pass\n    return [i % 2 for i in range(len(a))]\n"
    solution = Solution(source, "algorithm")
    outcome = pool.score(ScoreJob(task=Task.load("maxcut"), solution=solution, split="val"))
    assert isinstance(outcome, Scored)
    assert set(outcome.failures) == {"timed_out"}
    assert outcome.values.count(0.0) == outcome.failures["timed_out"] < 20
