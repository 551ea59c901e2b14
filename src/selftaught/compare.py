"""The second-order test: is one improver better than another?

Frozen improvers meet the same tasks at the same budget, N times over. Each time is a *seed*: other
instances and other luck, the same for all improvers. Differences are taken within a seed, so the
seed is the unit of every interval and test (docs/adr/0011-second-order-test.md).

`compare` measures. `judge` makes numbers and sentences of what was measured, and of that alone.
"""

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from selftaught import statistics
from selftaught.anytime import Activity, Curve, area, average, curve
from selftaught.budget import Budget
from selftaught.errors import UsageError
from selftaught.meta_utility import WORST, Item, Measured, Measurement, MetaUtility, job_key
from selftaught.pool import Pool, ScoreJob, run_all
from selftaught.solution import Solution
from selftaught.statistics import ALPHA, Estimate
from selftaught.task import Task
from selftaught.utility import Scored, kind

REFERENCES = ("identity", "best_of_n", "iid", "sequential", "greedy", "chain_of_thought")
FIRST_BLOCK = 3000
JOBS_AT_ONCE = 16
MIN_SEEDS = 2
NOT_RUN = "not_run"

Named = tuple[str, Solution]


class Seed(msgspec.Struct, frozen=True, kw_only=True):
    """One seed of a comparison: what every improver made of it.

    Attributes:
        number: from 0.
        measured: by the improver's hash; equal texts are measured once.
        initial: the initial program's value where improvers score, by task and repeat.
    """

    number: int
    measured: dict[str, Measured]
    initial: dict[tuple[str, int], float]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One seed, task and repeat of one improver: the raw numbers.

    Attributes:
        seed, task, repeat: which.
        normalised: on sealed instances; WORST for a failure.
        outcome: its kind, or `not_run`: an improver that failed on the first two places of a
            seed is not run on the others, which count as failures.
        value: the raw utility on sealed instances, higher is better; None for a failure.
        unchanged: the improver returned its input.
        calls, responses, utility_calls: what it spent.
        refusals: requests refused for want of budget, by limit.
        attempts: what it tried and may not, by what.
        curve: its anytime curve on the instances it scored on.
    """

    seed: int
    task: str
    repeat: int
    normalised: float
    outcome: str
    value: float | None
    unchanged: bool
    calls: int
    responses: int
    utility_calls: int
    refusals: dict[str, int]
    attempts: dict[str, int]
    curve: Curve


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One improver's line.

    Attributes:
        name: as shown; `improver` is the hash of its text.
        mean: normalised sealed utility, with its interval over seeds.
        by_seed: the means of which `mean` is the mean.
        by_task: over seeds and repeats.
        curve: the mean anytime curve.
        area_by_score, area_by_call: the areas under it.
        failures: places that failed, by kind of outcome.
        refusals, attempts: summed over places.
        unchanged: places where it returned its input.
        places: all of them.
    """

    name: str
    improver: str
    mean: Estimate
    by_seed: tuple[float, ...]
    by_task: dict[str, float]
    curve: Curve
    area_by_score: Estimate
    area_by_call: Estimate
    failures: dict[str, int]
    refusals: dict[str, int]
    attempts: dict[str, int]
    unchanged: int
    places: tuple[Place, ...]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One improver against the baseline, paired by seed.

    Attributes:
        name, baseline: who against whom.
        by_seed: the improver's mean minus the baseline's.
        mean: their mean, with an interval for this difference alone.
        p: two-sided, of the sign-flip test; `p_holm` is adjusted for all comparisons.
        wins, ties, losses: seeds.
        win_rate: ties count as a half.
        effect: Cohen's d_z; None where every seed gave the same difference but 0.
        detectable: the true difference that this comparison would find 8 times in 10.
        verdict: `better`, `worse` or `none`.
        sentence: the verdict in words.
    """

    name: str
    baseline: str
    by_seed: tuple[float, ...]
    mean: Estimate
    p: float
    p_holm: float
    wins: int
    ties: int
    losses: int
    win_rate: Estimate
    effect: float | None
    detectable: float
    verdict: str
    sentence: str


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What a comparison found; `seeds` may be fewer than asked for where money ran out."""

    baseline: str
    seeds: int
    standings: tuple[Standing, ...]
    differences: tuple[Difference, ...]


def measurement(number: int, repeats: int) -> Measurement:
    """Where seed `number` is measured: blocks that nothing else in a run uses, and its own luck."""
    block = FIRST_BLOCK + number * repeats
    return Measurement(
        name=f"compare-{number}", scored_on="test", inner_block=block, outer_block=block
    )


def compare(
    improvers: Sequence[Named],
    meta_utility: MetaUtility,
    pool: Pool,
    *,
    seeds: int,
    on_seed: Callable[[Seed], None] = lambda seed: None,
) -> list[Seed]:
    """Measure improvers seed by seed, all of them on one seed before the next.

    So a run that ends early has measured every improver equally often.

    Args:
        improvers: names and programs.
        meta_utility: brings tasks, repeats, budget, language model and luck.
        pool: scores the initial programs, and tells how much may go on at once.
        seeds: N.
        on_seed: told of each seed when it is complete.
    """
    distinct = list({improver.hash: improver for _, improver in improvers}.values())
    repeats = meta_utility.sealed_repeats
    # An improver waits most of its time, for a model or a slot, and is a process meanwhile.
    at_once = max(1, max(JOBS_AT_ONCE, 2 * pool.slots) // (repeats * len(meta_utility.tasks)))
    done = []
    for number in range(seeds):
        where = measurement(number, repeats)
        measured: list[Measured] = []
        for i in range(0, len(distinct), at_once):
            some = distinct[i : i + at_once]
            measured += run_all([functools.partial(meta_utility.measure, x, where) for x in some])
        initial = {
            (task.name, repeat): _initial_value(pool, task, where.inner_block + repeat)
            for task in meta_utility.tasks
            for repeat in range(repeats)
        }
        done.append(
            Seed(number=number, measured={m.improver: m for m in measured}, initial=initial)
        )
        on_seed(done[-1])
    return done


def _initial_value(pool: Pool, task: Task, block: int) -> float:
    outcome = pool.score(ScoreJob(task=task, solution=task.initial, split="val", repeat=block))
    return outcome.value if isinstance(outcome, Scored) else task.worst


def judge(
    improvers: Sequence[Named],
    seeds: Sequence[Seed],
    activity: Mapping[str, Activity],
    *,
    tasks: Sequence[Task],
    repeats: int,
    budget: Budget,
    baseline: str | None = None,
) -> Comparison:
    """Make a table of what was measured.

    Args:
        improvers: names and programs, as measured.
        seeds: at least MIN_SEEDS.
        activity: of the run's improve jobs, by key.
        tasks, repeats, budget: as measured.
        baseline: whom the others are compared to; the first where left out.

    Raises:
        UsageError: there is no improver of the baseline's name, or fewer than two seeds.
    """
    names = [name for name, _ in improvers]
    baseline = names[0] if baseline is None else baseline
    if baseline not in names:
        raise UsageError(f"The baseline {baseline!r} is not among: {', '.join(names)}.")
    if len(seeds) < MIN_SEEDS:
        raise UsageError(f"A comparison needs at least {MIN_SEEDS} seeds.")
    standings = []
    for name, improver in improvers:
        places = tuple(
            _place(improver.hash, seed, task, repeat, activity, budget)
            for seed in seeds
            for task in tasks
            for repeat in range(repeats)
        )
        standings.append(standing(name, improver.hash, places))
    by_name = {one.name: one.by_seed for one in standings}
    return Comparison(
        baseline=baseline,
        seeds=len(seeds),
        standings=tuple(standings),
        differences=tuple(differences(by_name, baseline)),
    )


def _place(
    improver: str,
    seed: Seed,
    task: Task,
    repeat: int,
    activity: Mapping[str, Activity],
    budget: Budget,
) -> Place:
    found = [i for i in seed.measured[improver].items if (i.task, i.repeat) == (task.name, repeat)]
    item: Item | None = found[0] if found else None
    phase = f"compare-{seed.number}"
    did = activity.get(job_key(phase, improver, task.name, repeat), Activity())
    initial = seed.initial[task.name, repeat]
    return Place(
        seed=seed.number,
        task=task.name,
        repeat=repeat,
        normalised=item.normalised if item else WORST,
        outcome=kind(item.outcome) if item else NOT_RUN,
        value=item.outcome.value if item and isinstance(item.outcome, Scored) else None,
        unchanged=item.unchanged if item else False,
        calls=item.calls if item else 0,
        responses=item.responses if item else 0,
        utility_calls=item.utility_calls if item else 0,
        refusals=did.refusals,
        attempts=did.attempts,
        curve=curve(did.requests, task, initial, budget.utility_calls, budget.calls),
    )


def standing(name: str, improver: str, places: Sequence[Place]) -> Standing:
    """Sum one improver's places up; every seed has as many of them as every other."""

    def by_seed(number: Callable[[Place], float]) -> tuple[float, ...]:
        return _means((one.seed, number(one)) for one in places)

    values = by_seed(lambda one: one.normalised)
    tasks = dict.fromkeys(one.task for one in places)
    return Standing(
        name=name,
        improver=improver,
        mean=statistics.bca_mean(values),
        by_seed=values,
        by_task={
            task: statistics.mean([one.normalised for one in places if one.task == task])
            for task in tasks
        },
        curve=average([one.curve for one in places]),
        area_by_score=statistics.bca_mean(by_seed(lambda one: area(one.curve.by_score))),
        area_by_call=statistics.bca_mean(by_seed(lambda one: area(one.curve.by_call))),
        failures=_total({one.outcome: 1} for one in places if one.value is None),
        refusals=_total(one.refusals for one in places),
        attempts=_total(one.attempts for one in places),
        unchanged=sum(one.unchanged for one in places),
        places=tuple(places),
    )


def differences(by_seed: Mapping[str, Sequence[float]], baseline: str) -> list[Difference]:
    """Compare every other improver to the baseline; p-values are Holm's over all of these.

    Args:
        by_seed: each improver's numbers, in the same order of seeds.
        baseline: one of them.
    """
    reference = by_seed[baseline]
    paired = {
        name: tuple(a - b for a, b in zip(values, reference, strict=True))
        for name, values in by_seed.items()
        if name != baseline
    }
    p_values = [statistics.sign_flip_p(values) for values in paired.values()]
    adjusted = statistics.holm(p_values)
    return [
        _difference(name, baseline, values, p, p_holm, len(paired))
        for (name, values), p, p_holm in zip(paired.items(), p_values, adjusted, strict=True)
    ]


def _difference(
    name: str, baseline: str, values: tuple[float, ...], p: float, p_holm: float, comparisons: int
) -> Difference:
    wins, losses = sum(v > 0 for v in values), sum(v < 0 for v in values)
    ties = len(values) - wins - losses
    mean = statistics.bca_mean(values)
    verdict = "none" if p_holm > ALPHA else "better" if mean.value > 0 else "worse"
    detectable = statistics.detectable_difference(values, comparisons=comparisons)
    if verdict == "none":
        sentence = _no_difference(name, baseline, values, detectable, comparisons)
    else:
        sentence = (
            f"{name} is {verdict} than {baseline} by {abs(mean.value):.3f} "
            f"(95 % of the difference {mean.low:+.3f} to {mean.high:+.3f}; p_Holm = {p_holm:.2g})."
        )
    return Difference(
        name=name,
        baseline=baseline,
        by_seed=values,
        mean=mean,
        p=p,
        p_holm=p_holm,
        wins=wins,
        ties=ties,
        losses=losses,
        win_rate=statistics.wilson(wins + ties / 2, len(values)),
        effect=statistics.effect_size(values),
        detectable=detectable,
        verdict=verdict,
        sentence=sentence,
    )


def _no_difference(
    name: str, baseline: str, values: Sequence[float], detectable: float, comparisons: int
) -> str:
    n = len(values)
    start = f"{name} and {baseline}: no difference was found ({n} seeds; "
    if not any(values):
        return f"{start}they did equally well on every one)."
    if comparisons * statistics.least_p(n) > ALPHA:
        return (
            f"{start}so few cannot show any among {comparisons} comparisons, "
            f"it takes {seeds_needed(comparisons)})."
        )
    return f"{start}differences below about {detectable:.2g} would be missed)."


def seeds_needed(comparisons: int) -> int:
    """The fewest seeds with which the sign-flip test can reach ALPHA after Holm's first step."""
    return 1 + math.ceil(math.log2(comparisons / ALPHA))


def _means(numbers: Iterable[tuple[int, float]]) -> tuple[float, ...]:
    groups: dict[int, list[float]] = {}
    for group, number in numbers:
        groups.setdefault(group, []).append(number)
    return tuple(statistics.mean(group) for group in groups.values())


def _total(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for key, times in one.items():
            total[key] = total.get(key, 0) + times
    return total
