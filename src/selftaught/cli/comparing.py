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
            metavar="IMPROVER...",
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
    calls: options.Calls = 4,
    responses: options.Responses = 6,
    utility_calls: options.UtilityCalls = None,
    model: options.Model = "mutation",
    base_url: options.BaseUrl = None,
    tokens: options.Tokens = None,
    dollars: options.Dollars = None,
    wall: options.Wall = None,
    slots: options.Slots = None,
    weak: options.Weak = False,
    network: options.Network = False,
    store: options.Store = options.STORE,
    json: options.Json = False,
    seed: options.Seed = 0,
) -> None:
    """Compare frozen IMPROVERs on tasks over N seeds at one budget: the second-order test."""
    field = load_field(improvers, options.names(references), baseline, store)
    config = RunConfig(
        command="compare",
        tasks=field.trained_on,
        held_out=options.names(tasks),
        improvers=field.improvers,
        baseline=field.baseline,
        seeds=seeds,
        repeats=repeats,
        sealed_repeats=repeats,
        seed=seed,
        model=model,
        base_url=base_url,
        budget=options.budget(calls, responses, utility_calls),
        limits=options.limits(tokens, dollars, wall),
        slots=slots,
        allow_weak_sandbox=weak,
        allow_network=network,
    )
    execute(config, store, json)
