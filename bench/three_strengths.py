"""STOP with scripted models of three strengths, under two rules of acceptance. Not language models.

    python bench/three_strengths.py                 six seeds, all strengths, both rules
    python bench/three_strengths.py --seeds 2 --rounds 3

The paper reports that a strong model makes its improver better over rounds and that weak ones make
theirs worse. Here three scripted models (`selftaught.testing.strengths`) differ in what they know
and how often they slip. They write programs; every score comes out of the sandbox.
"""

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

import msgspec

from selftaught.acceptance import DEFAULT_REPEATS
from selftaught.budget import Budget, Spent
from selftaught.improver import load_improver
from selftaught.meta_utility import WORST
from selftaught.runs.config import RunConfig
from selftaught.runs.launch import start
from selftaught.statistics import Estimate, bca_mean, mean
from selftaught.testing.strengths import MIDDLING, STRONG, WEAK, Strength, StrengthModel
from selftaught.transfer import value

TASK = Path(__file__).parent / "dials"
BUDGET = Budget(calls=4, responses=4, utility_calls=17)
STRENGTHS = {"strong": STRONG, "middling": MIDDLING, "weak": WEAK}
RULES = ("always", "significant")


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One strength under one rule, over seeds.

    Attributes:
        by_round: the sealed meta-utility of I_0, I_1, ..., averaged over seeds.
        change: of the last minus the first, paired by seed.
        fell: seeds whose last improver is worse than the first by more than 0.05.
        accepted: candidates accepted, over all rounds and seeds.
        search, trials: what was spent to find candidates, and to try them.
    """

    strength: str
    rule: str
    by_round: tuple[float, ...]
    changes: tuple[float, ...]
    change: Estimate
    fell: int
    accepted: int
    search: Spent
    trials: Spent


def main() -> None:
    """Run all cells and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--out", type=Path, help="keep the results as JSON here")
    parser.add_argument("--only", choices=STRENGTHS, help="one strength instead of all")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    print(
        f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f}; seeds {seeds.start} to {seeds.stop - 1}. "
        "Scripted models, no language models."
    )
    print("strength  rule         sealed by round             last - first            fell  taken")
    cells = []
    for strength in STRENGTHS.values() if options.only is None else [STRENGTHS[options.only]]:
        for rule in RULES:
            started = time.monotonic()
            cells.append(cell(strength, rule, seeds, rounds=options.rounds))
            print(line(cells[-1]), f"  {time.monotonic() - started:.0f} s", flush=True)
    if options.out:
        options.out.write_bytes(msgspec.json.encode(cells))


def cell(strength: Strength, rule: str, seeds: range, *, rounds: int = 4) -> Cell:
    """Run STOP with one model under one rule on several seeds."""
    found = [one_run(strength, rule, seed, rounds) for seed in seeds]
    changes = tuple(run[0][-1] - run[0][0] for run in found)
    return Cell(
        strength=strength.name.removeprefix("scripted-"),
        rule=rule,
        by_round=tuple(mean(column) for column in zip(*(run[0] for run in found), strict=True)),
        changes=changes,
        change=bca_mean(changes),
        fell=sum(change < -0.05 for change in changes),
        accepted=sum(run[1] for run in found),
        search=sum((run[2] for run in found), Spent()),
        trials=sum((run[3] for run in found), Spent()),
    )


def one_run(
    strength: Strength, rule: str, seed: int, rounds: int
) -> tuple[list[float], int, Spent, Spent]:
    """Sealed meta-utilities by round, candidates accepted, and what was spent."""
    config = RunConfig(
        command="run",
        tasks=(str(TASK),),
        improvers=(("seed", load_improver("seed").source),),
        rounds=rounds,
        repeats=2,
        sealed_repeats=8,
        seed=seed,
        model=f"custom:{strength.name}",
        budget=BUDGET,
        meta_budget=BUDGET,
        accept=rule,
        accept_repeats=DEFAULT_REPEATS,
    )
    with tempfile.TemporaryDirectory() as folder:
        run = start(config, str(Path(folder) / "s.db"), model=StrengthModel(strength))
    sealed = [WORST if (found := value(one.sealed)) is None else found for one in run.rounds]
    return (
        sealed,
        sum(one.accepted for one in run.rounds),
        sum(run.searches.values(), Spent()),
        sum((one.trial.spent for one in run.rounds if one.trial is not None), Spent()),
    )


def line(one: Cell) -> str:
    """One cell as a line of the table."""
    change = f"{one.change.value:+.3f} ({one.change.low:+.3f}, {one.change.high:+.3f})"
    return (
        f"{one.strength:<9} {one.rule:<12} {' '.join(f'{v:+.3f}' for v in one.by_round):<27} "
        f"{change:<23} {one.fell:>4} {one.accepted:>6}  "
        f"scores {one.search.utility_calls} + {one.trials.utility_calls}"
    )


if __name__ == "__main__":
    main()
