"""Strategies in improvers of many hands: what is found agrees with a reader's labels as measured."""

import ast
import runpy
from pathlib import Path

import pytest

from selftaught.strategies.rules import STRATEGIES

ROOT = Path(__file__).parents[1]
BENCH = runpy.run_path(str(ROOT / "bench" / "strategies.py"), run_name="bench")
PROGRAMS = sorted((ROOT / "tests" / "programs" / "strategies").glob("*/*.py"))
# As measured on `held_out`.
PRECISION = 0.989
RECALL = 0.969


def test_precision_and_recall_are_as_measured() -> None:
    counts = BENCH["total"](list(BENCH["read"]("held_out")))
    assert counts.precision >= PRECISION
    assert counts.recall >= RECALL


@pytest.mark.parametrize("part", ["tuning", "held_out"])
def test_each_strategy_is_in_the_set(part: str) -> None:
    programs = list(BENCH["read"](part))
    shown = set().union(*(program.labels for program in programs))
    assert shown == {strategy.name for strategy in STRATEGIES}


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_a_labelled_program_is_an_improver(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert source.startswith(BENCH["LABELS"])
    tops = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    entry = next(node for node in tops if node.name == "improve_algorithm")
    assert [one.arg for one in entry.args.args] == [
        "initial_solution",
        "utility",
        "language_model",
    ]
