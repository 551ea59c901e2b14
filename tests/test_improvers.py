"""What every shipped improver keeps to: its budget, its result, its prompts, its repeatability."""

import random

import pytest
from number_landscape import (
    FIRST_BLOCK,
    NUMBER,
    START,
    UTILITY_TEXT,
    WRITTEN_FOR_TESTS,
    BudgetSpent,
    FakeModel,
    FakeUtility,
    distance_score,
    first_program,
    improve,
    moved,
    program,
    run,
    source_of,
)

from selftaught.improver import ENTRY_POINT, improver_names, load_improver
from selftaught.solution import check_program, extract_code

NAMES = [
    "annealing",
    "bandit",
    "beam",
    "best_of_n",
    "chain_of_thought",
    "decompose",
    "genetic",
    "greedy",
    "identity",
    "iid",
    "seed",
    "sequential",
]
KEEP_THE_INCUMBENT = [n for n in NAMES if n not in ("seed", "iid", "chain_of_thought")]
USE_EVERY_CALL = [n for n in NAMES if n not in ("seed", "identity", "chain_of_thought")]
SURVIVE = [n for n in NAMES if n != "seed"]
SAME_FIRST_MESSAGE = ["seed", "iid", "best_of_n", "greedy", "beam", "annealing", "genetic"]

BUDGETS = [(4, 6, 25), (16, 6, 97), (1, 1, 1), (2, 3, 4)]


def test_the_package_ships_these_improvers() -> None:
    assert improver_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_loads_and_says_what_it_is(name: str) -> None:
    solution = load_improver(name)
    assert solution.entry_point == ENTRY_POINT
    assert solution.source.startswith('"""')
    assert "selftaught" not in solution.source
    assert "Budget: " in solution.source


@pytest.mark.parametrize("name", WRITTEN_FOR_TESTS)
def test_programs_of_published_shape_are_improvers(name: str) -> None:
    assert check_program(source_of(name), ENTRY_POINT, name).source


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("name", NAMES + WRITTEN_FOR_TESTS)
def test_each_returns_a_text_within_its_budget(name: str, budget: tuple[int, int, int]) -> None:
    for seed in range(5):
        result, utility, model = run(name, budget, seed=seed)
        assert isinstance(result, str)
        assert result.strip()
        assert model.refused == 0
        assert utility.over_budget == 0


@pytest.mark.parametrize("name", NAMES + WRITTEN_FOR_TESTS)
def test_the_same_seed_gives_the_same_requests_and_result(name: str) -> None:
    first, utility, model = run(name, seed=3)
    again, utility_again, model_again = run(name, seed=3)
    assert first == again
    assert model.asked == model_again.asked
    assert utility.paid == utility_again.paid


@pytest.mark.parametrize("name", SURVIVE)
def test_no_text_is_scored_twice(name: str) -> None:
    def one_of_three(message: str, source: random.Random) -> str:
        return f"```python\n{program(source.randrange(3))}\n```"

    _, utility, _ = run(name, (16, 6, 97), answer=one_of_three)
    assert len(utility.paid) == len(set(utility.paid))
    assert None not in utility.paid


@pytest.mark.parametrize("name", USE_EVERY_CALL)
def test_every_call_is_used_while_answers_can_be_scored(name: str) -> None:
    for budget in BUDGETS:
        calls, responses, scores = budget
        _, utility, model = run(name, budget)
        most = min(calls * responses, scores)
        assert utility.uses >= most
        assert model.times_used == calls
        assert len(model.asked) <= most


@pytest.mark.parametrize("name", ["seed", "chain_of_thought"])
def test_one_batch_is_all_that_the_single_shot_improvers_ask_for(name: str) -> None:
    for calls, responses, scores in BUDGETS:
        _, utility, model = run(name, (calls, responses, scores))
        assert model.times_used == 1
        assert len(model.asked) == utility.uses == min(responses, scores)


def test_identity_spends_nothing() -> None:
    result, utility, model = run("identity")
    assert (result, utility.uses, model.times_used) == (START, 0, 0)


@pytest.mark.parametrize("name", KEEP_THE_INCUMBENT)
def test_the_result_is_the_best_of_the_initial_solution_and_all_scored(name: str) -> None:
    for seed in range(10):
        result, utility, _ = run(name, seed=seed)
        paid = [text for text in utility.paid if text is not None]
        assert distance_score(result) == max(map(distance_score, [START, *paid]))


@pytest.mark.parametrize("name", ["seed", "iid", "chain_of_thought", "published_seed"])
def test_improvers_without_incumbent_return_their_best_answer_even_if_worse(name: str) -> None:
    def worse(message: str, source: random.Random) -> str:
        return f"```python\n{program(-1 - source.random())}\n```"

    result, utility, _ = run(name, answer=worse)
    paid = [text for text in utility.paid if text is not None]
    assert result == max(paid, key=distance_score)
    assert distance_score(result) < distance_score(START)


@pytest.mark.parametrize("name", KEEP_THE_INCUMBENT)
def test_the_initial_solution_wins_where_every_answer_fails(name: str) -> None:
    result, _, _ = run(name, answer=lambda message, source: f"```python\n{source.random()}\n```")
    assert result == START


@pytest.mark.parametrize("answer", ["I have no idea.", "", "```python\n```", "```python\n  \n```"])
@pytest.mark.parametrize("name", SURVIVE)
def test_answers_without_code_leave_the_initial_solution(name: str, answer: str) -> None:
    result, utility, model = run(name, answer=lambda message, source: answer)
    assert result == START
    assert utility.uses == 0
    assert model.refused == 0


def test_the_seed_fails_as_published_where_no_answer_holds_code() -> None:
    result, utility, _ = run("seed", answer=lambda message, source: "I have no idea.")
    assert result is None
    assert utility.paid == [None] * 6


@pytest.mark.parametrize("name", [*SURVIVE, "dynamic_temperature"])
def test_some_answers_without_code_do_no_harm(name: str) -> None:
    def patchy(message: str, source: random.Random) -> str:
        return moved(message, source) if source.random() < 0.5 else "I have no idea."

    for seed in range(10):
        result, utility, model = run(name, seed=seed, answer=patchy)
        assert NUMBER.search(result)
        assert model.refused == utility.over_budget == 0


@pytest.mark.parametrize("name", SURVIVE)
def test_one_answer_given_again_and_again_is_paid_for_once(name: str) -> None:
    answer = f"```python\n{program(1)}\n```"
    result, utility, _ = run(name, answer=lambda message, source: answer)
    assert result == (START if name == "identity" else program(1))
    assert utility.uses == (0 if name == "identity" else 1)


@pytest.mark.parametrize("name", KEEP_THE_INCUMBENT)
def test_the_initial_solution_given_back_is_not_paid_for(name: str) -> None:
    result, utility, _ = run(name, answer=lambda message, source: f"```python\n{START}\n```")
    assert result == START
    assert utility.uses == 0


@pytest.mark.parametrize("name", SURVIVE)
def test_a_model_that_refuses_at_once_leaves_the_initial_solution(name: str) -> None:
    utility, model = FakeUtility(25), FakeModel(0, 6)
    model.budget = 4
    model.times_used = 4
    assert improve(source_of(name), utility, model) == START
    assert model.refused <= 1


@pytest.mark.parametrize("name", USE_EVERY_CALL)
def test_a_model_that_refuses_later_leaves_the_best_so_far(name: str) -> None:
    utility, model = FakeUtility(25), FakeModel(2, 6)
    model.budget = 2
    model.times_used = 1
    result = improve(source_of(name), utility, model)
    assert model.refused == 1
    assert result in utility.paid or result == START


def test_a_model_that_refuses_ends_the_seed() -> None:
    utility, model = FakeUtility(25), FakeModel(4, 6)
    model.times_used = 4
    with pytest.raises(BudgetSpent):
        improve(source_of("seed"), utility, model)


@pytest.mark.parametrize("name", NAMES + WRITTEN_FOR_TESTS)
def test_scores_of_equal_value_are_no_obstacle(name: str) -> None:
    result, utility, model = run(name, (16, 6, 97), value=lambda text: 0.5)
    assert NUMBER.search(result)
    if name in KEEP_THE_INCUMBENT:
        assert result == START
    assert model.refused == utility.over_budget == 0


@pytest.mark.parametrize("name", [n for n in NAMES if n != "identity"])
def test_every_prompt_shows_a_known_program_first_and_then_the_utility(name: str) -> None:
    _, utility, model = run(name, (16, 6, 97), seed=1)
    known = {START, *utility.paid}
    for expertise, message, temperature in model.asked:
        assert first_program(message) in known
        assert FIRST_BLOCK.findall(message)[1] == UTILITY_TEXT
        assert message.count("```python\n") * 2 == message.count("```")
        assert expertise.startswith("You are an expert computer science researcher")
        assert 0 < temperature <= 1


def test_the_initial_prompt_is_the_same_text_where_only_the_strategy_differs() -> None:
    first = {run(name)[2].asked[0] for name in SAME_FIRST_MESSAGE}
    assert len(first) == 1


@pytest.mark.parametrize("subject", NAMES)
@pytest.mark.parametrize("name", [n for n in NAMES if n != "identity"])
def test_an_improver_shows_an_improver_whole_though_it_holds_fences(
    name: str, subject: str
) -> None:
    text = source_of(subject)
    utility, model = FakeUtility(25), FakeModel(1, 1)
    improve(source_of(name), utility, model, initial=text)
    ((_, message, _),) = model.asked
    head, separator, tail = message.partition(f"```python\n{text}\n```\n")
    assert separator
    assert "```" not in head
    assert tail.lstrip().startswith("This utility decides")


@pytest.mark.parametrize("name", NAMES + WRITTEN_FOR_TESTS)
def test_an_improver_can_be_read_back_from_an_answer(name: str) -> None:
    text = source_of(name).strip("\n")
    assert extract_code(f"An idea.\n\n```python\n{text}\n```\nThat is all.") == text
