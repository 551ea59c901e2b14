"""What a run came to, on the screen: tables, diffs, one line on what was spent; or as JSON."""

from collections.abc import Mapping, Sequence

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from selftaught.algorithm import Round
from selftaught.cli import audit_tables, screen, trials, verdicts
from selftaught.cli.screen import shown, titled_table
from selftaught.events import RunResumed
from selftaught.improvement import Improvement, best
from selftaught.meta_utility import Measured
from selftaught.runs.config import is_mutation
from selftaught.runs.result import Run
from selftaught.source_diff import diff_lines
from selftaught.task import Task
from selftaught.transfer import Row
from selftaught.utility import Scored, kind

EXIT_BUDGET = 3


def print_run(run: Run, seconds: float, json: bool) -> None:
    """Print what came of a run.

    Raises:
        typer.Exit: a limit ended it before its first result.
    """
    if json:
        screen.print_json(_as_data(run, seconds))
    else:
        _print_tables(run, seconds)
    if run.status == "budget":
        screen.err.print(f"[yellow]The run ended early.[/yellow] {screen.plain(run.reason)}")
        if not (run.rounds or run.rows or run.improvements or run.comparison or run.audit):
            raise typer.Exit(EXIT_BUDGET)


def _print_tables(run: Run, seconds: float) -> None:
    out = screen.out
    if is_mutation(run.config):
        out.print(f"[yellow]{screen.MUTATION_BANNER}[/yellow]")
    if run.rounds:
        out.print(rounds_table(run.rounds))
        if any(one.trial is not None for one in run.rounds):
            out.print(trials.trials_table(trials.of_run(run)))
        first, last = run.rounds[0].improver, run.rounds[-1].improver
        out.print("The seed improver and the final one:")
        out.print(diff(first.source, last.source, ("seed", "final")))
    if run.sealed_rows:
        out.print(rows_table(run.sealed_rows, "The run's own tasks"))
    if run.rows:
        out.print(rows_table(run.rows, "Held-out tasks"))
    if run.improvements:
        task = Task.load(run.config.tasks[0])
        found = best(run.improvements)
        first_line = run.improvements[0]
        out.print(f"What {first_line.name} made of {task.name}:", markup=False)
        out.print(diff(task.initial.source, first_line.program.source, ("initial", "improved")))
        out.print(improvements_table(run.improvements, task.name))
        if found is not None and found is not first_line:
            out.print(
                f"Best on validation: {found.name}; `selftaught export` writes that program.",
                markup=False,
            )
    if run.comparison is not None:
        verdicts.print_comparison(run.comparison, run.config)
    if run.audit is not None:
        audit_tables.print_audit(run.audit)
    if run.spent:
        out.print(spent_line(run, seconds))
    if run.resumed is not None:
        out.print(resumed_line(run.resumed, run.spent))
    out.print(f"Recorded as run {run.id}.", style="dim")


def _as_data(run: Run, seconds: float) -> dict[str, object]:
    rounds = [
        {
            "round": one.number,
            "improver": one.improver.hash,
            "source": one.improver.source,
            "accepted": one.accepted,
            "reason": one.reason,
            "validation": measured_as_data(one.validation),
            "sealed": measured_as_data(one.sealed),
            "search": msgspec.to_builtins(run.searches.get(one.number)),
            "trial": msgspec.to_builtins(one.trial),
        }
        for one in run.rounds
    ]
    improvements = [
        {
            "name": one.name,
            "outcome": kind(one.outcome),
            "program": one.program.source,
            "validation": one.validation.value if isinstance(one.validation, Scored) else None,
            "sealed": one.sealed.value if isinstance(one.sealed, Scored) else None,
            "calls": one.calls,
            "responses": one.responses,
            "utility_calls": one.utility_calls,
        }
        for one in run.improvements
    ]
    return {
        "run": run.id,
        "status": run.status,
        "reason": run.reason,
        "config": msgspec.to_builtins(run.config),
        "rounds": rounds,
        "sealed": [row_as_data(row) for row in run.sealed_rows],
        "transfer": [row_as_data(row) for row in run.rows],
        "improvements": improvements,
        "comparison": msgspec.to_builtins(run.comparison),
        "audit": audit_tables.audit_as_data(run.audit),
        "spent": run.spent,
        "resumed": resumed_as_data(run),
        "seconds": seconds,
    }


def rounds_table(rounds: Sequence[Round]) -> Table:
    """One line per round of Algorithm 1."""
    table = titled_table("Rounds: meta-utility of the improver in force, ± standard error")
    for header in ("t", "improver", "validation", "sealed test"):
        table.add_column(header, no_wrap=True)
    table.add_column("what happened", ratio=1)
    for one in rounds:
        table.add_row(
            str(one.number),
            one.improver.hash[:8],
            shown(one.validation.outcome),
            shown(one.sealed.outcome),
            one.reason,
        )
    return table


def rows_table(rows: Sequence[Row], title: str) -> Table:
    """Improvers side by side on sealed instances, differences to the first line.

    `same` counts how often an improver returned its input.
    """
    table = titled_table(f"{title}, sealed test instances: normalised utility, ± standard error")
    for header in ("improver", "mean", f"minus {rows[0].name}"):
        table.add_column(header, no_wrap=True)
    for task in rows[0].measured.by_task:
        table.add_column(task.replace("_", " "), min_width=7, justify="right")
    for header in ("same", "calls", "scores"):
        table.add_column(header, min_width=len(header), justify="right")
    for row in rows:
        by_task = row.measured.by_task
        items = row.measured.items
        difference = f"{row.difference:+.3f} ±{row.difference_error:.3f}"
        table.add_row(
            row.name,
            shown(row.measured.outcome),
            "" if row is rows[0] else difference,
            *(f"{by_task[t]:.3f}" if t in by_task else "" for t in rows[0].measured.by_task),
            f"{sum(i.unchanged for i in items)}/{len(items)}",
            f"{_mean([i.calls for i in items]):.1f}",
            f"{_mean([i.utility_calls for i in items]):.1f}",
        )
    return table


def improvements_table(improvements: Sequence[Improvement], task: str) -> Table:
    """One line per improver on a single task."""
    table = titled_table(f"{task}: utility of the returned program, ± standard error")
    for header in ("improver", "validation", "sealed test"):
        table.add_column(header, no_wrap=True)
    for header in ("calls", "responses", "scores"):
        table.add_column(header, justify="right")
    for one in improvements:
        table.add_row(
            one.name,
            shown(one.validation),
            shown(one.sealed),
            str(one.calls),
            str(one.responses),
            str(one.utility_calls),
        )
    return table


def _not_computed(spent: Mapping[str, float]) -> str:
    told = f"{spent['reused_scores']:.0f} scores reused"
    if spent["deduplicated_scores"]:
        told += f", {spent['deduplicated_scores']:.0f} from other programs with the same code"
    return told


def spent_line(run: Run, seconds: float) -> str:
    """Calls and time, in one line."""
    spent = run.spent
    parts = [
        f"{spent['live_calls']:.0f} calls",
        f"{spent['scored']:.0f} programs scored ({_not_computed(spent)})",
        f"{seconds:.1f} s",
    ]
    if spent["speculated_wasted"]:
        parts.insert(
            2,
            f"{spent['speculated_wasted']:.0f} of {spent['speculated']:.0f} scored ahead in vain "
            f"({spent['speculated_wasted_s']:.1f} s)",
        )
    if spent["jobs_begun_again"]:
        parts.insert(2, f"{spent['jobs_begun_again']:.0f} jobs begun again after a loss")
    if spent["replayed_calls"]:
        parts.insert(1, f"{spent['replayed_calls']:.0f} answers from the record")
    for source in ("cache", "recording"):
        if spent[f"calls_from_{source}"]:
            parts.insert(1, f"{spent[f'calls_from_{source}']:.0f} answers from the {source}")
    if spent["tokens"]:
        parts.append(f"{spent['tokens']:,.0f} tokens")
    if spent["dollars"]:
        parts.append(f"${spent['dollars']:.2f}")
    return " · ".join(parts)


def resumed_line(resumed: RunResumed, spent: Mapping[str, float]) -> str:
    """What a run that was gone on with did not do again, and what it did."""
    again = (
        f"; {resumed.under_way} calls were under way when it ended, "
        f"{spent['repeated_calls']:.0f} of them were made again"
        if resumed.under_way
        else ""
    )
    return (
        f"Not done again: {resumed.answers} answers, {resumed.scores} scores, "
        f"{resumed.improvements} improve jobs{again}"
    )


def resumed_as_data(run: Run) -> dict[str, object] | None:
    """The same as JSON-able data; None where the run was never gone on with."""
    if run.resumed is None:
        return None
    told = {name: getattr(run.resumed, name) for name in run.resumed.__struct_fields__}
    return {**told, "repeated": run.spent.get("repeated_calls", 0)}


def diff(before: str, after: str, names: tuple[str, str]) -> Text:
    """A unified diff in full width, or a sentence where there is nothing to show."""
    text = Text()
    for line in diff_lines(before, after, names):
        style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
        text.append(line + "\n", style=style)
    return text if text else Text("The program is unchanged.\n")


def measured_as_data(measured: Measured) -> dict[str, object]:
    """A measurement as JSON-able data."""
    outcome = measured.outcome
    return {
        "outcome": kind(outcome),
        "mean": outcome.value if isinstance(outcome, Scored) else None,
        "standard_error": outcome.standard_error if isinstance(outcome, Scored) else None,
        "by_task": measured.by_task,
        "unchanged": sum(item.unchanged for item in measured.items),
        "items": [
            {"task": item.task, "repeat": item.repeat, "normalised": item.normalised}
            for item in measured.items
        ],
    }


def row_as_data(row: Row) -> dict[str, object]:
    """A line of a table as JSON-able data."""
    return {
        "name": row.name,
        "improver": row.improver.hash,
        "measured": measured_as_data(row.measured),
        "difference": row.difference,
        "difference_error": row.difference_error,
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
