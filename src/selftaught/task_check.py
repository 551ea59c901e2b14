"""Checking a task folder: does it repeat, does it score, does its verifier hold?"""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from selftaught.errors import TaskError, UsageError
from selftaught.pool import Pool, ScoreJob
from selftaught.solution import Solution
from selftaught.task import Task
from selftaught.utility import Outcome, Scored, kind


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One property of a task and whether it holds."""

    name: str
    passed: bool
    detail: str


# Bodies of a function that returns what no task should accept.
_BAD_ANSWERS = {
    "nothing": "return None",
    "NaN": "return float('nan')",
    "a list of NaN": "return [float('nan')] * 8",
    "infinity": "return float('inf')",
    "an array of the wrong shape": ("import numpy\n    return numpy.zeros((1, 3, 1))"),
    "an object": "return object()",
    "an oversize list": "return [0] * 2_000_000",
    "an oversize text": "return 'x' * 5_000_000",
    "a deeply nested list": (
        "nested = []\n    for _ in range(500):\n        nested = [nested]\n    return nested"
    ),
    "an exception": "raise ValueError('no answer')",
    "an exit": "import os\n    os._exit(0)",
    "a loop without end": "while True:\n        pass",
}

# Programs that print what no task should accept; those in C are C++ as well.
_BAD_IN_C = {
    "NaN": '#include <stdio.h>\nint main(void) { puts("nan"); return 0; }\n',
    "a text": '#include <stdio.h>\nint main(void) { puts("seven"); return 0; }\n',
    "an exit code": "int main(void) { return 3; }\n",
    "a loop without end": "int main(void) { for (;;) { } }\n",
    "a program that does not compile": "int main(void) { return }\n",
    "output without end": (
        '#include <stdio.h>\nint main(void) { for (;;) puts("0 0 0 0 0 0 0 0"); }\n'
    ),
}
_BAD_PROGRAMS = {"c": _BAD_IN_C, "c++": _BAD_IN_C}


def check_task(task: Task, pool: Pool) -> Iterator[Check]:
    """Yield one check after another, as they are done."""

    def score(solution: Solution, split: str = "val") -> Outcome:
        return pool.score(ScoreJob(task=task, solution=solution, split=split))

    yield from _initial_scores(task, score)
    if task.language == "python":
        for name, body in _BAD_ANSWERS.items():
            source = f"def {task.file.entry_point}(*arguments):\n    {body}\n"
            yield _rejected(task, name, score(Solution(source, task.file.entry_point)))
    for name, source in _BAD_PROGRAMS.get(task.language, {}).items():
        yield _rejected(task, name, score(task.initial.rewritten(source)))


def _initial_scores(task: Task, score: Callable[..., Outcome]) -> Iterator[Check]:
    first, second = score(task.initial), score(task.initial)
    is_scored = isinstance(first, Scored)
    yield Check(
        name="the initial solution scores on val",
        passed=is_scored,
        detail=_told(first),
    )
    on_the_limit = _on_the_time_limit(task, first, second)
    remark = f"; {on_the_limit} instances lie on its time limit" if on_the_limit else ""
    yield Check(
        name="scoring it again gives the same",
        passed=is_scored and (first == second or on_the_limit > 0),
        detail=f"{_told(first)}, then {_told(second)}{remark}",
    )
    sealed = score(task.initial, "test")
    yield Check(
        name="the initial solution scores on test",
        passed=isinstance(sealed, Scored),
        detail=_told(sealed),
    )
    best = task.sign * task.file.normalisation.best
    for split, outcome in (("val", first), ("test", sealed)):
        if isinstance(outcome, Scored):
            yield Check(
                name=f"it lies between worst and best known on {split}",
                passed=task.worst <= outcome.value <= best,
                detail=f"{task.worst:g} <= {outcome.value:g} <= {best:g}",
            )


def _on_the_time_limit(task: Task, first: Outcome, second: Outcome) -> int:
    """How many instances differ, where all that do ran out of time in one of two scorings."""
    if not isinstance(first, Scored) or not isinstance(second, Scored):
        return 0
    timed_out = first.failures.get("timed_out", 0) + second.failures.get("timed_out", 0)
    pairs = [p for p in zip(first.values, second.values, strict=True) if p[0] != p[1]]
    by_time = all(task.worst in pair for pair in pairs) and len(pairs) <= timed_out
    return len(pairs) if by_time else 0


def _rejected(task: Task, name: str, outcome: Outcome) -> Check:
    held = not isinstance(outcome, Scored) or (
        outcome.value <= task.worst and sum(outcome.failures.values()) == len(outcome.values)
    )
    return Check(name=f"{name} is rejected", passed=held, detail=_told(outcome))


def _told(outcome: Outcome) -> str:
    if isinstance(outcome, Scored):
        return f"{outcome.value:.6g} ± {outcome.standard_error:.2g}"
    reason = " ".join(getattr(outcome, "reason", "").split())
    return f"{kind(outcome)}: {reason}"[:120]


_SKELETON = {
    "task.toml": """\
summary = "Return a number close to the square root of x"
entry_point = "algorithm"
direction = "maximize"
modules = []                # third-party modules that a solution may import
source = "your own"
known_flaws = ""

[limits]
time_s = 0.5                # CPU seconds of one call
memory_bytes = 268435456
work = 100000               # loop passes and calls of one call; 0 for no such limit

[splits.val]                # what an improver may score on
seed = 4321
instances = 10

[splits.test]               # sealed: scored by the host only
seed = 5678
instances = 20

[normalisation]
best = 1.0                  # the best value known
worst = 0.0                 # what a failing instance counts as

[parameters]                # keyword arguments of score(); FOLDER?largest=50 changes one
largest = 1000.0
""",
    "solution.py": """\
def algorithm(x):
    guess = x / 3
    for step in range(3):
        guess = (guess + x / guess) / 2
    return guess
""",
    "description.md": """\
`algorithm(x)` returns a number close to the square root of x, for x between 1 and {largest}.
Score: the mean over the instances of 1 / (1 + relative error). Higher is better; 1 is exact.
""",
    "utility.py": '''\
"""Trusted: runs in the evaluator. The solution is called in another process."""

import math
import random

from selftaught.utility import InvalidAnswer, over_instances


def score(solution, split, seed, *, largest):
    """Score a solution on the instances of a split; instance i has the seed `seed + i`."""

    def one(instance_seed):
        x = random.Random(instance_seed).uniform(1.0, largest)
        answer = solution.call("algorithm", x)
        if isinstance(answer, bool) or not isinstance(answer, (int, float)):
            raise InvalidAnswer(f"a number is wanted, not {type(answer).__name__}")
        if not math.isfinite(answer):
            raise InvalidAnswer(f"a finite number is wanted, not {answer!r}")
        true = math.sqrt(x)
        return 1.0 / (1.0 + abs(answer - true) / true)

    return over_instances(one, split, seed, worst=0.0)
''',
    "README.md": """\
# A task of your own

Where it comes from, what an instance is, the best values known and who found them, and what is
wrong with it. `selftaught check-task` tries the folder out.
""",
}


def write_skeleton(folder: str) -> list[Path]:
    """Write a working task folder and return its files.

    Raises:
        UsageError: the folder exists and is not empty.
        TaskError: it cannot be written.
    """
    target = Path(folder)
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise UsageError(f"{folder!r} exists and is not an empty folder; name another.")
        target.mkdir(parents=True, exist_ok=True)
        written = []
        for name, text in _SKELETON.items():
            (target / name).write_text(text, encoding="utf-8")
            written.append(target / name)
        return written
    except OSError as error:
        raise TaskError(f"The task folder {folder!r} cannot be written: {error}.") from error
