"""The tables and verdicts of a comparison."""

from collections.abc import Callable, Mapping

from rich.table import Table

from selftaught.cli import screen
from selftaught.compare import Comparison, Standing
from selftaught.runs.config import RunConfig
from selftaught.statistics import Estimate
from selftaught.strategies.classify import named

_COUNTS: dict[str, Callable[[Standing], Mapping[str, int]]] = {
    "fail": lambda one: one.failures,
    "refused": lambda one: one.refusals,
    "tries": lambda one: one.attempts,
}
_QUARTERS = (0.25, 0.5, 0.75, 1.0)


def print_comparison(found: Comparison, config: RunConfig) -> None:
    """Everything that a person wants to see of a comparison, the verdicts last."""
    budget = config.budget
    out = screen.out
    out.print(_standings(found))
    if not any(count(one) for one in found.standings for count in _COUNTS.values()):
        out.print("No failure, no refusal for want of budget, no attempt at what is forbidden.")
    out.print(_anytime(found))
    out.print(_improved(found))
    out.print(_differences(found))
    out.print(_areas(found))
    out.print(
        f"{found.seeds} seeds; one application: {budget.calls} calls x {budget.responses} "
        f"responses, {budget.utility_calls} scores. Intervals are 95 %.",
        style="dim",
    )
    for name, source in config.improvers:
        out.print(f"{name} uses: {named(source)}", style="dim", markup=False)
    for one in found.differences:
        style = {"better": "green", "worse": "red"}.get(one.verdict)
        out.print(one.sentence, style=style, markup=False)


def _standings(found: Comparison) -> Table:
    table = screen.titled_table("Sealed test instances: normalised utility")
    table.add_column("improver", no_wrap=True)
    table.add_column("mean", no_wrap=True)
    for task in found.standings[0].by_task:
        table.add_column(task.replace("_", " "), min_width=7, justify="right")
    # Columns of nothing but zeros are left out: the line below says so.
    counts = [header for header in _COUNTS if any(map(_COUNTS[header], found.standings))]
    for header in ("same", *counts):
        table.add_column(header, min_width=len(header), justify="right")
    for one in found.standings:
        table.add_row(
            one.name,
            f"{one.mean.value:.3f} {_interval(one.mean)}",
            *(f"{value:.3f}" for value in one.by_task.values()),
            f"{one.unchanged}/{len(one.places)}",
            *(str(sum(_COUNTS[header](one).values())) for header in counts),
        )
    return table


def _anytime(found: Comparison) -> Table:
    table = screen.titled_table(
        "Best validation value so far: area under the curve, and the curve by scores"
    )
    table.add_column("improver", no_wrap=True)
    table.add_column("area", no_wrap=True)
    for quarter in _QUARTERS:
        table.add_column(f"{quarter:.0%}", justify="right")
    table.add_column("by calls", no_wrap=True, justify="right")
    for one in found.standings:
        points = one.curve.by_score
        table.add_row(
            one.name,
            f"{one.area_by_score.value:.3f} {_interval(one.area_by_score)}",
            *(f"{points[round(q * (len(points) - 1))]:.3f}" for q in _QUARTERS),
            f"{one.area_by_call.value:.3f}",
        )
    return table


def _improved(found: Comparison) -> Table:
    table = screen.titled_table("imp@k: places with a gain among the first k programs scored")
    table.add_column("improver", no_wrap=True)
    for k in found.standings[0].improved_by:
        table.add_column(f"k={k}", justify="right")
    for one in found.standings:
        table.add_row(one.name, *(f"{share:.0%}" for share in one.improved_by.values()))
    return table


def _differences(found: Comparison) -> Table:
    table = screen.titled_table(f"Minus {found.baseline}, paired by seed")
    table.add_column("improver", no_wrap=True)
    for header in ("mean", "p_Holm", "w-t-l", "win rate", "d_z"):
        table.add_column(header, no_wrap=True)
    for one in found.differences:
        table.add_row(
            one.name,
            f"{one.mean.value:+.3f} {_interval(one.mean)}",
            f"{one.p_holm:.2g}",
            f"{one.wins}-{one.ties}-{one.losses}",
            _interval(one.win_rate),
            "" if one.effect is None else f"{one.effect:+.2f}",
        )
    return table


def _areas(found: Comparison) -> Table:
    table = screen.titled_table(
        f"Area under the curve by scores, minus that of {found.baseline}, paired by seed"
    )
    for header in ("improver", "mean", "p_Holm"):
        table.add_column(header, no_wrap=True)
    for one in found.differences:
        table.add_row(
            one.name, f"{one.area.value:+.3f} {_interval(one.area)}", f"{one.area_p_holm:.2g}"
        )
    return table


def _interval(estimate: Estimate) -> str:
    # Adding 0 makes a minus zero that rounding left a plain one.
    low, high = (round(bound, 2) + 0.0 for bound in (estimate.low, estimate.high))
    return f"({low:.2f}, {high:.2f})"
