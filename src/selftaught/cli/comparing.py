"""The command for the second-order test: compare."""

from typing import Annotated

import typer

import selftaught.cli.options as options
from selftaught.cli.running import execute
from selftaught.compare import REFERENCES
from selftaught.runs.config import DEFAULT_HELD_OUT, RunConfig
from selftaught.runs.references import load_field


def compare_command(
    improvers: Annotated[
        list[str],
        typer.Argument(
            metavar="IMPROVER",
            help="Names, .py files, or RUN:ROUND, such as `latest:3`, of a recorded run.",
        ),
    ],
    tasks: Annotated[
        str, typer.Option("--tasks", metavar="TASKS", help="Tasks to compare on, by commas.")
    ] = ",".join(DEFAULT_HELD_OUT),
    seeds: Annotated[
        int, typer.Option("--seeds", help="N: each is other instances and luck for everyone.")
    ] = 10,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline", metavar="NAME", help="Whom to compare to; the first IMPROVER by default."
        ),
    ] = None,
    references: Annotated[
        str,
        typer.Option("--references", metavar="NAMES", help="Shown as well; `none` for none."),
    ] = ",".join(REFERENCES),
    repeats: options.Repeats = 1,
    *,
    shared: options.RunOptions,
) -> None:
    """Compare frozen IMPROVERs on tasks over N seeds at one budget: the second-order test."""
    field = load_field(improvers, options.names(references), baseline, shared.store)
    config = RunConfig(
        command="compare",
        tasks=field.trained_on,
        held_out=options.names(tasks),
        improvers=field.improvers,
        baseline=field.baseline,
        seeds=seeds,
        repeats=repeats,
        sealed_repeats=repeats,
    )
    execute(shared.applied(config), shared.store, shared.json, shared.warn_above)
