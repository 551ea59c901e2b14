"""Scripted models of three strengths: they repeat themselves, and differ in what they write."""

import ast
from random import Random

import pytest

from selftaught.improver import load_improver
from selftaught.language_model import LanguageModel, Request
from selftaught.solution import extract_code
from selftaught.testing import MIDDLING, STRONG, WEAK, LanguageModelContract, StrengthModel
from selftaught.testing.strengths import Strength, idea, slip, written

SEED = load_improver("seed").source
PROGRAM = "def algorithm(x):\n    y = 3\n    return x + y"


def asking(program: str = PROGRAM, n: int = 6) -> Request:
    message = f"Here is a program to improve:\n\n```python\n{program}\n```\n"
    return Request(expertise="e", message=message, n_responses=n)


class TestStrengthModel(LanguageModelContract):
    repeats_itself = True

    @pytest.fixture(params=[STRONG, MIDDLING, WEAK], ids=lambda strength: strength.name)
    def model(self, request: pytest.FixtureRequest) -> LanguageModel:
        return StrengthModel(request.param)


def programs(strength: Strength, program: str, n: int = 200) -> list[str]:
    answer = StrengthModel(strength).respond(asking(program, n), seed=1, occurrence=0, key="k")
    codes = extract_code(list(answer.texts))
    assert None not in codes
    return codes


def test_answers_depend_on_the_place_and_not_on_the_batch() -> None:
    model = StrengthModel(WEAK)
    whole = model.respond(asking(n=6), seed=1, occurrence=0, key="k").texts
    parts = [
        model.respond(asking(n=1), seed=1, occurrence=i, key="other").texts[0] for i in range(6)
    ]
    assert list(whole) == parts
    assert whole != model.respond(asking(n=6), seed=2, occurrence=0, key="k").texts


def test_a_prompt_without_a_program_is_told_so() -> None:
    request = Request(expertise="e", message="hello", n_responses=2)
    answer = StrengthModel(STRONG).respond(request, seed=0, occurrence=0, key="k")
    assert answer.texts == ("I see no program.",) * 2


def is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def test_the_weaker_a_model_the_less_of_what_it_writes_is_whole() -> None:
    shares = []
    for strength in (STRONG, MIDDLING, WEAK):
        random = Random(1)
        whole = [written(SEED, strength, random) == SEED.rstrip("\n") for _ in range(300)]
        shares.append(sum(whole) / 300)
    assert shares[0] > 0.9 > shares[1] > 0.3 > 0.2 > shares[2]


def test_only_strategies_that_a_model_knows_are_recalled() -> None:
    known = {load_improver(name).source.strip() for name in STRONG.knows}
    random = Random(2)
    recalled = [idea(SEED, STRONG, random) in known for _ in range(300)]
    assert sum(recalled) / 300 == pytest.approx(STRONG.recalls, abs=0.1)
    assert not any(idea(SEED, WEAK, random) in known for _ in range(100))
    assert not any("def improve" in idea(PROGRAM, STRONG, random) for _ in range(100))


def test_a_weak_model_writes_programs_that_run_and_are_worse() -> None:
    texts = programs(WEAK, SEED)
    runs = [text for text in texts if is_python(text)]
    assert len(runs) > len(texts) / 3
    assert any("min(candidates" in text for text in runs)
    assert any("[message], temperature" in text for text in runs)


def test_ideas_on_a_program_change_one_number_a_little() -> None:
    random = Random(3)
    steps = {idea(PROGRAM, STRONG, random) for _ in range(200)}
    assert steps == {PROGRAM.replace("3", str(n)) for n in range(-1, 8) if n != 3}
    assert (
        idea("def algorithm():\n    return x", STRONG, random) == "def algorithm():\n    return x"
    )
    halves = {idea("def algorithm():\n    return 0.5", STRONG, random) for _ in range(100)}
    assert "def algorithm():\n    return 0.45" in halves


def test_a_slip_changes_or_loses_a_line_or_is_forgiven() -> None:
    random = Random(4)
    changed = {slip("    return max(candidates, key=utility)", random) for _ in range(50)}
    assert changed == {
        "    return min(candidates, key=utility)",
        "    return max(candidates)",
    }
    assert {slip("the last line", random) for _ in range(100)} == {None, "the last line"}
