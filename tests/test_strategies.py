"""Strategies: found in the shipped improvers, in a labelled set, and in what went into what."""

import pytest

from selftaught.improver import improver_names, load_improver
from selftaught.strategies.classify import strategies_in
from selftaught.strategies.rules import STRATEGIES
from selftaught.strategies.trace import Exchange, strategies_of, trace

SHIPPED = {
    "annealing": {"refinement", "annealing", "caching"},
    "bandit": {"refinement", "bandit", "temperature_schedule", "caching"},
    "beam": {"refinement", "beam", "caching"},
    "best_of_n": {"best_of_n", "caching"},
    "chain_of_thought": {"best_of_n"},
    "decompose": {"refinement", "decomposition", "caching"},
    "genetic": {"refinement", "genetic", "caching"},
    "greedy": {"refinement", "caching"},
    "identity": set(),
    "iid": {"best_of_n", "caching"},
    "seed": {"best_of_n"},
    "sequential": {"refinement", "caching"},
}


@pytest.mark.parametrize("name", improver_names())
def test_shipped_improvers_are_what_their_names_say(name: str) -> None:
    found = strategies_in(load_improver(name).source)
    assert {one.name for one in found} == SHIPPED[name]
    lines = load_improver(name).source.splitlines()
    assert all(1 <= one.line <= len(lines) and one.evidence for one in found)


def test_a_text_that_is_no_program_has_no_strategy() -> None:
    deep = "x = " + "(" * 150 + "1" + ")" * 150
    for text in ("", "def (", "\0", deep, "x = '\\d'", "f" * 200_000):
        assert strategies_in(text) == []


def test_a_huge_text_is_not_read() -> None:
    assert strategies_in("x = [" + "1, " * 30_000 + "]") == []


def test_words_alone_show_nothing() -> None:
    text = '''
"""Beam search with a genetic population, simulated annealing, UCB bandit and tree search."""
beam, population, annealing, children = [], [], 0.5, []


def improve_algorithm(initial_solution, utility, language_model):
    # crossover, mutate, restart, temperature schedule, cache
    return initial_solution
'''
    assert strategies_in(text) == []


def code(name: str) -> str:
    return f"def algorithm(x):\n    return helper_of_{name}(x) + {name!r}"


def exchange(holds: list[str], gives: list[str], temperature: float = 0.7) -> Exchange:
    return Exchange(
        expertise="You are an expert.",
        message="Improve this:\n" + "\n\n".join(code(name) for name in holds),
        temperature=temperature,
        answers=tuple(f"Here:\n```python\n{code(name)}\n```" for name in gives),
    )


def test_independent_answers() -> None:
    asked = [exchange(["start"], ["a", "b"]), exchange(["start"], ["c"])]
    assert trace(asked, code("start")).depth == (0, 0)
    assert set(strategies_of(asked, code("start"))) == {"best_of_n"}


def test_a_line_of_refinements_and_a_new_beginning() -> None:
    asked = [
        exchange(["start"], ["a"]),
        exchange(["a"], ["b"]),
        exchange(["b"], ["c"], 0.9),
        exchange(["start"], ["d"]),
    ]
    seen = trace(asked, code("start"))
    assert seen.parents == ((), ((0, 0),), ((1, 0),), ())
    assert seen.depth == (0, 1, 2, 0)
    found = strategies_of(asked, code("start"))
    assert set(found) == {"refinement", "restarts", "temperature_schedule"}
    assert "2 times in a row" in found["refinement"]


def test_several_kept_side_by_side_and_several_in_one_prompt() -> None:
    wide = [
        exchange(["start"], ["a", "b"]),
        exchange(["a"], ["c"]),
        exchange(["b"], ["d"]),
        exchange(["c"], ["e"]),
        exchange(["d"], ["f"]),
    ]
    assert set(strategies_of(wide, code("start"))) == {"refinement", "beam"}
    merged = [exchange(["start"], ["a", "b"]), exchange(["a", "b"], ["c"])]
    assert set(strategies_of(merged, code("start"))) == {"refinement", "ensembles"}


def test_the_same_answer_twice_is_one_parent() -> None:
    asked = [exchange(["start"], ["a", "a"]), exchange(["a"], ["b"])]
    assert trace(asked, code("start")).parents[1] == ((0, 0),)


def test_names_are_those_of_the_documentation() -> None:
    from pathlib import Path

    page = (Path(__file__).parents[1] / "docs/reference/strategies.md").read_text("utf-8")
    rows = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert rows == [strategy.name for strategy in STRATEGIES]
