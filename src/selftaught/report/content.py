"""What a report says, gathered from the record: sections with sentences, figures, tables, code."""

import platform
from collections.abc import Iterator, Sequence

import msgspec

from selftaught.anytime import activities, curve
from selftaught.events import Requested, evaluation_key
from selftaught.history import read_history
from selftaught.improvement import PHASE, best
from selftaught.improver import ENTRY_POINT
from selftaught.meta_utility import job_key
from selftaught.report.figures import Interval, Point, Series, interval_chart, line_chart
from selftaught.report.lineage import lineage_figure
from selftaught.report.tables import Table, tables_of
from selftaught.runs.config import RunConfig, is_mutation
from selftaught.runs.recall import recall
from selftaught.runs.result import Run
from selftaught.solution import Solution
from selftaught.source_diff import diff_lines
from selftaught.store.event_store import RunRow, Store
from selftaught.strategies_used import strategies_used
from selftaught.task import Task
from selftaught.transfer import Row
from selftaught.utility import Scored

_KINDS = {
    "run": "The Self-Taught Optimizer on",
    "improve": "Improving",
    "transfer": "Improvers on",
    "compare": "A comparison of improvers on",
    "audit": "An audit of improvers, run on",
}


class Figure(msgspec.Struct, frozen=True):
    """A figure as SVG and what it shows."""

    svg: str
    caption: str


class Program(msgspec.Struct, frozen=True):
    """A program in full, with what changed from the one before it."""

    title: str
    source: str
    diff: tuple[str, ...]


class Section(msgspec.Struct, frozen=True):
    """One part of the page; empty parts are left out."""

    title: str
    sentences: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    programs: tuple[Program, ...] = ()


class Report(msgspec.Struct, frozen=True):
    """Everything on the page.

    Attributes:
        title: what was done, to what.
        row: the run's line in the store.
        verdicts: the result in sentences.
        sections: in reading order.
        facts: names and values needed to judge and to repeat the run.
        is_mutation: proposals were random mutations, which the page says at its top.
        config: what the run was a function of.
        tables: all tables of the run, those too that the page does not print.
    """

    title: str
    row: RunRow
    verdicts: tuple[str, ...]
    sections: tuple[Section, ...]
    facts: tuple[tuple[str, str], ...]
    is_mutation: bool
    config: RunConfig
    tables: dict[str, Table]


def gather(store: Store, run_id: str) -> Report:
    """Read a run back and put its report together.

    Args:
        store: open for reading.
        run_id: an id, the unique beginning of one, or `latest`.

    Raises:
        SelftaughtError: no such run, or a task that has changed since.
    """
    run_id = store.resolve(run_id)
    (row,) = [row for row in store.runs() if row.id == run_id]
    run = recall(store, run_id)
    tables = tables_of(run, store)
    sections = [
        _curves(run, store, tables),
        _side_by_side(run, tables),
        _of_tables("What was generated", tables, "audit"),
        _lineage(run, store, tables),
        _programs(run),
        _strategies(store, run_id),
        _of_tables("What it cost", tables, "costs"),
        _violations(tables),
    ]
    config = run.config
    subject = ", ".join(config.held_out if config.command == "compare" else config.tasks)
    return Report(
        title=f"{_KINDS.get(config.command, config.command)} {subject or '-'}",
        row=row,
        verdicts=tuple(_verdicts(run)),
        sections=tuple(s for s in sections if s.figures or s.tables or s.programs or s.sentences),
        facts=tuple(_facts(run, row)),
        is_mutation=is_mutation(config),
        config=config,
        tables=tables,
    )


def _verdicts(run: Run) -> Iterator[str]:
    if run.comparison is not None:
        yield from (one.sentence for one in run.comparison.differences)
    if run.audit is not None:
        counted = next(rate for rate in run.audit.rates if rate.measure == "unsandboxed")
        for condition, total in run.audit.generations.items():
            share = counted.shares[condition]
            yield (
                f"{condition}: {counted.counts[condition]:,} of {total:,} generations were "
                f"unsandboxed, {share.value:.2%} (95 %: {share.low:.2%} to {share.high:.2%})."
            )
    if run.rounds:
        taken = sum(one.accepted for one in run.rounds)
        yield f"{taken} of {len(run.rounds) - 1} rounds changed the improver."
    for rows, where in ((run.sealed_rows, "the run's own tasks"), (run.rows, "held-out tasks")):
        for row in rows[1:]:
            if row.name == "final":
                yield (
                    f"On {where} the final improver differs from {rows[0].name} by "
                    f"{row.difference:+.3f}, standard error {row.difference_error:.3f}, over "
                    f"{len(row.measured.items)} pairs of sealed measurements."
                )
    chosen = best(run.improvements)
    if chosen is not None and isinstance(chosen.sealed, Scored):
        yield (
            f"{chosen.name} made the program that is best on validation: "
            f"{chosen.sealed.value:.3f} ± {chosen.sealed.standard_error:.3f} on sealed test."
        )


def _curves(run: Run, store: Store, tables: dict[str, Table]) -> Section:
    figures = []
    if run.rounds:
        scored = {
            name: [
                Point(one.number, m.value, m.value - m.standard_error, m.value + m.standard_error)
                for one in run.rounds
                if isinstance(m := getattr(one, field).outcome, Scored)
            ]
            for name, field in (("validation", "validation"), ("sealed test", "sealed"))
        }
        figures.append(
            Figure(
                line_chart(
                    [Series(name, tuple(points)) for name, points in scored.items() if points],
                    x_label="round",
                    y_label="meta-utility",
                ),
                "Meta-utility of the improver in force after each round, with standard errors "
                "over tasks and repeats. 0 is the initial program, 1 the best known. Improvers "
                "were chosen by validation; nothing ever saw the sealed test.",
            )
        )
    if run.comparison is not None:
        figures.append(
            Figure(
                line_chart(
                    [
                        Series(one.name, _points(one.curve.by_score))
                        for one in run.comparison.standings
                    ],
                    x_label="utility calls",
                    y_label="best validation value so far",
                ),
                "The anytime curve: the best normalised value on validation after so many "
                "utility calls, the mean over seeds, tasks and repeats.",
            )
        )
    if run.improvements:
        figures += _improve_curves(run, store)
    shown = [tables[name] for name in ("rounds", "trials", "improvements") if name in tables]
    return Section("How it went", figures=tuple(figures), tables=tuple(shown))


def _improve_curves(run: Run, store: Store) -> list[Figure]:
    config = run.config
    task = Task.load(config.tasks[0])
    key = evaluation_key(task.key, "val", 0, task.initial.hash)
    event = store.find(run.id, "evaluated", key)
    start = getattr(event, "outcome", None)
    if not isinstance(start, Scored):
        return []
    did = activities(e for _, _, e in store.events(run.id, kinds=("requested",)))
    series = []
    for one in run.improvements:
        activity = did.get(job_key(PHASE, one.improver.hash, task.name, 0))
        if activity is not None:
            scores, calls = config.budget.utility_calls, config.budget.calls
            curves = curve(activity.requests, task, start.value, scores, calls)
            series.append(Series(one.name, _points(curves.by_score)))
    if not series:
        return []
    svg = line_chart(series, x_label="utility calls", y_label="best validation value so far")
    return [
        Figure(
            svg,
            "The best normalised value on validation after so many utility calls. 0 is the "
            "initial program, 1 the best known.",
        )
    ]


def _points(values: Sequence[float]) -> tuple[Point, ...]:
    return tuple(Point(place, value) for place, value in enumerate(values))


def _side_by_side(run: Run, tables: dict[str, Table]) -> Section:
    figures = []
    if run.comparison is not None:
        figures.append(
            Figure(
                interval_chart(
                    [
                        Interval(one.name, one.mean.value, one.mean.low, one.mean.high)
                        for one in run.comparison.differences
                    ],
                    x_label=f"normalised utility minus that of {run.comparison.baseline}",
                ),
                f"Differences paired by seed, {run.comparison.seeds} seeds, with 95 % bootstrap "
                "(BCa) intervals, each for one difference alone. The verdicts use p-values "
                "adjusted for all of them.",
            )
        )
    for rows, where in ((run.sealed_rows, "the run's own tasks"), (run.rows, "held-out tasks")):
        if len(rows) > 1:
            figures.append(_row_figure(rows, where))
    names = ("differences", "standings", "sealed", "held_out")
    return Section(
        "Side by side, at equal budgets",
        figures=tuple(figures),
        tables=tuple(tables[name] for name in names if name in tables),
    )


def _row_figure(rows: Sequence[Row], where: str) -> Figure:
    intervals = [
        Interval(
            row.name,
            row.difference,
            row.difference - row.difference_error,
            row.difference + row.difference_error,
        )
        for row in rows[1:]
    ]
    return Figure(
        interval_chart(intervals, x_label=f"normalised utility minus that of {rows[0].name}"),
        f"Differences on {where}, sealed instances, same luck and budget: the mean over tasks and "
        "repeats, plus and minus one standard error. Not a test, which the command compare makes.",
    )


def _lineage(run: Run, store: Store, tables: dict[str, Table]) -> Section:
    if len(run.rounds) < 2:
        return Section("Lineage")
    asked: dict[int, list[Requested]] = {}
    for _, _, event in store.events(run.id, kinds=("requested",)):
        if isinstance(event, Requested) and event.job.startswith("round/"):
            asked.setdefault(int(event.job.removeprefix("round/")), []).append(event)
    return Section(
        "Lineage",
        figures=(
            Figure(
                lineage_figure(run.rounds, asked),
                "Every improver that a round scored, by its meta-utility on validation. The line "
                "joins the improvers in force; a ring is what a round returned and was not taken. "
                "Those that failed are counted below their round.",
            ),
        ),
    )


def _programs(run: Run) -> Section:
    programs = []
    if len(run.rounds) > 1:
        first, last = run.rounds[0].improver.source, run.rounds[-1].improver.source
        programs.append(
            Program(
                "The final improver, and what changed from the seed improver",
                last,
                tuple(diff_lines(first, last, ("seed", "final"))),
            )
        )
    chosen = best(run.improvements)
    if chosen is not None:
        initial = Task.load(run.config.tasks[0]).initial.source
        programs.append(
            Program(
                f"The best program on validation, by {chosen.name}, and what changed",
                chosen.program.source,
                tuple(diff_lines(initial, chosen.program.source, ("initial", "improved"))),
            )
        )
    return Section("Programs", programs=tuple(programs))


def _strategies(store: Store, run_id: str) -> Section:
    used = strategies_used(store, read_history(store, run_id))
    rows = [
        (
            one.name,
            "; ".join(f"{f.name} (line {f.line})" for f in one.in_text) or None,
            "; ".join(f"{name}: {told}" for name, told in one.in_requests.items()) or None,
        )
        for one in used
    ]
    table = Table(
        "strategies",
        "What each improver does: by structure of its text, and by what went into what",
        ("improver", "in_its_text", "in_its_requests"),
        tuple(rows),
    )
    return Section("Strategies", tables=(table,) if rows else ())


def _of_tables(title: str, tables: dict[str, Table], *names: str) -> Section:
    return Section(title, tables=tuple(tables[name] for name in names if name in tables))


def _violations(tables: dict[str, Table]) -> Section:
    if "violations" in tables:
        return _of_tables("Failures and violations", tables, "violations")
    return Section(
        "Failures and violations",
        sentences=(
            "No program failed, none was refused for want of budget, none tried what is forbidden.",
        ),
    )


def _facts(run: Run, row: RunRow) -> Iterator[tuple[str, str]]:
    config = run.config
    yield "command", row.command
    yield "run", row.id
    yield "status", f"{row.status}{f': {row.reason}' if row.reason else ''}"
    yield "seed", str(config.seed)
    yield "model", config.model
    yield "trained on", ", ".join(config.tasks) or "-"
    yield "held out", ", ".join(config.held_out) or "-"
    for name, budget in (("one application", config.budget), ("on itself", config.meta_budget)):
        spend = f"{budget.calls} calls × {budget.responses} responses"
        yield f"budget, {name}", f"{spend}, {budget.utility_calls} utility calls"
    yield "repeats", f"{config.repeats} on validation, {config.sealed_repeats} sealed"
    yield "acceptance", config.accept
    for name, source in config.improvers:
        yield f"hash of {name}", Solution(source, ENTRY_POINT).hash
    yield "improver API", str(config.improver_api)
    yield "selftaught", config.version
    yield "report made with", f"Python {platform.python_version()}"
    for task, digest in config.digests.items():
        yield f"digest of {task}", digest
