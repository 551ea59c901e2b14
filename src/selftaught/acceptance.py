"""The rule `significant`: a candidate is tried against the improver in force on fresh instances.

Both meet the same instances and luck, one repeat after another. A repeat gives one difference: the
mean over tasks of the capped differences of normalised utility. Tasks are not tested one by one,
since a candidate may gain on some and lose on others; repeats are independent given the programs,
and the sequential test asks for less than that.

The run as a whole shall accept an improver that is not better with a chance of at most ALPHA. So
each of its T rounds gets ALPHA / T (Bonferroni): how rounds depend on each other does not matter.
"""

import functools

import msgspec

from selftaught import sequential
from selftaught.budget import Spent
from selftaught.meta_utility import Item, Measurement, MetaUtility
from selftaught.pool import run_all
from selftaught.sequential import Stop
from selftaught.solution import Solution
from selftaught.statistics import ALPHA, mean

DEFAULT_REPEATS = 30
# Blocks below are those of validation, sealed and held-out tables, and comparisons.
FIRST_BLOCK = 100_000
MOST_REPEATS = 500

_WORDS: dict[Stop, str] = {
    "better": "better on fresh instances",
    "futile": "not shown to be better, and it would not be",
    "spent": "not shown to be better",
}


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate against the improver in force, repeat by repeat.

    Attributes:
        differences: candidate minus improver in force, one for each repeat.
        evidence: that the candidate is better, 1 at the outset.
        needed: at which evidence it is accepted.
        stop: why the trial ended.
        spent: by both improvers together, on tasks.
    """

    differences: tuple[float, ...]
    evidence: float
    needed: float
    stop: Stop
    spent: Spent

    @property
    def accepted(self) -> bool:
        """Whether the candidate becomes the improver."""
        return self.stop == "better"

    @property
    def words(self) -> str:
        """The outcome in words, with the numbers it rests on."""
        return (
            f"{_WORDS[self.stop]}: {mean(self.differences):+.3f} over {len(self.differences)} "
            f"repeats, evidence {self.evidence:.3g} of {self.needed:.3g}"
        )


def measurement(round_: int) -> Measurement:
    """Where the candidate of a round, from 1, is tried: blocks that nothing else uses."""
    block = FIRST_BLOCK + 2 * MOST_REPEATS * (round_ - 1)
    return Measurement(
        name=f"accept-{round_}",
        scored_on="val",
        inner_block=block,
        outer_block=block + MOST_REPEATS,
    )


class Trials:
    """The trials of one run.

    Args:
        meta_utility: brings tasks and budget.
        rounds: T, which share ALPHA.
        most: repeats of one trial.
    """

    def __init__(self, meta_utility: MetaUtility, *, rounds: int, most: int) -> None:
        self.held: dict[int, Trial] = {}
        self._meta_utility = meta_utility
        self._alpha = ALPHA / rounds
        self._most = most

    def is_better(self, round_: int, current: Solution, candidate: Solution) -> bool:
        """Hold the trial of a round, keep it in `held`, and return its decision."""
        where = measurement(round_)
        differences: list[float] = []
        spent = Spent()
        end: Stop | None = None
        while end is None:
            meet = functools.partial(self._meta_utility.meet, where=where, repeat=len(differences))
            theirs, ours = run_all([functools.partial(meet, one) for one in (current, candidate)])
            differences.append(difference(theirs, ours))
            spent = sum(map(_spent, (*theirs, *ours)), spent)
            end = sequential.stop(differences, alpha=self._alpha, most=self._most)
        self.held[round_] = Trial(
            differences=tuple(differences),
            evidence=sequential.evidence(differences),
            needed=sequential.needed(self._alpha),
            stop=end,
            spent=spent,
        )
        return self.held[round_].accepted


def difference(theirs: tuple[Item, ...], ours: tuple[Item, ...]) -> float:
    """Ours minus theirs on one repeat: the mean over tasks of the capped differences."""
    return mean(
        [
            sequential.capped(our.normalised - their.normalised)
            for their, our in zip(theirs, ours, strict=True)
        ]
    )


def _spent(item: Item) -> Spent:
    return Spent(calls=item.calls, responses=item.responses, utility_calls=item.utility_calls)


def fewest_repeats(rounds: int) -> int:
    """How many repeats a trial of one of `rounds` needs at least to accept anything."""
    return sequential.fewest(ALPHA / rounds)
