"""What a person sees: consoles, the banner, tables, diffs.

Programs and models choose many of the words. Nothing that they chose steers the terminal: what is
hidden is written out on its way to the console, whatever prints it. And no secret is shown:
`main` puts `Clean` between Python and its streams.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from selftaught.algorithm import Round
from selftaught.improvement import Improvement
from selftaught.meta_utility import Measured
from selftaught.plain_text import visible
from selftaught.redaction import redacted
from selftaught.runs.result import Run
from selftaught.source_diff import diff_lines
from selftaught.strategies_used import StrategiesUsed
from selftaught.transfer import Row
from selftaught.utility import Outcome, Scored, kind

MUTATION_BANNER = (
    "Proposals come from random program mutation (no language model). "
    "These numbers say nothing about STOP with a language model."
)

# A file or a pipe has no width of its own.
PIPED_WIDTH = 110

out = Console(
    highlight=False,
    soft_wrap=not sys.stdout.isatty(),
    width=None if sys.stdout.isatty() else PIPED_WIDTH,
)
err = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


class _Visible:
    """Renders as something else does, with hidden characters written out."""

    def __init__(self, inner: ConsoleRenderable) -> None:
        self._inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._inner, options):
            if segment.control:
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)


class ShowHidden(RenderHook):
    """Has a console write hidden characters out in whatever it prints."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Wrap what is about to be printed."""
        return [_Visible(one) for one in renderables]


out.push_render_hook(ShowHidden())
err.push_render_hook(ShowHidden())


class Clean:
    """A stream of text in front of another one, which never gets to see a secret."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text without its secrets."""
        self._stream.write(redacted(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def plain(text: str) -> str:
    """A text that means no markup, for printing inside one that does."""
    return escape(text)


def print_json(data: object) -> None:
    """One JSON document on stdout, on one line."""
    out.print(msgspec.json.encode(data).decode(), markup=False, soft_wrap=True)


def shown(outcome: Outcome) -> str:
    """An outcome as a cell: value ± standard error, or the kind of failure."""
    if isinstance(outcome, Scored):
        error = f" ±{outcome.standard_error:.3f}" if outcome.standard_error else ""
        return f"{outcome.value:.3f}{error}"
    return kind(outcome)


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
            plain(one.reason),
        )
    return table


def rows_table(rows: Sequence[Row], title: str) -> Table:
    """Improvers side by side on sealed instances, differences to the first line.

    `same` counts how often an improver returned its input.
    """
    table = titled_table(f"{title}, sealed test instances: normalised utility, ± standard error")
    for header in ("improver", "mean", f"minus {plain(rows[0].name)}"):
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
            plain(row.name),
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
            plain(one.name),
            shown(one.validation),
            shown(one.sealed),
            str(one.calls),
            str(one.responses),
            str(one.utility_calls),
        )
    return table


def strategies_table(used: Sequence[StrategiesUsed]) -> Table:
    """What each improver does, by its text and by its requests."""
    table = titled_table("Strategies")
    for header in ("improver", "in its text", "in its requests"):
        table.add_column(header)
    for one in used:
        in_text = ", ".join(found.name for found in one.in_text)
        table.add_row(one.name, in_text or "-", ", ".join(one.in_requests) or "-")
    return table


def titled_table(title: str) -> Table:
    """Few lines, so that the numbers fit into 80 columns."""
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )


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
