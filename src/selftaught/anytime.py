"""The anytime curve: how good the best program known is, after so much spending.

Two improvers that end equally well may differ in how soon they get there. A curve is read from the
scores that an improver paid for, so it shows validation, not sealed test.
"""

from collections.abc import Iterable, Sequence

import msgspec

from selftaught.events import AnyEvent, Attempted, BudgetRefused, Requested
from selftaught.task import Task
from selftaught.utility import Scored, kind

SCORED = kind(Scored(value=0.0))


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """What one improve job was seen to do, beside what came of it.

    Attributes:
        requests: scores it paid for, in the order asked.
        refusals: requests refused for want of budget, by limit.
        attempts: what it tried and may not, by what.
    """

    requests: tuple[Requested, ...] = ()
    refusals: dict[str, int] = {}
    attempts: dict[str, int] = {}


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """The best normalised validation value so far: 0 is the initial program, 1 the best known.

    Attributes:
        by_score: after k utility calls, k from 0 to the budget.
        by_call: after k language model calls, with all that was scored before the next one.
    """

    by_score: tuple[float, ...]
    by_call: tuple[float, ...]


def activities(events: Iterable[AnyEvent]) -> dict[str, Activity]:
    """Sort a run's events by improve job.

    A job that was killed and ran again records a part twice. So of equal records one counts.
    """
    requests: dict[str, dict[int, Requested]] = {}
    refusals: dict[str, dict[str, int]] = {}
    attempts: dict[str, dict[tuple[str, str], str]] = {}
    for event in events:
        match event:
            case Requested():
                requests.setdefault(event.job, {})[event.call] = event
            case BudgetRefused():
                refusals.setdefault(event.job, {})[event.limit] = event.times
            case Attempted():
                attempts.setdefault(event.job, {})[event.what, event.detail] = event.what
            case _:
                pass
    found = {}
    for job in {**requests, **refusals, **attempts}:
        whats = list(attempts.get(job, {}).values())
        asked = requests.get(job, {})
        found[job] = Activity(
            requests=tuple(asked[call] for call in sorted(asked)),
            refusals=refusals.get(job, {}),
            attempts={what: whats.count(what) for what in dict.fromkeys(whats)},
        )
    return found


def curve(
    requests: Sequence[Requested], task: Task, initial: float, scores: int, calls: int
) -> Curve:
    """The curve of one job.

    Args:
        requests: scores that it paid for.
        task: brings the normalisation.
        initial: the initial program's value on the same instances; known for free.
        scores, calls: the budget, which is where the curve ends.
    """
    by_score, by_call = [0.0] * (scores + 1), [0.0] * (calls + 1)
    for request in requests:
        if request.outcome != SCORED:
            continue
        value = task.normalise(request.value, initial)
        if request.call <= scores:
            by_score[request.call] = max(by_score[request.call], value)
        if request.calls <= calls:
            by_call[request.calls] = max(by_call[request.calls], value)
    return Curve(by_score=_best_so_far(by_score), by_call=_best_so_far(by_call))


def average(curves: Sequence[Curve]) -> Curve:
    """The mean curve, place by place; all of one length."""
    n = len(curves)
    return Curve(
        by_score=tuple(sum(at) / n for at in zip(*(c.by_score for c in curves), strict=True)),
        by_call=tuple(sum(at) / n for at in zip(*(c.by_call for c in curves), strict=True)),
    )


def area(points: Sequence[float]) -> float:
    """The area under a curve over its budget: the mean height after each call, from the first on.

    1 is the best known value from the first call on; 0 is no gain at all.
    """
    return sum(points[1:]) / (len(points) - 1)


def improved_by(curves: Sequence[Curve]) -> dict[int, float]:
    """imp@k: the share of curves above 0 after k scores, for k = 1, 2, 4, ... up to the budget."""
    longest = len(curves[0].by_score) - 1
    counts = [2**power for power in range(longest.bit_length())]
    return {k: sum(one.by_score[k] > 0 for one in curves) / len(curves) for k in counts}


def _best_so_far(values: Sequence[float]) -> tuple[float, ...]:
    best, found = 0.0, []
    for value in values:
        best = max(best, value)
        found.append(best)
    return tuple(found)
