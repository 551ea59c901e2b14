"""The command estimate: the commands that start runs, which then start none."""

import functools
from collections.abc import Callable
from typing import Any

import typer

from selftaught.cli import comparing, estimates, options, running


def commands() -> typer.Typer:
    """The subcommands of estimate, with the arguments of what they estimate."""
    group = typer.Typer(
        help="Estimate calls, tokens and money of a run before it is started; nothing is asked.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
    )
    for name, command in (
        ("run", running.run_command),
        ("improve", running.improve_command),
        ("transfer", running.transfer_command),
        ("compare", comparing.compare_command),
    ):
        group.command(name)(_estimated(name, options.spread(command)))
    return group


def _estimated(name: str, command: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(command)
    def estimated(*arguments: Any, **given: Any) -> None:
        with estimates.instead_of_runs():
            command(*arguments, **given)

    estimated.__doc__ = f"Estimate `{name}`; it takes the same arguments."
    return estimated
