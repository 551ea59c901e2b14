"""What scoring ahead gains an improver that asks first and then scores one program at a time.

    python bench/speculation.py                 six programs of about 0.2 s each, two slots
    python bench/speculation.py --json FILE     and keep the figures

The improver is the seed improver as it is shipped: one prompt, then `max(candidates, key=utility)`.
Runs with and without speculation alternate on warm processes, and must end alike.
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

from selftaught.budget import Budget
from selftaught.events import AnyEvent, Improved
from selftaught.improver import load_improver
from selftaught.language_model import Answer, Request
from selftaught.runs.config import RunConfig
from selftaught.runs.launch import start
from selftaught.runs.result import Run, Watch

TASK = {
    "task.toml": """summary = "a slow task"
[normalisation]
best = 100.0
worst = -1.0
[limits]
time_s = 10.0
[splits.val]
seed = 4321
instances = 1
[splits.test]
seed = 5678
instances = 1
""",
    "description.md": "Return a large number, slowly.",
    "solution.py": "def algorithm(loops):\n    return 0\n",
    "utility.py": '''"""The number that a program returns after so many passes of a loop."""

def score(solution, split, seed, *, loops):
    return float(solution.call("algorithm", loops))
''',
}
PROGRAM = """def algorithm(loops):
    total = 0
    for i in range(loops):
        total += i & 3
    return {value}
"""
PROGRAMS = 6
TARGET = 1.8


class Numbered:
    """Answers with programs that are all different; asked by one job after another."""

    name = "numbered"
    is_language_model = False

    def __init__(self) -> None:
        self._given = 0

    def respond(self, request: Request, *, seed: int, occurrence: int, key: str) -> Answer:
        """Return programs that differ in what they return."""
        numbers = range(self._given, self._given + request.n_responses)
        self._given += request.n_responses
        return Answer(
            texts=tuple(
                f"Idea {i}.\n\n```python\n{PROGRAM.format(value=(i * 7) % 97)}```\n"
                for i in numbers
            )
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=0.2, help="of one score")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        figures = measure(Path(name), options.seconds, options.pairs, options.slots)
    for what, value in figures.items():
        print(f"{what:<40} {value:8.3f}")
    print(f"target: at least {TARGET:g}x; load {os.getloadavg()[0]:.1f} at the end")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


def measure(folder: Path, seconds: float, pairs: int, slots: int) -> dict[str, float]:
    """Time the seed improver's job with and without speculation, in turn."""
    loops = _calibrated(seconds)
    task = folder / "slow"
    task.mkdir()
    for file, text in TASK.items():
        (task / file).write_text(text)
    with (task / "task.toml").open("a") as toml:
        toml.write(f"[parameters]\nloops = {loops}\n")
    taken: dict[bool, list[float]] = {True: [], False: []}
    results = []
    for pair in range(pairs):
        for speculate in (True, False):
            store = str(folder / f"{pair}-{speculate}.db")
            seconds_taken, run = _run(task, store, speculate, slots)
            taken[speculate].append(seconds_taken)
            results.append(result_of(run))
            if speculate:
                spent = run.spent
    if any(result != results[0] for result in results):
        raise SystemExit("The results differ with speculation.")
    with_, without = statistics.median(taken[True]), statistics.median(taken[False])
    return {
        "with speculation, s": with_,
        "without, s": without,
        "gain, x": without / with_,
        "loops": loops,
        "scored ahead, last run": spent["speculated"],
    }


def result_of(run: Run) -> object:
    """What must not depend on speculation."""
    return [
        (one.name, one.outcome, one.program, one.validation, one.sealed, one.utility_calls)
        for one in run.improvements
    ]


def _run(task: Path, store: str, speculate: bool, slots: int) -> tuple[float, Run]:
    """Seconds of the seed improver's job; one of its kind before it starts the processes."""
    seed = load_improver("seed").source
    taken: dict[str, float] = {}

    def on_event(event: AnyEvent) -> None:
        if isinstance(event, Improved):
            taken[event.improver] = event.seconds

    config = RunConfig(
        command="improve",
        tasks=(str(task),),
        improvers=(("warm-up", load_improver("best_of_n").source), ("seed", seed)),
        budget=Budget(calls=1, responses=PROGRAMS, utility_calls=PROGRAMS + 1),
        slots=slots,
        speculate=speculate,
    )
    run = start(config, store, watch=Watch(on_event=on_event), model=Numbered())
    return taken[run.improvements[1].improver.hash], run


def _calibrated(seconds: float) -> int:
    """Passes of the loop that take so long here."""
    import time

    space: dict[str, object] = {}
    exec(PROGRAM.format(value=0), space)
    algorithm = space["algorithm"]
    assert callable(algorithm)
    began = time.perf_counter()
    algorithm(1_000_000)
    return int(seconds * 1_000_000 / (time.perf_counter() - began))


if __name__ == "__main__":
    main()
