"""The table of trials on fresh instances: what they showed, and what they cost."""

from collections.abc import Sequence

import msgspec
from rich.table import Table

from selftaught.budget import Spent
from selftaught.cli import screen
from selftaught.history import History
from selftaught.runs.result import Run
from selftaught.statistics import mean


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One trial as shown; fields as in `selftaught.acceptance.Trial`, and the round's search."""

    round: int
    differences: tuple[float, ...]
    evidence: float
    needed: float
    stop: str
    search: Spent
    trial: Spent


def of_run(run: Run) -> list[Line]:
    """The trials of a run that has just ended."""
    return [
        Line(
            round=one.number,
            differences=one.trial.differences,
            evidence=one.trial.evidence,
            needed=one.trial.needed,
            stop=one.trial.stop,
            search=run.searches.get(one.number, Spent()),
            trial=one.trial.spent,
        )
        for one in run.rounds
        if one.trial is not None
    ]


def of_history(history: History) -> list[Line]:
    """The trials of a recorded run."""
    return [
        Line(
            round=view.number,
            differences=view.trial.differences,
            evidence=view.trial.evidence,
            needed=view.trial.needed,
            stop=view.trial.stop,
            search=view.search,
            trial=Spent(
                calls=view.trial.calls,
                responses=view.trial.responses,
                utility_calls=view.trial.utility_calls,
            ),
        )
        for view in history.rounds
        if view.trial is not None
    ]


def trials_table(lines: Sequence[Line]) -> Table:
    """One line per trial; calls and scores of the round's search, then of the trial."""
    table = screen.titled_table("Trials of candidates on fresh instances; search + trial spent")
    for header in ("t", "difference", "repeats", "evidence", "end", "calls", "scores"):
        table.add_column(header, no_wrap=True)
    for one in lines:
        table.add_row(
            str(one.round),
            f"{mean(one.differences):+.3f}",
            str(len(one.differences)),
            f"{one.evidence:.3g} of {one.needed:.3g}",
            one.stop,
            f"{one.search.calls} + {one.trial.calls}",
            f"{one.search.utility_calls} + {one.trial.utility_calls}",
        )
    return table
