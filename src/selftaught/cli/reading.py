"""The commands that read what was recorded: show, export."""

import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.table import Table

import selftaught.cli.options as options
from selftaught.cli import screen, trials
from selftaught.errors import SelftaughtError
from selftaught.history import History, export_program, read_history
from selftaught.store.opening import open_store
from selftaught.utility import Returned, kind


def show_command(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Its id, or `latest`; all where left out.")
    ] = None,
    store: options.Store = options.STORE,
    json: options.Json = False,
    seed: options.Seed = 0,
) -> None:
    """Show what a run did, or list the runs of a store."""
    with open_store(store, writable=False) as opened:
        if run is None:
            rows = opened.runs()
            if json:
                screen.print_json([msgspec.to_builtins(row) for row in rows])
                return
            table = Table(title=f"Runs in {store}")
            for header in ("run", "started", "status", "events", "command"):
                table.add_column(header, no_wrap=header != "command")
            for row in rows:
                started = time.strftime("%Y-%m-%d %H:%M", time.localtime(row.created_at))
                table.add_row(row.id, started, row.status, str(row.events), row.command)
            screen.out.print(table if rows else f"{store} holds no runs yet.")
            return
        history = read_history(opened, run)
    if json:
        screen.print_json(msgspec.to_builtins(history))
    else:
        _print_history(history)


def export_command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Its id, or `latest`.")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to write; must end in .py.")],
    round_: Annotated[
        int | None, typer.Option("--round", help="Which round's improver; the last by default.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
    store: options.Store = options.STORE,
    json: options.Json = False,
    seed: options.Seed = 0,
) -> None:
    """Write a run's improver, or its best program, as one .py file with its provenance."""
    if not file.endswith(".py"):
        raise SelftaughtError(f"FILE must end in .py, so that it can be used again: {file!r}.")
    with open_store(store, writable=False) as opened:
        text = export_program(opened, run, round_)
    try:
        with Path(file).open("w" if force else "x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError as error:
        raise SelftaughtError(f"{file} exists; --force overwrites it.") from error
    except OSError as error:
        raise SelftaughtError(f"{file} cannot be written: {error}.") from error
    if json:
        screen.print_json({"file": file, "characters": len(text)})
    else:
        screen.out.print(f"Written to {file}.")


def _print_history(history: History) -> None:
    out, config = screen.out, history.config
    row = history.row
    out.print(f"[bold]{row.id}[/bold]  {row.status}  {row.reason}")
    out.print(f"command   {row.command}", markup=False)
    out.print(f"tasks     {', '.join(config.tasks) or '-'}; held out: "
              f"{', '.join(config.held_out) or '-'}")  # fmt: skip
    out.print(
        f"setting   model {config.model}, seed {config.seed}, accept {config.accept}, "
        f"{config.budget.calls} calls x {config.budget.responses} responses, "
        f"{config.budget.utility_calls} scores, {config.repeats} repeats"
    )
    out.print(
        f"model     {history.calls} calls, {history.responses} responses, "
        f"{history.prompt_tokens:,} + {history.completion_tokens:,} tokens, "
        f"{history.model_seconds:.1f} s waited"
    )
    for name, counts in (
        ("programs", history.outcomes),
        ("improvers", history.endings),
        ("refused", history.attempts),
        ("over", history.refusals),
    ):
        if counts:
            told = ", ".join(f"{k} {v:,}" for k, v in sorted(counts.items()))
            out.print(f"{name:<9} {told}")
    if history.rounds:
        table = Table(title="Rounds")
        for header in ("round", "improver", "candidate", "validation", "sealed test"):
            table.add_column(header, no_wrap=True)
        table.add_column("what happened")
        for view in history.rounds:
            table.add_row(
                str(view.number),
                view.improver[:8],
                (view.candidate or "-")[:8],
                screen.shown(view.validation) if view.validation else "-",
                screen.shown(view.sealed) if view.sealed else "-",
                view.reason,
            )
        out.print(table)
        tried = trials.of_history(history)
        if tried:
            out.print(trials.trials_table(tried))
    for one in history.improvements:
        told = f"{len(one.outcome.source)} characters" if isinstance(one.outcome, Returned) else ""
        out.print(f"improver {one.improver[:8]} on {one.target}: {kind(one.outcome)} {told}")
