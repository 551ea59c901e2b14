"""The commands that hand on what was recorded, to readers and other programs: report, track."""

from pathlib import Path
from typing import Annotated

import typer

import selftaught.cli.options as options
from selftaught.cli import screen
from selftaught.cli.new_files import new_file
from selftaught.errors import UsageError
from selftaught.store.event_store import Store
from selftaught.store.opening import open_store


def report_command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Its id, or `latest`.")],
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Where to write: .html for the page; .csv, .parquet or .tex for one table.",
        ),
    ],
    table: Annotated[
        str | None,
        typer.Option("--table", metavar="NAME", help="Which table; the run's main one by default."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
    store: options.Store = options.STORE,
    json: options.Json = False,
    seed: options.Seed = 0,
) -> None:
    """Write a run as one page that needs no network, or one of its tables as a file."""
    from selftaught.report.table_files import WRITERS

    ending = Path(file).suffix
    if ending not in (".html", *WRITERS):
        raise UsageError(f"FILE must end in .html, {', '.join(WRITERS)}, not {file!r}.")
    if ending == ".html" and table is not None:
        raise UsageError("The page holds every table; --table is for .csv, .parquet and .tex.")
    with open_store(store, writable=False) as opened:
        content = _page(opened, run) if ending == ".html" else _table(opened, run, table, file)
    with new_file(file, force) as out:
        out.write(content)
    if json:
        screen.print_json({"file": file, "bytes": len(content)})
    else:
        screen.out.print(f"Written to {file}.", markup=False)


def track_command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Its id, or `latest`.")],
    uri: Annotated[
        str,
        typer.Option(
            "--uri",
            envvar="MLFLOW_TRACKING_URI",
            metavar="URI",
            help="The MLflow server, as http://127.0.0.1:5000.",
        ),
    ],
    experiment: Annotated[
        str, typer.Option("--experiment", metavar="NAME", help="Made there where it is missing.")
    ] = "selftaught",
    store: options.Store = options.STORE,
    json: options.Json = False,
    seed: options.Seed = 0,
) -> None:
    """Send a run's settings, numbers, tables and page to an MLflow server."""
    from selftaught.report.mlflow import export_to_mlflow

    with open_store(store, writable=False) as opened:
        there = export_to_mlflow(opened, run, uri, experiment)
    if json:
        screen.print_json({"mlflow_run": there, "experiment": experiment})
    else:
        screen.out.print(f"In MLflow, experiment {experiment}, as run {there}.", markup=False)


def _page(store: Store, run: str) -> bytes:
    from selftaught.report.content import gather
    from selftaught.report.html import html_text

    return html_text(gather(store, run)).encode("utf-8", "backslashreplace")


def _table(store: Store, run: str, name: str | None, file: str) -> bytes:
    from selftaught.report.table_files import table_bytes
    from selftaught.report.tables import MAIN, tables_of
    from selftaught.runs.recall import recall

    recalled = recall(store, store.resolve(run))
    tables = tables_of(recalled, store)
    wanted = name or MAIN.get(recalled.config.command, "rounds")
    if wanted not in tables:
        there = ", ".join(tables) or "none"
        raise UsageError(f"Run {recalled.id} has no table {wanted!r}; it has: {there}.")
    return table_bytes(tables[wanted], file)
