"""The commands that read what was recorded: show, export, record."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.table import Table

import selftaught.cli.options as options
from selftaught.cli import money, screen, trials
from selftaught.cli.new_files import new_file
from selftaught.errors import SelftaughtError
from selftaught.history import History, export_program, export_suffix, read_history
from selftaught.models.recording import recording_of, write_recording
from selftaught.permissions import SOURCE_SUFFIXES
from selftaught.redaction import redacted
from selftaught.runs.costs import read_costs
from selftaught.store.opening import open_store
from selftaught.strategies_used import StrategiesUsed, strategies_used
from selftaught.utility import Returned, kind


def show_command(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Its id, or `latest`; all where left out.")
    ] = None,
    costs: Annotated[
        bool, typer.Option("--costs", help="Tokens and money by model, phase, improver and round.")
    ] = False,
    store: options.Store = options.STORE,
    json: options.Json = False,
    seed: options.Seed = 0,
) -> None:
    """Show what a run did or, with --costs, what it cost; or list the runs of a store."""
    with open_store(store, writable=False) as opened:
        if run is None:
            rows = opened.runs()
            if json:
                screen.print_json([msgspec.to_builtins(row) for row in rows])
                return
            table = Table(title=screen.plain(f"Runs in {store}"))
            for header in ("run", "started", "status", "events", "command"):
                table.add_column(header, no_wrap=header != "command")
            for row in rows:
                started = time.strftime("%Y-%m-%d %H:%M", time.localtime(row.created_at))
                table.add_row(
                    row.id, started, row.status, str(row.events), screen.plain(row.command)
                )
            screen.out.print(table if rows else screen.plain(f"{store} holds no runs yet."))
            return
        if costs:
            money.print_costs(read_costs(opened, run, with_calls=json), json)
            return
        history = read_history(opened, run)
        strategies = strategies_used(opened, history)
    if json:
        used = msgspec.to_builtins(strategies)
        screen.print_json({**msgspec.to_builtins(history), "strategies": used})
    else:
        _print_history(history)
        if strategies:
            screen.out.print(_strategies_table(strategies))


def export_command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Its id, or `latest`.")],
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Where to write: .py, .c, ...",
        ),
    ],
    round_: Annotated[
        int | None, typer.Option("--round", help="Which round's improver; the last by default.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
    store: options.Store = options.STORE,
    json: options.Json = False,
    seed: options.Seed = 0,
) -> None:
    """Write a run's improver, or its best program, as one file with its provenance."""
    if Path(file).suffix not in SOURCE_SUFFIXES.values():
        known = ", ".join(SOURCE_SUFFIXES.values())
        raise SelftaughtError(f"FILE must end in {known}, as its program does: {file!r}.")
    with open_store(store, writable=False) as opened:
        suffix = export_suffix(opened, run)
        if not file.endswith(suffix):
            raise SelftaughtError(
                f"FILE must end in {suffix}, so that it can be used again: {file!r}."
            )
        text = redacted(export_program(opened, run, round_))
    with new_file(file, force) as out:
        out.write(text.encode())
    if json:
        screen.print_json({"file": file, "characters": len(text)})
    else:
        screen.out.print(f"Written to {file}.", markup=False)


def record_command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Its id, or `latest`.")],
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Where to write; must end in .jsonl.")
    ],
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
    store: options.Store = options.STORE,
    json: options.Json = False,
    seed: options.Seed = 0,
) -> None:
    """Write what a run asked its model and was answered as one file, for --model replay/FILE."""
    if not file.endswith(".jsonl"):
        raise SelftaughtError(f"FILE must end in .jsonl, so that it can be replayed: {file!r}.")
    with open_store(store, writable=False) as opened:
        recording = recording_of(opened, opened.resolve(run))
    with new_file(file, force) as out:
        write_recording(recording, out)
    count, header = len(recording.exchanges), recording.header
    if json:
        screen.print_json({"file": file, "exchanges": count, "run": header.run})
    else:
        screen.out.print(f"{count} exchanges of run {header.run} written to {file}.", markup=False)


def _print_history(history: History) -> None:
    out, config = screen.out, history.config
    row = history.row
    out.print(f"[bold]{row.id}[/bold]  {row.status}  {screen.plain(row.reason)}")
    out.print(f"command   {row.command}", markup=False)
    out.print(f"tasks     {', '.join(config.tasks) or '-'}; held out: "
              f"{', '.join(config.held_out) or '-'}", markup=False)  # fmt: skip
    if config.recipe:
        out.print(f"recipe    {config.recipe}", markup=False)
    for task, permits in config.permits.items():
        out.print(f"permits   {task}: {'; '.join(permits)}", markup=False)
    out.print(
        f"setting   model {config.model}, seed {config.seed}, accept {config.accept}, "
        f"{config.budget.calls} calls x {config.budget.responses} responses, "
        f"{config.budget.utility_calls} scores, {config.repeats} repeats",
        markup=False,
    )
    out.print(
        f"model     {history.calls} calls, {history.responses} responses, "
        f"{history.prompt_tokens:,} + {history.completion_tokens:,} tokens, "
        f"{money.shown(history.dollars, history.unpriced_calls, history.calls)}, "
        f"{history.model_seconds:.1f} s waited"
    )
    ahead = history.speculated
    if ahead.begun:
        out.print(
            f"ahead     {ahead.begun:,} scored before they were asked for: {ahead.used:,} used "
            f"({ahead.used_s:.1f} s), {ahead.begun - ahead.used:,} wasted ({ahead.wasted_s:.1f} s)"
        )
    if set(history.sources) - {"live"}:
        told = ", ".join(f"{k} {v:,}" for k, v in sorted(history.sources.items()))
        out.print(f"answers   {told}; calls, tokens and money above are those of live ones")
    for name, counts in (
        ("programs", history.outcomes),
        ("improvers", history.endings),
        ("refused", history.attempts),
        ("over", history.refusals),
        ("audited", history.audited),
    ):
        if counts:
            told = ", ".join(f"{k} {v:,}" for k, v in sorted(counts.items()))
            out.print(f"{name:<9} {told}", markup=False)
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
                screen.plain(view.reason),
            )
        out.print(table)
        tried = trials.of_history(history)
        if tried:
            out.print(trials.trials_table(tried))
    for one in history.improvements:
        told = f"{len(one.outcome.source)} characters" if isinstance(one.outcome, Returned) else ""
        out.print(
            f"improver {one.improver[:8]} on {one.target}: {kind(one.outcome)} {told}", markup=False
        )


def _strategies_table(used: Sequence[StrategiesUsed]) -> Table:
    """What each improver does, by its text and by its requests."""
    table = screen.titled_table("Strategies")
    for header in ("improver", "in its text", "in its requests"):
        table.add_column(header)
    for one in used:
        in_text = ", ".join(found.name for found in one.in_text)
        table.add_row(one.name, in_text or "-", ", ".join(one.in_requests) or "-")
    return table
