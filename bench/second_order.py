"""How often the second-order test is wrong, and how often it finds what is there.

    python bench/second_order.py                 all parts
    python bench/second_order.py --part null     equal improvers: how often any is told apart
    python bench/second_order.py --part power    a better one among equals: how often it is found
    python bench/second_order.py --part stack    both, through the sandbox, on `bench/dials`

`null` and `power` draw scores and put them through `selftaught.compare.judge`, as `compare` does.
`stack` runs whole comparisons of improvers that were planted: twins that do the same and word
their prompts differently, so that their luck differs, and one that does more.
"""

import argparse
import functools
import os
import platform
import random
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from selftaught import statistics
from selftaught.budget import Budget
from selftaught.compare import Comparison, Seed, judge
from selftaught.improver import ENTRY_POINT, load_improver
from selftaught.meta_utility import Item, Measured
from selftaught.runs.config import RunConfig
from selftaught.runs.launch import start
from selftaught.solution import Solution
from selftaught.task import Task
from selftaught.testing.strengths import STRONG, StrengthModel
from selftaught.utility import Scored

TASK = Path(__file__).parent / "dials"
BUDGET = Budget(calls=4, responses=4, utility_calls=17)
SPREAD = 0.2
# Luck of one score, with mean 0 and deviation SPREAD.
LUCK: dict[str, Callable[[random.Random], float]] = {
    "normal": lambda rng: rng.gauss(0, SPREAD),
    "skewed": lambda rng: SPREAD * (1 - rng.expovariate(1)),
    "breaks at times": lambda rng: SPREAD / 3 if rng.random() < 0.9 else -3 * SPREAD,
    "mostly ties": lambda rng: rng.choice((-1, 1)) * SPREAD * 10**0.5 if rng.random() < 0.1 else 0,
    "heavy-tailed": lambda rng: (
        rng.gauss(0, SPREAD / 3**0.5) / (rng.gammavariate(1.5, 2 / 3)) ** 0.5
    ),
}
Luck = Callable[[random.Random], float]
STEADY: Luck = lambda rng: rng.gauss(0, SPREAD / 20)  # noqa: E731


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("null", "power", "stack", "all"), default="all")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=5, help="of `stack`")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(
        f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f}; seed {options.seed}"
    )
    # Verdicts rest on p-values: the intervals, which take most of the time, are kept short.
    statistics.bca_mean = functools.partial(statistics.bca_mean, resamples=20)
    if options.part in ("null", "all"):
        null_table(options.trials, options.seed)
    if options.part in ("power", "all"):
        power_table(options.trials, options.seed)
    if options.part in ("stack", "all"):
        stack_table(options.runs)


def null_table(trials: int, seed: int) -> None:
    """Equal improvers: the share of comparisons in which any of them is told apart."""
    print(f"equal improvers told apart, of {trials} comparisons")
    print(f"{'luck':<16} {'seeds':>5}  {'alone':>6}  {'any of seven':>12}")
    for name, luck in LUCK.items():
        for seeds in (8, 12):
            found = [told_apart(luck, others, seeds, trials, seed) for others in (1, 7)]
            print(f"{name:<16} {seeds:>5}  {found[0]:>6.1%}  {found[1]:>12.1%}", flush=True)
    print("equal on average, not in how often it breaks: the base is steady, the other breaks")
    for seeds in (8, 12, 16):
        breaks, steady = LUCK["breaks at times"], STEADY
        share = told_apart(breaks, 1, seeds, trials, seed, of_base=steady)
        print(f"{'':<16} {seeds:>5}  {share:>6.1%}", flush=True)


def told_apart(
    luck: Luck, others: int, seeds: int, trials: int, seed: int, of_base: Luck | None = None
) -> float:
    """The share of comparisons with a verdict other than `none`, all improvers equal on average."""
    rng = random.Random(f"null {seed}")
    gains = dict.fromkeys(["base", *(f"equal {i}" for i in range(others))], 0.0)
    wrong = sum(
        any(one.verdict != "none" for one in judged(rng, gains, seeds, luck, of_base).differences)
        for _ in range(trials)
    )
    return wrong / trials


def power_table(trials: int, seed: int) -> None:
    """A better improver: how often it is found, alone and among six equals."""
    print(f"a better improver is found, of {trials} comparisons, by d_z; normal luck")
    columns = [(1, 1.0), (1, 1.5), (7, 1.0), (7, 1.5), (7, 2.0)]
    print("seeds " + " ".join(f"{f'{n} x {d_z}':>8}" for n, d_z in columns))
    for seeds in (6, 8, 10, 12, 16):
        shares = [found_better(d_z, n, seeds, trials, seed) for n, d_z in columns]
        print(f"{seeds:>5} " + " ".join(f"{share:>8.0%}" for share in shares), flush=True)


def found_better(d_z: float, others: int, seeds: int, trials: int, seed: int) -> float:
    """The share of comparisons in which a planted gain of so many deviations is found."""
    rng = random.Random(f"power {seed}")
    # The difference of two scores with the luck of either.
    gain = d_z * SPREAD * 2**0.5
    gains = {"base": 0.0, "more": gain, **{f"equal {i}": 0.0 for i in range(others - 1)}}
    hits = 0
    for _ in range(trials):
        verdicts = {
            one.name: one.verdict for one in judged(rng, gains, seeds, LUCK["normal"]).differences
        }
        hits += verdicts["more"] == "better"
    return hits / trials


def judged(
    rng: random.Random,
    gains: Mapping[str, float],
    seeds: int,
    luck: Luck,
    of_base: Luck | None = None,
) -> Comparison:
    """Judge drawn scores: each improver's gain, the seed's own height, and individual luck."""
    task = _task()
    named = [(name, Solution(f"# {name}\n{_HEAD}    return ''\n", ENTRY_POINT)) for name in gains]
    measured = []
    for number in range(seeds):
        height = rng.gauss(0.3, 1)
        found = {}
        for name, program in named:
            drawn = of_base if of_base is not None and name == "base" else luck
            item = Item(
                task=task.name,
                repeat=0,
                outcome=Scored(value=0.0),
                normalised=gains[name] + height + drawn(rng),
            )
            found[program.hash] = Measured(
                improver=program.hash, outcome=Scored(value=0.0), items=(item,)
            )
        measured.append(Seed(number=number, measured=found, initial={(task.name, 0): -7.0}))
    return judge(named, measured, {}, tasks=[task], repeats=1, budget=Budget(utility_calls=1))


@functools.cache
def _task() -> Task:
    return Task.load(str(TASK))


_HEAD = f"def {ENTRY_POINT}(initial_solution, utility, language_model):\n"


def planted() -> dict[str, str]:
    """Improvers by name: `base` and its `twin`, which differ in their words, and `more`."""
    base = load_improver("best_of_n").source
    twin = base.replace("Write a better program.", "Please write a better program.")
    return {"base": base, "twin": twin, "more": load_improver("greedy").source}


def stack(seed: int, *, seeds: int = 10) -> Comparison:
    """One comparison of the planted improvers through the sandbox, with a scripted model."""
    config = RunConfig(
        command="compare",
        tasks=(),
        held_out=(str(TASK),),
        improvers=tuple(planted().items()),
        seeds=seeds,
        repeats=1,
        sealed_repeats=1,
        seed=seed,
        model=f"custom:{STRONG.name}",
        budget=BUDGET,
    )
    with tempfile.TemporaryDirectory() as folder:
        run = start(config, str(Path(folder) / "s.db"), model=StrengthModel(STRONG))
    if run.comparison is None:
        raise SystemExit(f"The comparison of seed {seed} ended early: {run.reason}")
    return run.comparison


def stack_table(runs: int) -> None:
    """Verdicts of whole comparisons, one line each."""
    print("planted improvers through the sandbox, to `base`; ten seeds each")
    for seed in range(runs):
        told = {
            one.name: f"{one.verdict} {one.mean.value:+.3f} (p_Holm {one.p_holm:.2g})"
            for one in stack(seed).differences
        }
        print(msgspec.json.encode(told).decode(), flush=True)


if __name__ == "__main__":
    main()
