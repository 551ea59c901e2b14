"""The numbers of a run as named tables, each the same in the page, in CSV, Parquet and LaTeX."""

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from selftaught.audit.study import Audit
from selftaught.compare import Comparison
from selftaught.events import Answered, Attempted, BudgetRefused, Evaluated, Improved
from selftaught.improvement import Improvement
from selftaught.meta_utility import Measured
from selftaught.runs.result import Run
from selftaught.statistics import mean
from selftaught.store.event_store import Store
from selftaught.transfer import Row
from selftaught.utility import Outcome, Scored, kind

Cell = str | int | float | bool | None


class Table(msgspec.Struct, frozen=True):
    """Rows under named columns.

    Attributes:
        name: as `--table` takes it.
        title: what it shows, in words.
        columns: their names, fit for a program.
        rows: one cell per column; None where there is no value.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


MAIN = {
    "run": "rounds",
    "improve": "improvements",
    "transfer": "held_out",
    "compare": "differences",
    "audit": "audit",
}


def tables_of(run: Run, store: Store) -> dict[str, Table]:
    """Every table that a run has something for, the most telling ones first."""
    found = [*_results(run), *_counts(run, store)]
    return {table.name: table for table in found if table.rows}


def _results(run: Run) -> Iterator[Table]:
    if run.comparison is not None:
        yield _differences(run.comparison)
        yield _standings(run.comparison)
        yield _places(run.comparison)
    if run.audit is not None:
        yield _rates(run.audit)
    yield Table(
        "rounds",
        "Rounds of Algorithm 1: meta-utility of the improver in force",
        _names(
            "round improver candidate accepted validation validation_error sealed sealed_error "
            "calls responses utility_calls what_happened"
        ),
        tuple(
            (
                one.number,
                one.improver.hash,
                one.candidate.hash if one.candidate else None,
                one.accepted,
                *_value(one.validation.outcome),
                *_value(one.sealed.outcome),
                one.calls,
                one.responses,
                one.utility_calls,
                one.reason,
            )
            for one in run.rounds
        ),
    )
    yield Table(
        "trials",
        "Candidates against the improver in force, on fresh instances",
        _names("round repeats mean evidence needed stop calls responses utility_calls"),
        tuple(
            (
                *(one.number, len(trial.differences), mean(trial.differences), trial.evidence),
                *(trial.needed, trial.stop),
                *(trial.spent.calls, trial.spent.responses, trial.spent.utility_calls),
            )
            for one in run.rounds
            if (trial := one.trial) is not None
        ),
    )
    yield _rows("sealed", "The run's own tasks, sealed test instances", run.sealed_rows)
    yield _rows("held_out", "Tasks that the run never saw, sealed test instances", run.rows)
    yield Table(
        "improvements",
        "Programs that the improvers returned: utility, higher is better",
        _names(
            "improver outcome validation validation_error sealed sealed_error calls responses "
            "utility_calls program"
        ),
        tuple(map(_improvement, run.improvements)),
    )


def _improvement(one: Improvement) -> tuple[Cell, ...]:
    return (
        one.name,
        kind(one.outcome),
        *_value(one.validation),
        *_value(one.sealed),
        one.calls,
        one.responses,
        one.utility_calls,
        one.program.hash,
    )


def _rows(name: str, title: str, rows: Sequence[Row]) -> Table:
    tasks = list(dict.fromkeys(task for row in rows for task in row.measured.by_task))
    first = rows[0].name if rows else ""
    return Table(
        name,
        f"{title}: normalised utility",
        (
            *("improver", "mean", "error", f"minus_{first}", f"minus_{first}_error"),
            *tasks,
            *_names("unchanged items calls utility_calls hash"),
        ),
        tuple(
            (
                row.name,
                *_value(row.measured.outcome),
                row.difference,
                row.difference_error,
                *(row.measured.by_task.get(task) for task in tasks),
                sum(item.unchanged for item in row.measured.items),
                len(row.measured.items),
                _mean_of(row.measured, "calls"),
                _mean_of(row.measured, "utility_calls"),
                row.improver.hash,
            )
            for row in rows
        ),
    )


def _rates(found: Audit) -> Table:
    return Table(
        "audit",
        "Shares of all generations; intervals are 95 % (Wilson)",
        _names("measure condition count generations share low high"),
        tuple(
            (
                *(rate.measure, condition, rate.counts[condition], total),
                *(share.value, share.low, share.high),
            )
            for rate in found.rates
            for condition, total in found.generations.items()
            for share in [rate.shares[condition]]
        ),
    )


def _differences(found: Comparison) -> Table:
    return Table(
        "differences",
        f"Differences to {found.baseline}, paired by seed; intervals are 95 %",
        _names(
            "improver baseline mean low high p p_holm wins ties losses win_rate win_rate_low "
            "win_rate_high d_z detectable verdict"
        ),
        tuple(
            (
                *(one.name, one.baseline, one.mean.value, one.mean.low, one.mean.high),
                *(one.p, one.p_holm, one.wins, one.ties, one.losses),
                *(one.win_rate.value, one.win_rate.low, one.win_rate.high),
                *(one.effect, one.detectable, one.verdict),
            )
            for one in found.differences
        ),
    )


def _standings(found: Comparison) -> Table:
    tasks = list(found.standings[0].by_task)
    return Table(
        "standings",
        "Sealed test instances: normalised utility; intervals are 95 %",
        (
            *_names("improver mean low high"),
            *tasks,
            *_names("area area_low area_high failures refusals attempts unchanged places hash"),
        ),
        tuple(
            (
                *(one.name, one.mean.value, one.mean.low, one.mean.high),
                *(one.by_task[task] for task in tasks),
                *(one.area_by_score.value, one.area_by_score.low, one.area_by_score.high),
                *(sum(counts.values()) for counts in (one.failures, one.refusals, one.attempts)),
                *(one.unchanged, len(one.places), one.improver),
            )
            for one in found.standings
        ),
    )


def _places(found: Comparison) -> Table:
    return Table(
        "places",
        "Every seed, task and repeat of every improver",
        _names(
            "improver seed task repeat outcome value normalised unchanged calls responses "
            "utility_calls"
        ),
        tuple(
            (
                *(one.name, at.seed, at.task, at.repeat, at.outcome, at.value, at.normalised),
                *(at.unchanged, at.calls, at.responses, at.utility_calls),
            )
            for one in found.standings
            for at in one.places
        ),
    )


def _counts(run: Run, store: Store) -> Iterator[Table]:
    costs: dict[tuple[str, str], list[Answered]] = {}
    violations: Counter[tuple[str, str]] = Counter()
    for _, _, event in store.events(run.id):
        match event:
            case Answered() if event.source == "live":
                costs.setdefault((phase(event.job), event.model), []).append(event)
            case BudgetRefused():
                violations["over budget", event.limit] += event.times
            case Attempted():
                violations["forbidden by the sandbox", event.what] += 1
            case Evaluated() if not isinstance(event.outcome, Scored):
                violations["program failed", kind(event.outcome)] += 1
            case Improved() if kind(event.outcome) != "returned":
                violations["improver failed", kind(event.outcome)] += 1
            case _:
                pass
    yield Table(
        "costs",
        "What the language model was asked, by part of the run",
        _names("part model calls responses prompt_tokens completion_tokens dollars seconds_waited"),
        tuple((*of, *_cost(answers)) for of, answers in costs.items()),
    )
    yield Table(
        "violations",
        "Failures, refusals and attempts at what is forbidden",
        ("what", "kind", "times"),
        tuple((*what, times) for what, times in sorted(violations.items())),
    )


def _cost(answers: Sequence[Answered]) -> tuple[Cell, ...]:
    prices = [one.dollars for one in answers if one.dollars is not None]
    return (
        len(answers),
        sum(len(one.texts) for one in answers),
        sum(one.prompt_tokens for one in answers),
        sum(one.completion_tokens for one in answers),
        sum(prices) if prices else None,
        sum(one.seconds for one in answers),
    )


def phase(job: str) -> str:
    """The part of a run that a job belongs to, from its key: `round 2`, `validation`, ..."""
    first, _, rest = job.partition("/")
    if first == "round":
        return f"round {rest}"
    return "comparison" if first.startswith("compare-") else first


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _value(outcome: Outcome) -> tuple[Cell, Cell]:
    if isinstance(outcome, Scored):
        return outcome.value, outcome.standard_error
    return None, None


def _mean_of(measured: Measured, field: str) -> float:
    counts = [float(getattr(item, field)) for item in measured.items]
    return sum(counts) / len(counts) if counts else 0.0
