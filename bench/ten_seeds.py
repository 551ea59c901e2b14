"""Does STOP on the mutation proposer do what it may promise? Ten seeds, paired, with intervals.

    python bench/ten_seeds.py                  both parts, ten seeds
    python bench/ten_seeds.py --part improve   a fixed improver on single tasks
    python bench/ten_seeds.py --part stop      STOP, with the higher-order templates on and off

Every difference is paired by seed: same instances, same luck, same budget. Intervals are
Student's t on the per-seed differences, 95 %. Results are printed as they come and kept as JSON.
"""

import argparse
import json
import math
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from selftaught.budget import Budget
from selftaught.improver import load_improver
from selftaught.runs.config import RunConfig
from selftaught.runs.launch import start
from selftaught.runs.result import Run
from selftaught.transfer import value
from selftaught.utility import Scored

IMPROVED_TASKS = ("tsp", "sorting_network")
TRAINED_ON = ("tsp", "circle_packing")
HELD_OUT = ("sorting_network", "str_grid_dist")
IMPROVE_BUDGET = Budget(calls=16, responses=6, utility_calls=97)
INNER_BUDGET = Budget(calls=8, responses=6, utility_calls=49)
OUTER_BUDGET = Budget(calls=4, responses=6, utility_calls=25)
REFERENCES = ("identity", "best_of_n", "greedy")
# Two-sided 95 % quantiles of Student's t by degrees of freedom.
T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("improve", "stop", "all"), default="all")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--accept", default="better")
    parser.add_argument("--out", type=Path, help="keep the results as JSON here")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    found: dict[str, object] = {
        "machine": f"{platform.platform()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}",
        "seeds": list(seeds),
    }
    print(found["machine"])
    if options.part in ("improve", "all"):
        found["improve"] = [improve(task, seeds) for task in IMPROVED_TASKS]
    if options.part in ("stop", "all"):
        for model in ("mutation", "mutation-first-order"):
            found[model] = stop(model, seeds, options.accept)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1))


def improve(task: str, seeds: Sequence[int]) -> dict[str, object]:
    """Hill climbing on one task, beside the references, on sealed instances."""
    print(f"\nimprove {task}: {IMPROVE_BUDGET.calls} calls x {IMPROVE_BUDGET.responses}, sealed")
    names = ("greedy", *REFERENCES[:2], "seed")
    scores: dict[str, list[float]] = {name: [] for name in names}
    for seed in seeds:
        config = RunConfig(
            command="improve",
            tasks=(task,),
            improvers=tuple((name, load_improver(name).source) for name in names),
            seed=seed,
            budget=IMPROVE_BUDGET,
        )
        run, seconds = timed(config)
        for one in run.improvements:
            # A failing improver leaves the user with the initial program's score at best.
            sealed = one.sealed.value if isinstance(one.sealed, Scored) else 0.0
            scores[one.name].append(sealed)
        print(f"  seed {seed}: {row(scores, -1)}  {seconds:.0f} s", flush=True)
    for name in ("greedy", "best_of_n", "seed"):
        report(f"{name} - initial", paired(scores[name], scores["identity"]))
    report("greedy - best_of_n", paired(scores["greedy"], scores["best_of_n"]))
    return {"task": task, "scores": scores}


def stop(model: str, seeds: Sequence[int], accept: str) -> dict[str, object]:
    """STOP for three rounds; the final improver beside the seed and the references."""
    print(
        f"\nSTOP, {model}, accept {accept}: trained on {', '.join(TRAINED_ON)}; "
        f"held out {', '.join(HELD_OUT)}; inner budget {INNER_BUDGET.calls} x "
        f"{INNER_BUDGET.responses}, outer {OUTER_BUDGET.calls} x {OUTER_BUDGET.responses}"
    )
    names = ("seed", "final", *REFERENCES)
    tables: dict[str, dict[str, list[float]]] = {
        table: {name: [] for name in names} for table in ("sealed", "held out")
    }
    for seed in seeds:
        config = RunConfig(
            command="run",
            tasks=TRAINED_ON,
            held_out=HELD_OUT,
            improvers=(("seed", load_improver("seed").source),),
            rounds=3,
            repeats=3,
            sealed_repeats=4,
            seed=seed,
            model=model,
            budget=INNER_BUDGET,
            meta_budget=OUTER_BUDGET,
            accept=accept,
        )
        run, seconds = timed(config)
        for table, rows in (("sealed", run.sealed_rows), ("held out", run.rows)):
            for one in rows:
                measured = value(one.measured)
                tables[table][one.name].append(-1.0 if measured is None else measured)
        shown = "  |  ".join(f"{table} {row(scores, -1)}" for table, scores in tables.items())
        print(f"  seed {seed}: {shown}  {seconds:.0f} s", flush=True)
    for table, scores in tables.items():
        for better, worse in (
            ("final", "seed"),
            ("final", "identity"),
            ("final", "best_of_n"),
            ("final", "greedy"),
            ("greedy", "best_of_n"),
        ):
            report(f"{table}: {better} - {worse}", paired(scores[better], scores[worse]))
    return {"model": model, "accept": accept, "tables": tables}


def timed(config: RunConfig) -> tuple[Run, float]:
    """Run a configuration in a store of its own; returns the run and the seconds it took."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        run = start(config, f"{folder}/bench.db")
        return run, time.monotonic() - started


def paired(better: Sequence[float], worse: Sequence[float]) -> list[float]:
    """Differences, seed by seed."""
    return [a - b for a, b in zip(better, worse, strict=True)]


def report(name: str, differences: Sequence[float]) -> None:
    """Mean difference with its interval, and how many seeds are above zero."""
    n = len(differences)
    mean = statistics.fmean(differences)
    half = math.nan
    if n > 1:
        half = T_95.get(n - 1, 2.1) * statistics.stdev(differences) / math.sqrt(n)
    wins, ties = sum(d > 0 for d in differences), sum(d == 0 for d in differences)
    tied = f", {ties} equal" if ties else ""
    print(
        f"  {name:<32} {mean:+.3f}  95 % [{mean - half:+.3f}, {mean + half:+.3f}]  "
        f"up in {wins} of {n}{tied}",
        flush=True,
    )


def row(scores: dict[str, list[float]], i: int) -> str:
    """The i-th score of every name."""
    number: Callable[[float], str] = "{:.3f}".format
    return ", ".join(f"{name} {number(values[i])}" for name, values in scores.items())


if __name__ == "__main__":
    main()
