"""Improvers side by side, simple references always among them.

`transfer` does it on tasks that the improvers never saw (paper, Table 1).
"""

from collections.abc import Callable, Sequence

import msgspec

from selftaught.errors import UsageError
from selftaught.improver import load_improver
from selftaught.meta_utility import TRANSFER, Measured, Measurement, MetaUtility
from selftaught.solution import Solution
from selftaught.task import Task
from selftaught.utility import Scored, standard_error

REFERENCES = ("identity", "best_of_n", "greedy")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One improver's line: its measurement, and its paired difference to the first line.

    Attributes:
        name: as shown.
        improver: the program.
        measured: on every task and repeat.
        difference: mean over items of this line minus the first, same instances and luck.
        difference_error: standard error of that mean.
    """

    name: str
    improver: Solution
    measured: Measured
    difference: float = 0.0
    difference_error: float = 0.0


def side_by_side(
    improvers: Sequence[tuple[str, Solution]],
    meta_utility: MetaUtility,
    measurement: Measurement,
    *,
    references: Sequence[str] = REFERENCES,
    on_row: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """Measure improvers on the same tasks, instances, luck and budget.

    Args:
        improvers: names and programs; differences are taken to the first.
        meta_utility: brings tasks and budget.
        measurement: which blocks of instances.
        references: shipped improvers added below.
        on_row: told of every line as it is complete.
    """
    named = [*improvers, *((name, load_improver(name)) for name in references)]
    rows: list[Row] = []
    for name, improver in named:
        measured = meta_utility.measure(improver, measurement)
        first = rows[0].measured if rows else measured
        difference, error = paired_difference(measured, first)
        rows.append(
            Row(
                name=name,
                improver=improver,
                measured=measured,
                difference=difference,
                difference_error=error,
            )
        )
        on_row(rows[-1])
    return rows


def transfer(
    improvers: Sequence[tuple[str, Solution]],
    meta_utility: MetaUtility,
    *,
    trained_on: Sequence[Task] = (),
    references: Sequence[str] = REFERENCES,
    on_row: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """Measure frozen improvers on the held-out tasks of a meta-utility.

    Args:
        improvers, references, on_row: as for `side_by_side`.
        meta_utility: on the held-out tasks.
        trained_on: tasks that the improvers were selected on; they may not be among these.

    Raises:
        UsageError: a task is both trained on and held out.
    """
    check_held_out(trained_on, meta_utility.tasks)
    return side_by_side(improvers, meta_utility, TRANSFER, references=references, on_row=on_row)


def check_held_out(trained_on: Sequence[Task], held_out: Sequence[Task]) -> None:
    """Raise UsageError where a task, with whatever parameters, is both trained on and held out."""
    trained = {task.name.partition("?")[0] for task in trained_on}
    shared = trained & {task.name.partition("?")[0] for task in held_out}
    if shared:
        names = ", ".join(sorted(shared))
        raise UsageError(f"{names} cannot be held out: the improver is trained on it.")


def paired_difference(measured: Measured, reference: Measured) -> tuple[float, float]:
    """Mean and standard error of the differences, item by item; failures count as the worst."""
    theirs = {(item.task, item.repeat): item.normalised for item in reference.items}
    differences = [
        item.normalised - theirs[item.task, item.repeat]
        for item in measured.items
        if (item.task, item.repeat) in theirs
    ]
    if not differences:
        return 0.0, 0.0
    return sum(differences) / len(differences), standard_error(differences)


def value(measured: Measured) -> float | None:
    """The meta-utility as a number, or None for a failure."""
    return measured.outcome.value if isinstance(measured.outcome, Scored) else None
