"""What tells the shipped improvers apart: each follows its strategy, and search pays."""

import itertools
import random
import re
import statistics

import pytest
from number_landscape import (
    FIRST_BLOCK,
    NUMBER,
    START,
    TARGET,
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

from selftaught.improver import improver_names


def test_search_beats_sampling_and_sampling_beats_one_batch_on_a_smooth_landscape() -> None:
    def mean(name: str) -> float:
        return statistics.fmean(distance_score(run(name, seed=seed)[0]) for seed in range(60))

    means = {name: mean(name) for name in improver_names()}
    assert means["greedy"] > means["best_of_n"] + 1
    assert means["best_of_n"] > means["seed"] + 0.5
    assert means["seed"] > means["identity"] + 1
    for name in ("sequential", "beam", "genetic", "annealing", "bandit", "decompose"):
        assert means[name] > means["best_of_n"], name


def test_incumbent_and_number_of_samples_are_told_apart() -> None:
    """With equal answers, iid and best of n end on the same program where it beats the initial."""
    for seed in range(20):
        sampled, best = run("iid", seed=seed)[0], run("best_of_n", seed=seed)[0]
        assert best == max(sampled, START, key=distance_score)


def test_annealing_leaves_a_better_program_at_times_and_returns_it_in_the_end() -> None:
    steps_down = 0
    for seed in range(40):
        result, _, model = run("annealing", seed=seed)
        starts = list(dict.fromkeys(first_program(message) for _, message, _ in model.asked))
        scores = list(map(distance_score, starts))
        steps_down += sum(later < earlier for earlier, later in itertools.pairwise(scores))
        assert distance_score(result) >= max(scores)
    assert steps_down > 0


def test_annealing_cools() -> None:
    """Where every move is for the worse, early calls accept more of them than late ones."""

    def always_worse(message: str, source: random.Random) -> str:
        number = distance_score(first_program(message)) + TARGET
        return f"```python\n{program(number - source.uniform(0.1, 1))}\n```"

    early = late = 0
    for seed in range(40):
        _, _, model = run("annealing", (16, 6, 97), seed=seed, answer=always_worse)
        starts = [first_program(message) for _, message, _ in model.asked[::6]]
        moves = [before != after for before, after in itertools.pairwise(starts)]
        early, late = early + sum(moves[:5]), late + sum(moves[-5:])
    assert early > 2 * late > 0


def test_annealing_never_moves_to_the_lowest_score_seen() -> None:
    """Failures and one fine program: a move to a failure would waste the rest of the budget."""

    def mostly_failing(message: str, source: random.Random) -> str:
        return f"```python\nbroken = {source.random()}\n```"

    for seed in range(20):
        _, _, model = run("annealing", (16, 6, 97), seed=seed, answer=mostly_failing)
        assert {first_program(message) for _, message, _ in model.asked} == {START}


@pytest.mark.parametrize("name", ["beam", "genetic"])
def test_failures_never_become_parents(name: str) -> None:
    def half_broken(message: str, source: random.Random) -> str:
        if source.random() < 0.5:
            return f"```python\nbroken = {source.random()}\n```"
        return moved(message, source)

    for seed in range(10):
        _, _, model = run(name, (16, 6, 97), seed=seed, answer=half_broken)
        assert all("broken" not in message for _, message, _ in model.asked)


def test_beam_improves_several_programs_side_by_side() -> None:
    _, _, model = run("beam", (2, 6, 25))
    assert len({first_program(message) for _, message, _ in model.asked[6:]}) == 3


def test_genetic_shows_a_second_parent_with_its_score_after_the_first() -> None:
    _, _, model = run("genetic", (16, 6, 97))
    crossings = [message for _, message, _ in model.asked if "Another program" in message]
    assert 10 < len(crossings) < 80
    for message in crossings:
        parent, _, mate = FIRST_BLOCK.findall(message)
        assert parent != mate
        assert f"{distance_score(mate):.6g}" in message


def test_sequential_shows_earlier_attempts_with_scores_outcomes_and_feedback() -> None:
    _, utility, model = run("sequential")
    last = model.asked[-1][1]
    best, _, *attempts = FIRST_BLOCK.findall(last)
    earlier = [text for text in [START, *utility.paid[:18]] if text is not None]
    assert best == max(earlier, key=distance_score)
    assert attempts == [text for text in earlier if text != best][-6:]
    for text in attempts:
        assert f"Score {distance_score(text):.6g} (scored as expected)" in last


def test_bandit_comes_to_prefer_the_wording_that_pays() -> None:
    def obeys_one_wording(message: str, source: random.Random) -> str:
        if "tune its constants" in message:
            return moved(message, source)
        return f"```python\nbroken = {source.random()}\n```"

    _, _, model = run("bandit", (16, 6, 97), answer=obeys_one_wording)
    tuned = sum("tune its constants" in message for _, message, _ in model.asked)
    assert tuned > 0.3 * len(model.asked)
    assert {temperature for _, _, temperature in model.asked} == {0.4, 0.7, 1.0}


class OnlyColdAnswersHelp(FakeModel):
    """Answers without code unless the temperature is 0.4."""

    def batch_prompt(
        self, expertise: str, message_batch: list[str], temperature: float = 0.7
    ) -> list[str]:
        answers = super().batch_prompt(expertise, message_batch, temperature)
        return answers if temperature == 0.4 else ["I have no idea."] * len(answers)


def test_bandit_comes_to_prefer_the_temperature_that_pays() -> None:
    model = OnlyColdAnswersHelp(16, 6)
    improve(source_of("bandit"), FakeUtility(97), model)
    assert sum(temperature == 0.4 for _, _, temperature in model.asked) > 6 * 16 / 2


def two_parts(left: int, right: int) -> str:
    return (
        f"import math\n\n\ndef left():\n    return {left}\n\n\n"
        f"@repeat({right})\ndef right():\n    return {right}\n\n\nOTHER = 3"
    )


def sum_of_numbers(text: str) -> float:
    return sum(float(number) for number in NUMBER.findall(text))


def raise_one_part(message: str, source: random.Random) -> str:
    left, right = (int(number) for number in NUMBER.findall(first_program(message)))
    left, right = (left + 1, right) if "part of it: left." in message else (left, right + 1)
    return f"```python\n{two_parts(left, right)}\n```"


def test_decompose_joins_the_parts_that_got_better() -> None:
    utility = FakeUtility(25, sum_of_numbers)
    model = FakeModel(1, 2, answer=raise_one_part)
    result = improve(source_of("decompose"), utility, model, initial=two_parts(0, 0))
    assert result == two_parts(1, 1)
    assert utility.uses == 3


def test_decompose_joins_nothing_that_it_cannot_score() -> None:
    utility = FakeUtility(2, sum_of_numbers)
    model = FakeModel(1, 2, answer=raise_one_part)
    result = improve(source_of("decompose"), utility, model, initial=two_parts(0, 0))
    assert result in (two_parts(1, 0), two_parts(0, 1))
    assert (utility.uses, utility.over_budget) == (2, 0)


def test_decompose_goes_on_with_the_next_part_in_the_next_call() -> None:
    text = "\n\n\n".join(f"def part_{i}():\n    return {i}" for i in range(3))
    model = FakeModel(2, 2, answer=lambda message, source: "I have no idea.")
    improve(source_of("decompose"), FakeUtility(25), model, initial=text)
    asked = [re.findall(r"this part of it: (\w+)\.", message)[0] for _, message, _ in model.asked]
    assert asked == ["part_0", "part_1", "part_2", "part_0"]


def test_decompose_joins_blocks_of_a_lone_function_that_grew() -> None:
    loop, choice = "    for i in x:\n        x = 0\n", "    if x:\n        x = 0\n"
    longer_loop, longer_choice = loop + "        x += 1\n", choice + "        x += 1\n"

    def whole(first: str, second: str) -> str:
        return f"def algorithm(x):\n{first}{second}    return x"

    def raise_one_block(message: str, source: random.Random) -> str:
        if "of it: the for block" in message:
            return f"```python\n{whole(longer_loop, choice)}\n```"
        if "of it: the if block" in message:
            return f"```python\n{whole(loop, longer_choice)}\n```"
        return "I have no idea."

    utility = FakeUtility(25, lambda candidate: float(candidate.count("1")))
    model = FakeModel(1, 3, answer=raise_one_block)
    result = improve(source_of("decompose"), utility, model, initial=whole(loop, choice))
    assert result == whole(longer_loop, longer_choice)


def test_decompose_does_not_join_a_part_with_another_that_lies_in_it() -> None:
    text = "def algorithm(x):\n    for i in x:\n        x = i\n    return 0"

    def both_better(message: str, source: random.Random) -> str:
        if "the for block" in message:
            return f"```python\n{text.replace('x = i', 'x = i' + chr(10) + '        x += 1')}\n```"
        return f"```python\n{text.replace('return 0', 'return 1')}\n```"

    utility = FakeUtility(25, lambda candidate: float(candidate.count("1")))
    result = improve(
        source_of("decompose"), utility, FakeModel(1, 2, answer=both_better), initial=text
    )
    assert utility.uses == 2
    assert result in utility.paid


def test_decompose_takes_the_blocks_of_a_lone_function_as_its_parts() -> None:
    text = (
        "def algorithm(x):\n    for i in x:\n        x = i\n    if x:\n        x = 1\n    return x"
    )
    model = FakeModel(1, 4, answer=lambda message, source: f"```python\n{text}\n```")
    improve(source_of("decompose"), FakeUtility(25), model, initial=text)
    parts = [re.search(r"this part of it: (.*?)\. ", message) for _, message, _ in model.asked]
    assert [found.group(1) for found in parts if found] == [
        "algorithm",
        "the for block that begins in line 2",
        "the if block that begins in line 4",
        "algorithm",
    ]


def test_decompose_works_on_texts_that_are_no_python() -> None:
    model = FakeModel(2, 3)
    text = "fn algorithm() { return 1.0 }"
    result = improve(source_of("decompose"), FakeUtility(25), model, initial=text)
    assert "costs most of the score" in model.asked[0][1]
    assert distance_score(result) > distance_score(START)


def test_the_published_style_improver_adapts_its_temperature() -> None:
    cold = {t for _, _, t in run("dynamic_temperature")[2].asked}
    stuck = run("dynamic_temperature", answer=lambda message, source: f"```python\n{START}\n```")
    hot = {t for _, _, t in stuck[2].asked}
    assert min(cold) < 0.7
    assert max(hot) > 0.9
