"""The commands of a store's upkeep: check, repair, export, import."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from selftaught.cli import options, screen
from selftaught.errors import UsageError
from selftaught.redaction import remember_url
from selftaught.store.moving import export_run, import_run
from selftaught.store.opening import is_url, open_store
from selftaught.store.salvage import SavedRun
from selftaught.store.upkeep import Checked, check_store, repair_store
from selftaught.store.whole_file import whole_file

NEXT_TO = ".repaired"

Run = Annotated[str, typer.Argument(metavar="RUN", help="Its id, or `latest`.")]


def check_command(
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="RUN", help="Only this one: its id, or `latest`."),
    ] = None,
    store: options.Store = options.STORE,
    json: options.Json = False,
) -> None:
    """Look a whole store over; say what is damaged, what is lost of which run, and what to do.

    Exits with 0 where the store is sound, or the run is whole, and with 1 where it is not.
    """
    remember_url(store)
    checked = check_store(store, run)
    if json:
        screen.print_json(msgspec.to_builtins(checked))
    else:
        _print_checked(checked, run)
    if not checked.sound:
        raise typer.Exit(1)


def repair_command(
    into: Annotated[
        str | None,
        typer.Option("--into", metavar="FILE", help="The store to make; beside the other one."),
    ] = None,
    store: options.Store = options.STORE,
    json: options.Json = False,
) -> None:
    """Make a sound store of all that can be read of a damaged one, which is left as it is."""
    remember_url(store)
    if into is None:
        if is_url(store):
            raise UsageError("Name the file to make with --into FILE.")
        path = Path(store)
        into = str(path.with_name(f"{path.stem}{NEXT_TO}{path.suffix}"))
    repaired = repair_store(store, into)
    if json:
        screen.print_json(msgspec.to_builtins(repaired))
        return
    for one in repaired.runs:
        screen.out.print(_told(one), markup=False)
    screen.out.print(
        f"Written to {into}: {_count(len(repaired.runs), 'run')} with "
        f"{_count(repaired.texts, 'text')}. {repaired.store} is as it was.",
        markup=False,
    )
    if any(not one.is_whole and one.is_resumable for one in repaired.runs):
        screen.out.print(
            f"`selftaught resume RUN --store {into}` computes, or asks for, what was lost.",
            markup=False,
        )


def export_command(
    run: Run,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to write.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
    store: options.Store = options.STORE,
    json: options.Json = False,
) -> None:
    """Write a run with all that it recorded as one file, which `store import` takes in."""
    remember_url(store)
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
    remember_url(store)
    moved = import_run(file, store)
    if json:
        screen.print_json(msgspec.to_builtins(moved))
        return
    if not moved.is_new:
        said = f"{moved.store} holds this run already, as {moved.run}; nothing was written."
    elif moved.run != moved.was:
        said = (
            f"Run {moved.was} with {moved.events:,} events is now run {moved.run} in "
            f"{moved.store}, where {moved.was} was not free."
        )
    else:
        said = f"Run {moved.run} with {moved.events:,} events is now in {moved.store}."
    screen.out.print(said, markup=False)
    if moved.is_new and moved.reaches:
        screen.out.print("To resume it takes --trust-import, since the file says so:")
        for one in moved.reaches:
            screen.out.print(f"- {one}", markup=False)


def _print_checked(checked: Checked, run: str | None) -> None:
    for problem in checked.problems:
        screen.out.print(problem, markup=False)
    if checked.more_problems:
        screen.out.print(f"... and {checked.more_problems:,} more of this kind.")
    for one in checked.runs:
        screen.out.print(_told(one), markup=False)
    if checked.sound and not checked.problems:
        screen.out.print(f"{checked.store} is sound.", markup=False)
        return
    if run is not None and checked.sound:
        screen.out.print("The run is whole; the store around it is damaged.")
    if checked.can_be_repaired:
        screen.out.print(
            f"`selftaught store repair --store {checked.store}` saves what can be read in a new "
            "store, and leaves this one as it is.",
            markup=False,
        )
    elif not checked.sound:
        screen.out.print("No run can be read in it: go back to a copy.")


def _told(one: SavedRun) -> str:
    """What a run keeps and what it lost, in a line."""
    said = [f"Run {one.run}: {_count(one.kept, 'event')} can be read"]
    if one.lost:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in one.lost.items())
        said.append(f"{sum(one.lost.values()):,} lost ({kinds})")
    if one.asked_again:
        said.append(f"{_count(one.asked_again, 'answer')} would be asked for, and paid for, again")
    if one.prompts_lost:
        said.append(f"the prompts of {_count(one.prompts_lost, 'answer')} are lost")
    if one.rounds_again:
        said.append(f"a resume enters {_count(one.rounds_again, 'round')} again")
    if not one.is_listed:
        said.append("its line in the list of runs is lost")
    if one.is_whole:
        said.append("nothing is lost")
    said.append("it can be resumed" if one.is_resumable else "its configuration is lost, so it "
                "cannot be resumed")  # fmt: skip
    return "; ".join(said) + "."


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def commands() -> typer.Typer:
    """The subcommands of store."""
    group = typer.Typer(
        help="Look a store over, save what a damaged one holds, and move runs between stores.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
    )
    for name, command in (
        ("check", check_command),
        ("repair", repair_command),
        ("export", export_command),
        ("import", import_command),
    ):
        group.command(name)(options.spread(command))
    return group
