"""Solutions, fences, budgets, outcomes: the words everything else is written in."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftaught.budget import Account, Budget, RunLimits
from selftaught.errors import BudgetSpent, SolutionError, UsageError
from selftaught.solution import MAX_SOURCE_CHARS, Solution, check_program, extract_code
from selftaught.utility import (
    FAILURES,
    Failed,
    InvalidAnswer,
    InvalidValue,
    Score,
    Scored,
    Split,
    TimedOut,
    kind,
    number,
    over_instances,
    scored,
)

IMPROVER = '''def improve_algorithm(s, u, l):
    message = f"""Improve:
```python
{s}
```
Score:
```python
{u.str}
```
"""
    code = l.prompt("", message)[0].split("```python")[1].split("```")[0]
    return code'''


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("```python\nx = 1\n```", "x = 1"),
        ("Idea.\n\n```py\nx = 1\n```\nDone.", "x = 1"),
        ("```\nx = 1\n```", "x = 1"),
        ("```python\nx = 1\n```\n```python\ny = 22222\n```", "y = 22222"),
        ("```python\nx = 1", "x = 1"),
        ("no code at all", None),
        ("", None),
        (None, None),
        (3, None),
        (f"Here:\n```python\n{IMPROVER}\n```\nEnd.", IMPROVER),
        ("```python\ns = '```'\n```", "s = '```'"),
    ],
)
def test_the_largest_block_is_found_by_nesting(answer: object, code: str | None) -> None:
    assert extract_code(answer) == code


def test_a_list_gives_a_list() -> None:
    assert extract_code(["```\na = 1\n```", "nothing", None]) == ["a = 1", None, None]


@given(st.text(alphabet="`pyx =\n1", max_size=60))
def test_no_text_breaks_the_extraction(text: str) -> None:
    found = extract_code(text)
    assert found is None or isinstance(found, str)


def test_a_solution_is_named_by_its_text() -> None:
    assert Solution("x = 1").hash == Solution("x = 1", "other").hash != Solution("x = 2").hash
    assert len(Solution("").hash) == 16


@pytest.mark.parametrize("bad", [None, 3, "", "  \n", "x" * (MAX_SOURCE_CHARS + 1), "\ud800"])
def test_what_cannot_be_a_solution_is_refused(bad: object) -> None:
    with pytest.raises(SolutionError):
        Solution.admit(bad, "algorithm")


def test_a_program_needs_its_entry_point() -> None:
    assert check_program("def f(): pass", "f", "x").entry_point == "f"
    assert check_program("f = lambda: 0", "f", "x").entry_point == "f"
    with pytest.raises(SolutionError, match=r"does not define g\(\).*found: f"):
        check_program("def f(): pass", "g", "x")
    with pytest.raises(SolutionError, match="line 1"):
        check_program("def f(:", "f", "x")


@pytest.mark.parametrize("field", ["calls", "responses", "utility_calls"])
def test_a_budget_of_nothing_is_refused(field: str) -> None:
    with pytest.raises(UsageError, match=f"--{field.replace('_', '-')} must be at least 1"):
        Budget(**{field: 0})


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="--wall"):
        RunLimits(wall_s=0)


def test_an_account_gives_exactly_what_it_holds_to_many_threads() -> None:
    account = Account(Budget(calls=50, responses=2, utility_calls=70))
    got = {"calls": 0, "scores": 0}
    lock = threading.Lock()

    def spend() -> None:
        for _ in range(40):
            for name, charge in (
                ("calls", lambda: account.charge_call(2)),
                ("scores", account.charge_utility_call),
            ):
                try:
                    charge()
                except BudgetSpent:
                    continue
                with lock:
                    got[name] += 1

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {"calls": 50, "scores": 70}
    assert (account.calls, account.responses, account.utility_calls) == (50, 100, 70)
    assert account.refused_calls == 8 * 40 - 50


def test_only_a_score_has_a_value_and_every_failure_is_the_worst() -> None:
    assert number(Scored(value=0.0), -1.0) == 0.0
    assert {number(failure(reason="r"), -1.0) for failure in FAILURES} == {-1.0}
    assert len({kind(failure(reason="r")) for failure in FAILURES}) == len(FAILURES)


def test_failing_instances_are_told_apart_from_bad_ones() -> None:
    def one(seed: int) -> float:
        if seed % 2:
            raise InvalidAnswer("odd")
        return 1.0

    score = over_instances(one, Split("val", 4), 10, worst=-3.0)
    assert score.value == -1.0
    assert score.values == (1.0, -3.0, 1.0, -3.0)
    assert score.failures == {"invalid_value": 2}
    assert "odd" in score.feedback


def test_a_program_that_fails_on_the_first_instances_is_given_up() -> None:
    seen = []

    def one(seed: int) -> float:
        seen.append(seed)
        raise InvalidAnswer("always")

    with pytest.raises(InvalidAnswer, match="always"):
        over_instances(one, Split("val", 50), 10)
    assert seen == [10, 11, 12]


def test_a_utility_that_gives_no_finite_number_gives_an_invalid_value() -> None:
    for bad in (float("nan"), float("inf"), "text", None, Score(value=1.0, values=(float("nan"),))):
        assert isinstance(scored(bad), InvalidValue)
    assert scored(2.0, sign=-1.0) == Scored(value=-2.0)
    assert scored(Score(value=2.0, values=(1.0, 3.0))).standard_error == 1.0  # type: ignore[union-attr]
    assert kind(TimedOut(reason="")) == "timed_out"
    assert kind(Failed(reason="")) == "failed"
