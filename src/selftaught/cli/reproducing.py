"""The command that repeats the paper's experiments: reproduce."""

import os
import shlex
import sys
from typing import Annotated

import msgspec
import typer
from rich.table import Table

import selftaught.cli.options as options
from selftaught.cli import screen
from selftaught.cli.progress import Progress
from selftaught.cli.results import EXIT_BUDGET
from selftaught.cli.running import stopping
from selftaught.errors import RunBudgetSpent, UsageError
from selftaught.runs.reproduce.catalogue import RECIPES, recipe_of
from selftaught.runs.reproduce.recipe import Recipe, Setting, Sheet, scale_of
from selftaught.runs.reproduce.repeat import Bound, Reproduction, bound, reproduce

# A prompt with a program and a utility's text, and an answer with a program, of usual length.
_PROMPT_TOKENS = 1_000
_RESPONSE_TOKENS = 800


def reproduce_command(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="One of those that --list shows.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Explain the recipes and exit.")] = False,
    scale: Annotated[
        str, typer.Option("--scale", help="`small`: minutes without a key; or `paper`.")
    ] = "small",
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Tell what it may cost at most, and exit.")
    ] = False,
    models: Annotated[
        str, typer.Option("--models", metavar="NAMES", help="Of smaller_models, by commas.")
    ] = "",
    *,
    shared: options.ModelOptions,
) -> None:
    """Repeat an experiment of the paper as RECIPE, its figures beside yours.

    The same command with the same store goes on where it was stopped. Limits are of each run.
    """
    if list_ or recipe is None:
        _list(shared.json)
        return
    chosen = recipe_of(recipe)
    if models and chosen.name != "smaller_models":
        raise UsageError(f"--models is for smaller_models; {chosen.name} takes --model.")
    setting = Setting(
        scale=scale_of(scale),
        model=shared.model,
        models=options.names(models),
        base_url=shared.base_url,
        model_settings=shared.settings,
        seed=shared.seed,
        limits=shared.limits,
        slots=shared.slots,
        allow_weak_sandbox=shared.weak,
    )
    most = bound(chosen.parts(setting))
    if estimate:
        if shared.json:
            screen.print_json(msgspec.to_builtins(most))
        else:
            screen.out.print(_told(most))
        return
    screen.err.print(f"{chosen.name}, {chosen.place}. {_told(most)}", style="dim")
    _run(chosen, setting, shared.store, shared.json)


def _run(chosen: Recipe, setting: Setting, store: str, json: bool) -> None:
    command_line = shlex.join(["selftaught", *sys.argv[1:]])
    with Progress() as progress, stopping(progress) as stop:
        try:
            found = reproduce(
                chosen,
                setting,
                store,
                command_line=command_line,
                watch=progress.watch(),
                stop=stop,
                environment=os.environ,
            )
        except RunBudgetSpent as spent:
            screen.err.print(f"[yellow]Ended early.[/yellow] {screen.plain(str(spent))}")
            raise typer.Exit(EXIT_BUDGET) from spent
    if json:
        screen.print_json(_as_data(found, setting, command_line))
    else:
        _print(found, setting, command_line)


def _list(json: bool) -> None:
    if json:
        screen.print_json(
            [
                {"name": one.name, "place": one.place, "summary": one.summary}
                for one in RECIPES.values()
            ]
        )
        return
    for one in RECIPES.values():
        screen.out.print(f"[bold]{one.name}[/bold]  {one.place}")
        screen.out.print(f"    {one.summary}", markup=False)


def _told(most: Bound) -> str:
    tokens = most.calls * _PROMPT_TOKENS + most.responses * _RESPONSE_TOKENS
    return (
        f"At most {most.calls:,} model calls with {most.responses:,} responses, about "
        f"{tokens / 1e6:.1f} million tokens, and {most.scores:,} programs scored; "
        "usually far fewer."
    )


def _print(found: Reproduction, setting: Setting, command_line: str) -> None:
    out = screen.out
    if setting.model.startswith("mutation"):
        out.print(f"[yellow]{screen.MUTATION_BANNER}[/yellow]")
    for sheet in found.report.sheets:
        out.print(_table(sheet))
    for remark in found.report.remarks:
        out.print(remark, markup=False)
    out.print("Before you compare:")
    models = ", ".join(setting.models) or setting.model
    for caveat in (
        f"The paper's model is GPT-4 of 2023; here it is {models}.",
        *found.recipe.caveats,
    ):
        out.print(f"  - {caveat}", markup=False)
    out.print(f"Recorded as {', '.join(found.runs.values())}. Again: {command_line}", markup=False)


def _table(sheet: Sheet) -> Table:
    table = screen.titled_table(sheet.title)
    for place, header in enumerate(sheet.header):
        table.add_column(header, no_wrap=place > 0)
    for row in sheet.rows:
        table.add_row(*row)
    return table


def _as_data(found: Reproduction, setting: Setting, command_line: str) -> dict[str, object]:
    return {
        "recipe": found.recipe.name,
        "place": found.recipe.place,
        "scale": setting.scale.name,
        "model": setting.model,
        "models": setting.models,
        "sheets": msgspec.to_builtins(found.report.sheets),
        "numbers": found.report.numbers,
        "remarks": found.report.remarks,
        "caveats": found.recipe.caveats,
        "runs": found.runs,
        "command": command_line,
    }
