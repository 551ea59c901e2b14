"""How well strategies are found in texts: precision and recall on labelled improvers.

    python bench/strategies.py             both parts of the set, strategy by strategy
    python bench/strategies.py --errors    the errors on the part for tuning, file by file

The rules may be changed to suit `tuning`. `held_out` measures them, so its errors are not shown.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from selftaught.strategies.classify import strategies_in
from selftaught.strategies.rules import STRATEGIES

ROOT = Path(__file__).parents[1] / "tests" / "programs" / "strategies"
PARTS = ("tuning", "held_out")
LABELS = "# strategies: "


class Labelled(NamedTuple):
    """A program, what a reader sees in it, and what the rules find."""

    name: str
    labels: set[str]
    found: set[str]


class Counts(NamedTuple):
    """Programs with a strategy that was found, was found wrongly, or was missed; and the others."""

    hits: int
    false: int
    missed: int
    without: int

    @property
    def precision(self) -> float:
        """Share of what was found that is there; 1 where nothing was found."""
        return self.hits / (self.hits + self.false) if self.hits + self.false else 1.0

    @property
    def recall(self) -> float:
        """Share of what is there that was found; 1 where nothing is there."""
        return self.hits / (self.hits + self.missed) if self.hits + self.missed else 1.0


def main() -> None:
    """Print a table for each part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--errors", action="store_true", help="list those of `tuning`")
    options = parser.parse_args()
    for part in PARTS:
        programs = list(read(part))
        print(f"\n{part}: {len(programs)} programs")
        print(
            f"{'':22}{'hits':>6}{'false':>7}{'missed':>8}{'without':>9}{'precision':>11}{'recall':>8}"
        )
        for name, counts in [*by_strategy(programs).items(), ("all", total(programs))]:
            hits, false, missed, without = counts
            print(
                f"{name:22}{hits:6}{false:7}{missed:8}{without:9}"
                f"{counts.precision:11.2f}{counts.recall:8.2f}"
            )
    if options.errors:
        for program in read("tuning"):
            for kind, names in (
                ("false", program.found - program.labels),
                ("missed", program.labels - program.found),
            ):
                if names:
                    print(f"{program.name}: {kind} {', '.join(sorted(names))}")


def read(part: str) -> Iterator[Labelled]:
    """Yield the programs of a part in the order of their names."""
    for path in sorted((ROOT / part).glob("*.py")):
        source = path.read_text(encoding="utf-8")
        first, _, program = source.partition("\n")
        labels = set(first.removeprefix(LABELS).split(", ")) - {"none"}
        yield Labelled(path.stem, labels, {one.name for one in strategies_in(program)})


def by_strategy(programs: list[Labelled]) -> dict[str, Counts]:
    """Count for each strategy, in the documentation's order."""
    return {
        name: Counts(
            hits=sum(name in p.labels and name in p.found for p in programs),
            false=sum(name not in p.labels and name in p.found for p in programs),
            missed=sum(name in p.labels and name not in p.found for p in programs),
            without=sum(name not in p.labels and name not in p.found for p in programs),
        )
        for name in (strategy.name for strategy in STRATEGIES)
    }


def total(programs: list[Labelled]) -> Counts:
    """Add up the counts of all strategies, which gives micro-averages."""
    return Counts(*(sum(column) for column in zip(*by_strategy(programs).values(), strict=True)))


if __name__ == "__main__":
    main()
