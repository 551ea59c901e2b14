"""The commands by name. What implements one is imported when it is called, or its help is shown."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, cast

import typer
from typer.core import TyperGroup

# Each with its module in this package and the function in it, in the order of the help.
TABLE = {
    "run": ("running", "run_command"),
    "improve": ("running", "improve_command"),
    "transfer": ("running", "transfer_command"),
    "compare": ("comparing", "compare_command"),
    "audit": ("auditing", "audit_command"),
    "reproduce": ("reproducing", "reproduce_command"),
    "resume": ("running", "resume_command"),
    "show": ("reading", "show_command"),
    "export": ("reading", "export_command"),
    "record": ("reading", "record_command"),
    "report": ("reporting", "report_command"),
    "track": ("reporting", "track_command"),
    "tasks": ("listing", "tasks_command"),
    "improvers": ("listing", "improvers_command"),
    "models": ("listing", "models_command"),
    "new-task": ("task_folders", "new_task_command"),
    "check-task": ("task_folders", "check_task_command"),
    "doctor": ("listing", "doctor_command"),
    "estimate": ("estimating", "commands"),
    "store": ("storing", "commands"),
}


# They need a pool, whose processes start while the rest is still being read and loaded.
NEED_A_POOL = ("run", "improve", "transfer", "compare", "reproduce", "resume")


# With these they do not, or need another.
ELSEWHERE = ("--help", "--pool")


class Group(TyperGroup):
    """The root command, whose subcommands are those of TABLE."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = cast("dict[str, Any]", _Commands())

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Begin what the command that is called will need, and read its name."""
        if args and args[0] in NEED_A_POOL and not any(one.startswith(ELSEWHERE) for one in args):
            from selftaught.pools import early

            early.begin()
            ctx.call_on_close(early.discard)
        return super().parse_args(ctx, args)


class _Commands(Mapping[str, Any]):
    """What Typer makes of each command, made where it is looked up."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            module, function = TABLE[name]
            self._made[name] = _command(
                name, getattr(importlib.import_module(f"selftaught.cli.{module}"), function)
            )
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(TABLE)

    def __len__(self) -> int:
        return len(TABLE)


def _command(name: str, function: Any) -> Any:
    from selftaught.cli import options

    if TABLE[name][1] == "commands":
        group = typer.main.get_command(function())
        group.name = name
        return group
    alone = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    alone.command(name)(options.spread(function))
    return typer.main.get_command(alone)
