"""What a busy machine does to the scores of tasks whose calls are limited by CPU time.

    python bench/load_noise.py                   maxcut and three_sat, 20 s to some minutes
    python bench/load_noise.py maxcut --repeats 8
    python bench/load_noise.py --json FILE       and keep the figures

The initial program is scored again and again on the same instances, in turn on the machine as it
is and beside two processes per core that compute. A score that depended on the program alone would
be the same each time. The spread is set beside the standard error of the mean over instances: what
another block of instances would change anyway.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selftaught.pool import ScoreJob
from selftaught.pools.evaluator_process import EvaluatorProcess
from selftaught.sandbox.layers import choose_layers
from selftaught.sandbox.zygote import Zygote
from selftaught.task import Task
from selftaught.utility import Scored

# One that computes, one that goes through more memory than a cache holds.
BUSY = (
    "while True: pass",
    "x = bytearray(1 << 26)\nwhile True: x[::64] = bytes(len(x[::64]))",
)
STEADY = """def algorithm(loops):
    total = 0
    for i in range(loops):
        total += i & 3
    return total
"""
LOOPS = 1_000_000
CALLS = 40


@contextmanager
def busy(is_busy: bool) -> Iterator[None]:
    """Two processes per core that compute, or none."""
    processes = [
        subprocess.Popen([sys.executable, "-c", program])
        for program in BUSY * (os.cpu_count() or 1)
        if is_busy
    ]
    try:
        # Long enough to be under way.
        time.sleep(0.5 if is_busy else 0.0)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def scores_of(evaluator: EvaluatorProcess, task: Task) -> Scored:
    """Score the initial program once."""
    outcome, _ = evaluator.score(ScoreJob(task=task, solution=task.initial, split="val"))
    if not isinstance(outcome, Scored):
        raise SystemExit(f"The initial program of {task.name} has no score: {outcome}.")
    return outcome


def steady_cpu_s(layers: tuple[str, ...], is_busy: bool) -> list[float]:
    """CPU seconds, by the clock that limits are kept by, of the same loop again and again."""
    zygote = Zygote(layers)
    child = zygote.fork(256 * 1024**2)
    limits = {"cpu_limit_s": 60.0, "wall_limit_s": 600.0, "on_attempt": lambda attempt: None}
    taken = []
    try:
        child.send({"op": "load", "source": STEADY, "work": 0, "seed": 0})
        child.receive(**limits)  # type: ignore[arg-type]
        with busy(is_busy):
            for _ in range(CALLS):
                before = child.cpu_s()
                child.send({"op": "call", "entry_point": "algorithm", "args": [LOOPS], "seed": 0})
                child.receive(**limits)  # type: ignore[arg-type]
                taken.append(child.cpu_s() - before)
    finally:
        child.close()
        zygote.close()
    return taken


def measure(names: list[str], repeats: int) -> dict[str, float]:
    """Score each task's initial program, quiet and busy in turn."""
    layers = choose_layers()
    figures: dict[str, float] = {}
    quiet_cpu, busy_cpu = steady_cpu_s(layers, False), steady_cpu_s(layers, True)
    middle = statistics.median
    figures["same loop, busy / quiet CPU time, median"] = middle(busy_cpu) / middle(quiet_cpu)
    for what, taken in (("quiet", quiet_cpu), ("busy", busy_cpu)):
        highest = sorted(taken)[-len(taken) // 20]
        figures[f"same loop, {what}, 95th percentile / median"] = highest / middle(taken)
    evaluator = EvaluatorProcess(layers)
    try:
        for name in names:
            figures |= _one_task(evaluator, Task.load(name), repeats)
    finally:
        evaluator.close()
    return figures


def _one_task(evaluator: EvaluatorProcess, task: Task, repeats: int) -> dict[str, float]:
    scores_of(evaluator, task)
    scores: dict[str, list[Scored]] = {"quiet": [], "busy": []}
    for _ in range(repeats):
        for what, found in scores.items():
            with busy(what == "busy"):
                found.append(scores_of(evaluator, task))
    all_scores = [score for found in scores.values() for score in found]
    error = statistics.mean(score.standard_error for score in all_scores)
    figures = {f"{task.name}: standard error over instances": error}
    for what, found in scores.items():
        values = [score.value for score in found]
        failed = [sum(score.failures.values()) for score in found]
        figures[f"{task.name}: {what}, mean"] = statistics.mean(values)
        figures[f"{task.name}: {what}, instances over the limit"] = statistics.mean(failed)
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        figures[f"{task.name}: {what}, spread / standard error"] = spread / error if error else 0.0
    shift = figures[f"{task.name}: busy, mean"] - figures[f"{task.name}: quiet, mean"]
    figures[f"{task.name}: busy - quiet, in standard errors"] = shift / error if error else 0.0
    flipping = sum(
        len(set(values)) > 1 for values in zip(*(s.values for s in all_scores), strict=True)
    )
    figures[f"{task.name}: instances that are not always the same"] = flipping
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tasks", nargs="*", default=["maxcut", "three_sat"])
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    before = os.getloadavg()[0]
    figures = measure(options.tasks, options.repeats)
    print(f"load {before:.1f} at the start, {os.cpu_count()} cores, {options.repeats} repeats")
    for what, value in figures.items():
        print(f"{what:<56} {value:9.4f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
