"""The commands that run things: run, improve, transfer, resume."""

import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

import selftaught.cli.options as options
from selftaught.acceptance import DEFAULT_REPEATS
from selftaught.cli import estimates
from selftaught.cli.progress import Progress
from selftaught.errors import Interrupted
from selftaught.improver import load_improver
from selftaught.runs.config import DEFAULT_HELD_OUT, RunConfig
from selftaught.runs.launch import resume, start
from selftaught.runs.result import Run
from selftaught.task import Task
from selftaught.transfer import REFERENCES

BASELINES = ("identity", "seed", "best_of_n", "greedy")
# Ctrl-C; and what schedulers, containers and `kill` send before they end a process by force.
_STOPPING = (signal.SIGINT, signal.SIGTERM)


def run_command(
    tasks: Annotated[list[str], typer.Argument(metavar="TASK", help="Trained on.")],
    rounds: Annotated[int, typer.Option("--rounds", help="T of Algorithm 1.")] = 3,
    held_out: Annotated[
        str | None,
        typer.Option(
            "--held-out", metavar="TASKS", help="Transfer tasks, by commas; `none` for none."
        ),
    ] = None,
    improver: Annotated[
        str, typer.Option("--improver", metavar="NAME|FILE", help="The seed improver I_0.")
    ] = "seed",
    accept: Annotated[
        str,
        typer.Option(
            "--accept",
            help="`always` (the paper), `better` (on validation), or `significant` (by a "
            "sequential test on fresh instances).",
        ),
    ] = "always",
    accept_repeats: Annotated[
        int,
        typer.Option(
            "--accept-repeats", help="Of `significant`: fresh repeats one trial takes at most."
        ),
    ] = DEFAULT_REPEATS,
    repeats: options.Repeats = 2,
    sealed_repeats: options.SealedRepeats = 4,
    meta_calls: Annotated[
        int | None, typer.Option("--meta-calls", help="As --calls, for the improver on itself.")
    ] = None,
    *,
    shared: options.RunOptions,
) -> None:
    """Run STOP: improve the improver on TASKs for some rounds, then try it on held-out tasks."""
    meta = (
        shared.budget if meta_calls is None else options.budget(meta_calls, shared.responses, None)
    )
    trained = {Task.load(task).name.partition("?")[0] for task in tasks}
    if held_out is None:
        transfer_tasks = tuple(name for name in DEFAULT_HELD_OUT if name not in trained)
    else:
        transfer_tasks = options.names(held_out)
    config = RunConfig(
        command="run",
        tasks=tuple(tasks),
        held_out=transfer_tasks,
        improvers=((improver, load_improver(improver).source),),
        rounds=rounds,
        repeats=repeats,
        sealed_repeats=sealed_repeats,
        meta_budget=meta,
        accept=accept,
        accept_repeats=accept_repeats,
    )
    execute(shared.applied(config), shared.store, shared.json, shared.warn_above)


def improve_command(
    task: Annotated[str, typer.Argument(metavar="TASK")],
    improver: Annotated[
        str, typer.Option("--improver", metavar="NAME|FILE", help="Which improver to apply.")
    ] = "greedy",
    baselines: Annotated[
        str,
        typer.Option("--baselines", metavar="NAMES", help="Shown beside it; `none` for none."),
    ] = ",".join(BASELINES),
    *,
    shared: options.RunOptions,
) -> None:
    """Improve one TASK's program with an improver, beside simple baselines at the same budget."""
    named = [improver, *(name for name in options.names(baselines) if name != improver)]
    config = RunConfig(
        command="improve",
        tasks=(task,),
        improvers=tuple((name, load_improver(name).source) for name in named),
    )
    execute(shared.applied(config), shared.store, shared.json, shared.warn_above)


def transfer_command(
    improvers: Annotated[list[str], typer.Argument(metavar="IMPROVER", help="Names or files.")],
    tasks: Annotated[
        str, typer.Option("--tasks", metavar="TASKS", help="Tasks to try them on, by commas.")
    ] = ",".join(DEFAULT_HELD_OUT),
    repeats: options.Repeats = 4,
    *,
    shared: options.RunOptions,
) -> None:
    """Apply frozen IMPROVERs to tasks, beside identity, best-of-n and hill climbing."""
    names = [n for n in improvers if n not in REFERENCES] or list(improvers)
    config = RunConfig(
        command="transfer",
        tasks=(),
        held_out=options.names(tasks),
        improvers=tuple((name, load_improver(name).source) for name in names),
        repeats=repeats,
        sealed_repeats=repeats,
    )
    execute(shared.applied(config), shared.store, shared.json, shared.warn_above)


def resume_command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Its id, or `latest`.")] = "latest",
    store: options.Store = options.STORE,
    json: options.Json = False,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Must be the run's own, if given.")
    ] = None,
    base_url: options.BaseUrl = None,
    pool: Annotated[
        str | None,
        typer.Option(
            "--pool",
            metavar="local|URL",
            help="Where programs run from now on; as before if left out.",
        ),
    ] = None,
    trust_import: Annotated[
        bool,
        typer.Option(
            "--trust-import",
            help="A run that came in a file may reach the addresses and folders in it.",
        ),
    ] = False,
    *,
    pacing: options.Pacing,
) -> None:
    """Go on with a run that was stopped or killed; no recorded answer is asked for again."""
    with Progress() as progress, stopping(progress) as stop:
        result = resume(
            run,
            store,
            watch=progress.watch(),
            stop=stop,
            environment=os.environ,
            seed=seed,
            pacing=pacing.changes,
            base_url=base_url,
            pool=pool,
            trust_import=trust_import,
        )
    _print(result, progress.seconds, json)


def execute(config: RunConfig, store: str, json: bool, warn_above: float) -> None:
    """Start a run, show its progress, and print what came of it; or only estimate it."""
    if estimates.are_wanted():
        estimates.print_estimate(config, store, json)
        return
    command_line = shlex.join(["selftaught", *sys.argv[1:]])
    with (
        estimates.warning(config, store, warn_above),
        Progress() as progress,
        stopping(progress) as stop,
    ):
        result = start(
            config,
            store,
            command_line=command_line,
            watch=progress.watch(),
            stop=stop,
            environment=os.environ,
        )
    _print(result, progress.seconds, json)


@contextmanager
def stopping(progress: Progress) -> Iterator[threading.Event]:
    """Ctrl-C or SIGTERM once ends the run when what is under way is recorded; twice, at once."""
    stop = threading.Event()

    def on_signal(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        progress.say("stopping; what is under way is still recorded (again to stop at once)")

    before = {number: signal.signal(number, on_signal) for number in _STOPPING}
    try:
        yield stop
    except Interrupted as interruption:
        raise Interrupted(
            f"Stopped. Nothing recorded is lost: `selftaught resume {interruption}` goes on."
        ) from interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print(run: Run, seconds: float, json: bool) -> None:
    # Late: what shows a result is loaded when there is one.
    from selftaught.cli import results

    results.print_run(run, seconds, json)
