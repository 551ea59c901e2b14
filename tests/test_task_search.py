"""The two tasks made here, tsp and sorting_network: instances, scores, limits, verifiers."""

import ast
import copy
import importlib.util
import itertools
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from selftaught.errors import TaskError
from selftaught.pool import ScoreJob
from selftaught.pools.local import LocalPool
from selftaught.solution import Solution
from selftaught.task import Task
from selftaught.utility import InvalidAnswer, Score, Scored, Split, TimedOut

NAMES = ("sorting_network", "tsp")


class InProcess:
    """A candidate that runs here, unlimited: enough to test what a scorer makes of answers."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._names: dict[str, Any] = {}
        exec(compile(source, "<candidate>", "exec"), self._names)

    def call(self, entry_point: str, *args: Any, time_limit_s: float | None = None) -> Any:
        return self._names[entry_point](*copy.deepcopy(args))


class Answering(InProcess):
    """A candidate that always gives the same answer."""

    def __init__(self, answer: Any) -> None:
        super().__init__("")
        self.answer = answer

    def call(self, entry_point: str, *args: Any, time_limit_s: float | None = None) -> Any:
        return self.answer


@cache
def scorer(name: str) -> ModuleType:
    path = Path(Task.load(name).folder) / "utility.py"
    spec = importlib.util.spec_from_file_location(f"scorer_of_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def score(
    reference: str, candidate: InProcess | None = None, split: str = "val", repeat: int = 0
) -> Score:
    task = Task.load(reference)
    result: Score = scorer(reference.partition("?")[0]).score(
        candidate or InProcess(task.initial.source),
        task.split(split),
        task.instance_seed(split, repeat),
        **task.file.parameters,
    )
    return result


TWO_OPT = """
def algorithm(distances):
    n = len(distances)
    left, tour = set(range(1, n)), [0]
    while left:
        row = distances[tour[-1]]
        tour.append(min(left, key=row.__getitem__))
        left.remove(tour[-1])
    improved = True
    while improved:
        improved = False
        for i in range(n - 1):
            a, b = tour[i - 1], tour[i]
            for j in range(i + 1, n):
                c, d = tour[j], tour[(j + 1) % n]
                if c == a or d == b:
                    continue
                saved = distances[a][b] + distances[c][d] - distances[a][c] - distances[b][d]
                if saved > 0:
                    tour[i:j + 1] = tour[i:j + 1][::-1]
                    b, improved = tour[i], True
    return tour
"""

MERGE_EXCHANGE = """
def algorithm(n):
    network, top = [], 1
    while 2 * top < n:
        top *= 2
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while True:
            network += [(i, i + d) for i in range(n - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2
    return network
"""

BUBBLE = """
def algorithm(n):
    return [(i, i + 1) for last in range(n - 1, 0, -1) for i in range(last)]
"""


@pytest.mark.parametrize("name", NAMES)
def test_the_folder_loads_with_all_its_parts(name: str) -> None:
    task = Task.load(name)
    assert task.name == name
    assert task.file.source
    assert task.file.known_flaws
    assert task.file.normalisation.worst == 0.0
    assert (task.file.splits["val"].seed, task.file.splits["test"].seed) == (4321, 5678)
    assert len((Path(task.folder) / "README.md").read_text(encoding="utf-8")) > 1000


@pytest.mark.parametrize("name", NAMES)
def test_the_text_is_code_that_states_call_limits_and_parameters(name: str) -> None:
    task = Task.load(name)
    text = task.utility_text
    ast.parse(text)
    assert "algorithm(" in text
    assert f"{task.file.limits.work} units of work" in text
    assert f"{task.file.limits.time_s:g} seconds of CPU time" in text
    for parameter in task.file.parameters:
        assert "{" + parameter + "}" not in text


@pytest.mark.parametrize("name", NAMES)
def test_the_text_defines_nothing_that_the_solution_defines(name: str) -> None:
    task = Task.load(name)
    defined = [
        {node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)}
        for source in (task.utility_text, task.initial.source)
    ]
    assert not defined[0] & defined[1]


@pytest.mark.parametrize(
    ("changed", "expected"), [("tsp?cities=33", "33"), ("sorting_network?extra_wires=3", "12 + 3")]
)
def test_the_text_follows_the_parameters(changed: str, expected: str) -> None:
    assert expected in Task.load(changed).utility_text
    assert expected not in Task.load(changed.partition("?")[0]).utility_text


@pytest.mark.parametrize(
    ("name", "low", "high"), [("sorting_network", 0.25, 0.4), ("tsp", 0.4, 0.6)]
)
@pytest.mark.parametrize("split", ["val", "test"])
def test_the_initial_solution_scores_and_repeats(
    name: str, split: str, low: float, high: float
) -> None:
    first, second = score(name, split=split), score(name, split=split)
    assert first == second
    assert first.failures == {}
    assert len(first.values) == Task.load(name).file.splits[split].instances
    assert low < first.value < high


@pytest.mark.parametrize("name", NAMES)
def test_the_initial_solution_is_zero_and_the_best_known_one(name: str) -> None:
    task = Task.load(name)
    initial = score(name).value
    assert task.normalise(initial, initial) == 0.0
    assert task.normalise(task.file.normalisation.best, initial) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "source", "least"),
    [("sorting_network", MERGE_EXCHANGE, 0.98), ("sorting_network", BUBBLE, 0.85),
     ("tsp", TWO_OPT, 0.93)],
)  # fmt: skip
@pytest.mark.parametrize("split", ["val", "test"])
def test_a_known_good_program_is_far_better_and_not_above_the_best_known(
    name: str, source: str, least: float, split: str
) -> None:
    value = score(name, InProcess(source), split).value
    assert least < value <= Task.load(name).file.normalisation.best
    assert value > score(name, split=split).value + 0.3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split", ["val", "test"])
def test_the_initial_solution_scores_in_the_sandbox_as_it_does_here(
    name: str, split: str, pool: LocalPool
) -> None:
    task = Task.load(name)
    outcome = pool.score(ScoreJob(task=task, solution=task.initial, split=split))
    assert isinstance(outcome, Scored)
    assert outcome.values == score(name, split=split).values


@pytest.mark.parametrize(
    ("name", "source"), [("sorting_network", MERGE_EXCHANGE), ("tsp", TWO_OPT)]
)
def test_a_good_program_stays_within_the_limits(name: str, source: str, pool: LocalPool) -> None:
    outcome = pool.score(ScoreJob(task=Task.load(name), solution=Solution(source), split="val"))
    assert isinstance(outcome, Scored)
    assert outcome.failures == {}


@pytest.mark.parametrize("name", NAMES)
def test_a_loop_without_end_meets_the_work_limit(name: str, pool: LocalPool) -> None:
    endless = Solution("def algorithm(x):\n    while True:\n        pass\n")
    outcome = pool.score(ScoreJob(task=Task.load(name), solution=endless, split="val"))
    assert isinstance(outcome, TimedOut)
    assert "work limit" in outcome.reason


def rounds(tour: list[int], distances: Any) -> int:
    return sum(int(distances[tour[k - 1]][tour[k]]) for k in range(len(tour)))


def test_tsp_val_test_and_repeats_share_no_instance() -> None:
    task, instance = Task.load("tsp"), scorer("tsp").instance
    seen = {
        instance(task.instance_seed(split, repeat) + i, 20)[0].tobytes()
        for split in ("val", "test")
        for repeat in range(3)
        for i in range(task.file.splits[split].instances)
    }
    per_repeat = sum(task.file.splits[split].instances for split in ("val", "test"))
    assert len(seen) == 3 * per_repeat > 0


def test_tsp_distances_are_symmetric_whole_numbers() -> None:
    distances, rows, _ = scorer("tsp").instance(4321, 20)
    assert distances.shape == (20, 20)
    assert (distances == distances.T).all()
    assert not distances.diagonal().any()
    assert 0 < distances.max() <= 1415
    assert rows == distances.tolist()


def test_tsp_reference_is_the_optimum_where_that_can_be_enumerated() -> None:
    for seed in range(20):
        distances, _, reference = scorer("tsp").instance(seed, 7)
        tours = ([0, *rest] for rest in itertools.permutations(range(1, 7)))
        assert reference == min(rounds(tour, distances) for tour in tours)


def test_tsp_local_moves_end_in_a_tour_that_neither_kind_can_shorten() -> None:
    module = scorer("tsp")
    distances, _, _ = module.instance(99, 20)
    tour = module.descend(distances, np.arange(20))
    assert sorted(tour.tolist()) == list(range(20))
    length = module.length(distances, tour)
    assert length == rounds(tour.tolist(), distances)
    plain = tour.tolist()
    for i, j in itertools.combinations(range(21), 2):
        turned = plain[:i] + plain[i:j][::-1] + plain[j:]
        assert rounds(turned, distances) >= length
        if j - i <= 3:
            block, rest = plain[i:j], plain[:i] + plain[j:]
            for at, piece in itertools.product(range(len(rest)), (block, block[::-1])):
                assert rounds(rest[:at] + piece + rest[at:], distances) >= length


def test_tsp_score_is_reference_over_length() -> None:
    distances, _, reference = scorer("tsp").instance(4321, 20)
    first = score("tsp", Answering(list(range(20)))).values[0]
    assert first == pytest.approx(reference / rounds(list(range(20)), distances))


@pytest.mark.parametrize("cities", [1, 2, 3, 4, 5])
def test_tsp_instances_of_a_few_cities_score_too(cities: int) -> None:
    assert score(f"tsp?cities={cities}", Answering(list(range(cities)))).value > 0.4


def test_tsp_with_more_cities_is_harder_for_the_initial_solution() -> None:
    assert score("tsp?cities=40").value < score("tsp").value - 0.1


TSP_ANSWERS: dict[str, Any] = {
    "nothing": None, "a number": 3, "a text": "0123456789", "too short": list(range(19)),
    "too long": [*range(20), 0], "a row": np.arange(20).reshape(1, 20),
    "a column": np.arange(20).reshape(20, 1), "a city twice": [0, *range(19)],
    "out of range": list(range(1, 21)), "negative": [*range(19), -1],
    "NaN": [*range(19), float("nan")], "a fraction": [*range(19), 18.5],
    "None within": [*range(19), None], "nested": [[k] for k in range(20)],
    "texts within": [str(k) for k in range(20)],
}  # fmt: skip


@pytest.mark.parametrize("answer", TSP_ANSWERS.values(), ids=TSP_ANSWERS)
def test_tsp_refuses_what_is_no_tour(answer: Any) -> None:
    with pytest.raises(InvalidAnswer):
        score("tsp", Answering(answer))


def test_sorting_network_splits_share_no_number_of_wires() -> None:
    task, wires = Task.load("sorting_network"), scorer("sorting_network").wires
    asked = {
        split: [wires(split, task.instance_seed(split, 0) + i) for i in range(4)]
        for split in ("val", "test")
    }
    assert sorted(asked["val"]) == [6, 8, 9, 11]
    assert sorted(asked["test"]) == [5, 7, 10, 12]


def sorted_by_hand(network: list[tuple[int, int]], n: int) -> float:
    good = 0
    for bits in itertools.product((0, 1), repeat=n):
        values = list(bits)
        for i, j in network:
            values[i], values[j] = min(values[i], values[j]), max(values[i], values[j])
        good += int(values == sorted(values))
    return float(good / 2**n)


@pytest.mark.parametrize("n", [4, 5, 6, 8])
def test_sorting_network_share_is_that_of_trying_every_input(n: int) -> None:
    share = scorer("sorting_network").sorted_share
    network: list[tuple[int, int]] = InProcess(BUBBLE).call("algorithm", n)
    for size in range(0, len(network) + 1, 3):
        assert share(network[:size], n) == sorted_by_hand(network[:size], n)
    assert share(network, n) == 1.0


def test_sorting_network_of_the_fewest_comparators_is_worth_one() -> None:
    fewest = [(0, 1), (2, 3), (0, 2), (1, 3), (1, 2)]
    worth = scorer("sorting_network").worth
    assert worth(fewest, 4) == pytest.approx(1.0)
    assert worth([*fewest, (1, 2)], 4) == pytest.approx(0.7 + 0.3 * 5 / 6)


def test_sorting_network_that_sorts_is_worth_more_than_any_that_does_not() -> None:
    worth = scorer("sorting_network").worth
    for n in (5, 8, 12):
        network = InProcess(MERGE_EXCHANGE).call("algorithm", n)
        padded = network + [(0, 1)] * (2 * n * n - len(network))
        assert worth(padded, n) > 0.7 > worth(network[:-1], n) > worth(network[:-4], n)


def test_sorting_network_with_extra_wires_is_harder_up_to_the_sizes_on_record() -> None:
    assert score("sorting_network?extra_wires=4").value < score("sorting_network").value - 0.1
    with pytest.raises(TaskError, match="17 wires"):
        score("sorting_network?extra_wires=5")


NETWORKS: dict[str, Any] = {
    "nothing": None, "a number": 1, "an array of no dimension": np.array(1), "a text": "01",
    "a dict": {0: 1}, "numbers for pairs": [0, 1], "texts for pairs": ["01", "12"],
    "a triple": [(0, 1, 2)], "pairs of unlike length": [(0, 1), (0,)],
    "one level too deep": [[(0, 1)]], "an array one level too deep": np.zeros((1, 2, 1)),
    "a flat array": np.array([0, 1]), "descending": [(1, 0)], "a wire with itself": [(2, 2)],
    "negative": [(-1, 2)], "out of range": [(0, 11)], "NaN": [(0, float("nan"))],
    "infinity": [(0, float("inf"))], "a fraction": [(0, 1.5)], "None within": [(0, None)],
    "too many": [(0, 1)] * 300,
}  # fmt: skip


@pytest.mark.parametrize("answer", NETWORKS.values(), ids=NETWORKS)
def test_sorting_network_refuses_what_is_no_list_of_comparators(answer: Any) -> None:
    with pytest.raises(InvalidAnswer):
        score("sorting_network", Answering(answer))


@pytest.mark.parametrize(
    "answer", [[(0, 1)], [[0, 1]], ((0.0, 1.0),), np.array([[0, 1]]), [np.array([0, 1])]]
)
def test_sorting_network_takes_comparators_in_any_plain_form(answer: Any) -> None:
    assert score("sorting_network", Answering(answer)) == score(
        "sorting_network", Answering([(0, 1)])
    )


def test_an_empty_network_gets_the_share_of_inputs_that_are_sorted_already() -> None:
    module = scorer("sorting_network")
    values = score("sorting_network", Answering([])).values
    expected = [0.7 * (n + 1) / 2**n for n in (module.wires("val", 4321 + i) for i in range(4))]
    assert values == pytest.approx(expected)


def test_an_instance_that_fails_counts_as_the_worst() -> None:
    odd = InProcess("def algorithm(n):\n    return [(0, 1)] if n % 2 else None\n")
    result = scorer("sorting_network").score(odd, Split("val", 4), 4321, extra_wires=0)
    assert result.failures == {"invalid_value": 2}
    assert sorted(result.values)[:2] == [0.0, 0.0]
