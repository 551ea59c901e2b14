"""What happens to a candidate that misbehaves: a named outcome, within its limits."""

import os
import signal
from pathlib import Path

import pytest

from selftaught.pool import Attempt, ScoreJob
from selftaught.pools.local import LocalPool
from selftaught.solution import Solution
from selftaught.task import Task
from selftaught.utility import Outcome, Scored, kind


def score(pool: LocalPool, task: Task, source: str) -> Outcome:
    return pool.score(ScoreJob(task=task, solution=Solution(source), split="val"))


def body(*lines: str) -> str:
    return "def algorithm(x):\n" + "".join(f"    {line}\n" for line in lines)


CASES = [
    ("timed_out", "work limit", body("while True:", "    pass")),
    (
        "timed_out",
        "work limit",
        body("while True:", "    try:", "        while True: pass", "    except Exception: pass"),
    ),
    ("timed_out", "work limit", body("return sum(1 for _ in iter(int, 1))")),
    (
        "timed_out",
        "work limit",
        body(
            "f = lambda: f()",
            "import sys",
            "sys.setrecursionlimit(10**6)",
            "while True:",
            "    f2 = lambda: 0",
            "    f2()",
        ),
    ),
    ("timed_out", "CPU time", body("exec('while True: pass')")),
    ("timed_out", "CPU time", body("return sum(range(10**12))")),
    ("out_of_memory", "MemoryError", body("return bytearray(32 * 2**30)")),
    ("out_of_memory", "MemoryError", body("return [0] * 2**33")),
    ("failed", "exited with code 0", body("import os", "os._exit(0)")),
    ("failed", "SystemExit", body("raise SystemExit")),
    ("failed", "KeyboardInterrupt", body("raise KeyboardInterrupt")),
    ("failed", "signal 11", body("import ctypes", "ctypes.string_at(0)")),
    ("failed", "SyntaxError", "def algorithm(x:\n"),
    ("failed", "no function algorithm", "def other(x):\n    return x\n"),
    ("failed", "RecursionError", body("return algorithm(x)")),
    ("failed", "ZeroDivisionError", body("return 1 / 0")),
    ("failed", "ModuleNotFoundError", body("import numpy")),
    ("refused", "PermissionError", body("import socket", "socket.socket()")),
    ("refused", "PermissionError", body("import os", "os.fork()")),
    ("refused", "PermissionError", body("import os", "os.execv('/bin/sh', ['sh'])")),
    ("refused", "PermissionError", body("import os", "os.kill(1, 9)")),
    ("refused", "PermissionError", body("import os", "os.kill(os.getpid(), 19)")),
    ("refused", "PermissionError", body("import subprocess", "subprocess.run(['ls'])")),
    ("refused", "/etc/passwd", body("return open('/etc/passwd').read()")),
    ("refused", "Error", body("open('/tmp/x', 'w')")),
    ("refused", "Error", body("import os", "os.mkdir('/tmp/x')")),
    ("refused", "PermissionError", body("import os", "return os.listdir('/')")),
    ("invalid_value", "number", body("return 'text'")),
    ("invalid_value", "nan", body("return float('nan')")),
    ("invalid_value", "object", body("return object()")),
    ("invalid_value", "nested", body("l = []", "l.append(l)", "return l")),
    ("invalid_value", "number", body("return 'x' * 5_000_000")),
    ("invalid_value", "too large", body("return 'x' * 20_000_000")),
    (
        "invalid_value",
        "over the limit",
        body("import os", "os.write(3, b'\\xff' * 16)", "return 1"),
    ),
    (
        "invalid_value",
        "valid",
        body("import os", "os.write(3, b'\\0\\0\\0\\4\\0\\0\\0\\0[[[[')", "return 1"),
    ),
]


@pytest.mark.parametrize(("expected", "reason", "source"), CASES)
def test_a_candidate_that_misbehaves_has_a_named_outcome(
    pool: LocalPool, toy: Task, expected: str, reason: str, source: str
) -> None:
    outcome = score(pool, toy, source)
    assert kind(outcome) == expected, outcome
    assert reason in outcome.reason  # type: ignore[union-attr]


def test_a_sleeping_candidate_meets_the_wall_cap(pool: LocalPool, toy: Task) -> None:
    outcome = score(pool, toy, body("import time", "time.sleep(0.5 if x % 2 else 0)", "return x"))
    assert isinstance(outcome, Scored)
    outcome = score(pool, toy, body("import time", "time.sleep(1000)"))
    assert kind(outcome) == "timed_out"
    assert "by the clock" in outcome.reason  # type: ignore[union-attr]


def test_one_bad_instance_counts_as_the_worst_and_is_told_apart(pool: LocalPool, toy: Task) -> None:
    outcome = score(pool, toy, body("if x == 3:", "    raise ValueError('no')", "return x + 7"))
    assert isinstance(outcome, Scored)
    assert outcome.failures == {"failed": 1}
    assert sorted(outcome.values) == [-10.0, 0.0, 0.0, 0.0, 0.0]
    assert "ValueError: no" in outcome.feedback


def test_a_crashed_child_is_replaced_for_the_next_instance(pool: LocalPool, toy: Task) -> None:
    outcome = score(pool, toy, body("import os", "x == 3 and os._exit(1)", "return x + 7"))
    assert isinstance(outcome, Scored)
    assert outcome.failures == {"failed": 1}


def test_one_candidate_never_meets_what_another_left_behind(pool: LocalPool, toy: Task) -> None:
    poison = body("import builtins, sys, math", "builtins.POISON = 1", "sys.modules['math'] = None",
                  "return x + 7")  # fmt: skip
    assert isinstance(score(pool, toy, poison), Scored)
    clean = body("import builtins, math", "assert not hasattr(builtins, 'POISON')",
                 "return x + math.floor(7.5)")  # fmt: skip
    outcome = score(pool, toy, clean)
    assert isinstance(outcome, Scored)
    assert outcome.value == 0.0


def test_a_candidate_finds_no_key_and_no_host_descriptor(
    pool: LocalPool, toy: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = body(
        "import os",
        "found = [k for k in os.environ if 'KEY' in k or k in ('HOME', 'PATH', 'USER')]",
        "opened = []",
        "for n in range(64):",
        "    try:",
        "        os.fstat(n)",
        "        opened.append(n)",
        "    except OSError:",
        "        pass",
        "assert not found, found",
        "assert opened == [0, 1, 2, 3], opened",
        "return x + 7",
    )
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    fresh = LocalPool(1)
    try:
        outcome = score(fresh, toy, look)
    finally:
        fresh.close()
    assert isinstance(outcome, Scored), outcome


def test_random_numbers_repeat_without_a_seed(pool: LocalPool, toy: Task) -> None:
    source = body("import random", "return x + random.random()")
    first = score(pool, toy, source)
    assert first == score(pool, toy, source)
    assert isinstance(first, Scored)
    assert len(set(first.values)) == 5


def test_threads_are_allowed(pool: LocalPool, toy: Task) -> None:
    source = body(
        "from concurrent.futures import ThreadPoolExecutor",
        "with ThreadPoolExecutor(8) as threads:",
        "    return x + sum(threads.map(lambda n: 1, range(7)))",
    )
    assert score(pool, toy, source).value == 0.0  # type: ignore[union-attr]


def test_what_a_candidate_tried_is_reported(toy: Task) -> None:
    tried: list[Attempt] = []
    watching = LocalPool(1, on_attempt=lambda program, attempt: tried.append(attempt))
    try:
        score(watching, toy, body("try:", "    open('/etc/passwd')", "except OSError: pass",
                                  "return x + 7"))  # fmt: skip
    finally:
        watching.close()
    assert {"open"} == {attempt.what for attempt in tried}
    assert "/etc/passwd" in tried[0].detail


def test_a_candidate_cannot_pass_its_failure_off_as_the_tasks(pool: LocalPool, toy: Task) -> None:
    """What the host takes for a task's defect ends the run: a candidate may not say it."""
    forged = body(
        "import os, json, struct",
        "text = json.dumps({'failed': 'failed', 'defect': 'x', "
        "'reason': 'the task itself failed: x'}).encode()",
        "os.write(3, struct.pack('>II', len(text), 0) + text)",
        "os._exit(0)",
    )
    assert kind(score(pool, toy, forged)) == "failed"
    assert kind(score(pool, toy, body("raise ValueError('\\ud800')"))) == "failed"
    assert kind(score(pool, toy, body("return 10 ** 400"))) == "invalid_value"


def test_a_killed_evaluator_costs_no_program_its_score(toy: Task) -> None:
    single = LocalPool(1)
    try:
        expected = score(single, toy, body("return x + 7"))
        single.machine._all_evaluators[0].result()._process.kill()
        assert score(single, toy, body("return x + 7")) == expected
    finally:
        single.close()


def test_a_killed_zygote_costs_no_program_its_score(toy: Task) -> None:
    single = LocalPool(1)
    try:
        expected = score(single, toy, body("return x + 7"))
        evaluator = single.machine._all_evaluators[0].result()._process.pid
        zygotes = Path(f"/proc/{evaluator}/task/{evaluator}/children").read_text().split()
        assert zygotes
        for pid in zygotes:
            os.kill(int(pid), signal.SIGKILL)
        assert score(single, toy, body("return x + 7")) == expected
    finally:
        single.close()
