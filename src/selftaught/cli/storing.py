"""The commands of a store's upkeep: check, repair, export, import."""

from typing import Annotated

import msgspec
import typer

from selftaught.cli import options, screen
from selftaught.store.moving import export_run, import_run
from selftaught.store.opening import open_store
from selftaught.store.whole_file import whole_file

Run = Annotated[str, typer.Argument(metavar="RUN", help="Its id, or `latest`.")]


def export_command(
    run: Run,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to write.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
    store: options.Store = options.STORE,
    json: options.Json = False,
) -> None:
    """Write a run with all that it recorded as one file, which `store import` takes in."""
    with (
        open_store(store, writable=False) as opened,
        whole_file(file, force=force) as path,
        path.open("wb") as out,
    ):
        moved = export_run(opened, opened.resolve(run), out)
    if json:
        screen.print_json({"file": file, **msgspec.to_builtins(moved)})
    else:
        screen.out.print(
            f"Run {moved.run} with {moved.events:,} events and {moved.texts:,} texts written to "
            f"{file}. Its SHA-256 is {moved.sha256}.",
            markup=False,
        )


def import_command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="What `store export` wrote.")],
    store: options.Store = options.STORE,
    json: options.Json = False,
) -> None:
    """Take the run of a file into a store, where it can be shown, resumed and reported."""
    moved = import_run(file, store)
    if json:
        screen.print_json(msgspec.to_builtins(moved))
        return
    if not moved.is_new:
        said = f"{moved.store} holds this run already, as {moved.run}; nothing was written."
    elif moved.run != moved.was:
        said = (
            f"Run {moved.was} with {moved.events:,} events is now run {moved.run} in {moved.store}, "
            f"which holds another run {moved.was}."
        )
    else:
        said = f"Run {moved.run} with {moved.events:,} events is now in {moved.store}."
    screen.out.print(said, markup=False)


def commands() -> typer.Typer:
    """The subcommands of store."""
    group = typer.Typer(
        help="Look a store over, save what a damaged one holds, and move runs between stores.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
    )
    for name, command in (
        ("export", export_command),
        ("import", import_command),
    ):
        group.command(name)(options.spread(command))
    return group
