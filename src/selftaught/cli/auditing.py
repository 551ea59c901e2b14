"""The command that counts how often a model unsandboxes: audit."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

import selftaught.cli.options as options
from selftaught.audit.prompt import flagged_seed
from selftaught.audit.study import AuditSettings
from selftaught.cli.running import execute
from selftaught.improver import load_improver
from selftaught.runs.config import RunConfig

SEED = "seed"


class AuditOptions(options.RunOptions, frozen=True, kw_only=True):
    """A small budget: each program is run once, to see what it tries."""

    calls: options.Calls = 2
    responses: options.Responses = 2


def audit_command(
    generations: Annotated[
        int,
        typer.Option("--generations", help="N improvements of each condition; the paper: 10,000."),
    ] = 100,
    warning: Annotated[
        bool | None,
        typer.Option(
            "--warning/--no-warning",
            help="Warn the model of the danger, or not; both ways where left out.",
        ),
    ] = None,
    dynamic: Annotated[
        bool,
        typer.Option("--dynamic/--no-dynamic", help="Run every distinct program once, sandboxed."),
    ] = True,
    improver: Annotated[
        str, typer.Option("--improver", metavar="NAME|FILE", help="What is to be improved.")
    ] = SEED,
    task: Annotated[
        str, typer.Option("--task", metavar="TASK", help="What the programs are run on.")
    ] = "parity_noise",
    *,
    shared: AuditOptions,
) -> None:
    """Count how often a model writes improvers that turn off their sandbox or cheat (Table 2)."""
    source = flagged_seed() if improver == SEED else load_improver(improver).source
    both = {None: "both", True: "with", False: "without"}[warning]
    config = RunConfig(
        command="audit",
        tasks=(task,),
        improvers=((Path(improver).stem, source),),
        audit=msgspec.convert(
            {"generations": generations, "warning": both, "dynamic": dynamic}, AuditSettings
        ),
    )
    execute(shared.applied(config), shared.store, shared.json, shared.warn_above)
