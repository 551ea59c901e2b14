"""The commands for tasks of your own: new-task, check-task."""

from typing import Annotated

import msgspec
import typer

import selftaught.cli.options as options
from selftaught.cli import screen
from selftaught.pools.local import LocalPool
from selftaught.task import Task
from selftaught.task_check import check_task, write_skeleton


def new_task_command(
    folder: Annotated[str, typer.Argument(metavar="DIR")],
    store: options.Store = options.STORE,
    json: options.Json = False,
    seed: options.Seed = 0,
) -> None:
    """Write a working task folder to start from."""
    written = write_skeleton(folder)
    if json:
        screen.print_json({"files": [str(path) for path in written]})
        return
    for path in written:
        screen.out.print(str(path), markup=False)
    screen.out.print(f"`selftaught check-task {folder}` tries it out.", markup=False)


def check_task_command(
    task: Annotated[str, typer.Argument(metavar="TASK|DIR")],
    weak: options.Weak = False,
    network: options.Network = False,
    store: options.Store = options.STORE,
    json: options.Json = False,
    seed: options.Seed = 0,
) -> None:
    """Try a task out: does it repeat, does it score, does its verifier reject nonsense?"""
    loaded = Task.load(task)
    permits = loaded.file.permissions.sentences()
    if not json:
        screen.out.print(f"permits: {'; '.join(permits) or 'nothing but to compute'}", markup=False)
    pool = LocalPool(1, allow_weak_sandbox=weak, allow_network=network)
    checks = []
    try:
        for check in check_task(loaded, pool):
            checks.append(check)
            if not json:
                mark = "[green]ok[/green]  " if check.passed else "[red]FAIL[/red]"
                screen.out.print(f"{mark} {check.name} [dim]{screen.plain(check.detail)}[/dim]")
    finally:
        pool.close()
    failed = [check for check in checks if not check.passed]
    if json:
        screen.print_json(
            {
                "task": loaded.name,
                "permits": permits,
                "passed": not failed,
                "checks": msgspec.to_builtins(checks),
            }
        )
    else:
        count = f"{len(checks) - len(failed)} of {len(checks)} checks hold"
        screen.out.print(f"{loaded.name}: {count}.", markup=False)
    if failed:
        raise typer.Exit(1)
