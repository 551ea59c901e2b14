"""The commands that list what there is: tasks, improvers, models, doctor."""

import ast
import os
import platform
import sqlite3

import msgspec
import typer
from rich.table import Table

import selftaught.cli.options as options
from selftaught.cli import screen
from selftaught.errors import SandboxUnavailable
from selftaught.improver import improver_names, load_improver
from selftaught.models.resolve import model_names
from selftaught.sandbox.toolchain import LANGUAGES
from selftaught.task import Task, task_names
from selftaught.version import __version__

WITNESSES = {
    True: "the kernel",
    False: "the programs' own hooks only, which a program can avoid",
}
NOT_DEFENDED = (
    "bugs of the kernel itself",
    "what can be learned from timing",
    "the task folder's own utility.py, which is trusted",
)


def tasks_command(
    store: options.Store = options.STORE, json: options.Json = False, seed: options.Seed = 0
) -> None:
    """List the tasks that come with selftaught, with source and known flaws."""
    tasks = [Task.load(name) for name in task_names()]
    if json:
        screen.print_json(
            [{"name": t.name, "folder": t.folder, **msgspec.to_builtins(t.file)} for t in tasks]
        )
        return
    for task in tasks:
        file = task.file
        val, test = file.splits["val"].instances, file.splits["test"].instances
        screen.out.print(f"[bold]{task.name}[/bold]  {screen.plain(file.summary)}")
        parameters = ", ".join(f"{k}={v}" for k, v in file.parameters.items())
        limit = f"{file.limits.time_s:g} s CPU" + (
            f", {file.limits.work:,} steps" if file.limits.work else ""
        )
        screen.out.print(f"    {val} val and {test} test instances, {limit} a call")
        if permits := "; ".join(file.permissions.sentences()):
            screen.out.print(f"    permits: {permits}")
        if parameters:
            screen.out.print(f"    parameters: {parameters}")
        if file.source:
            screen.out.print(f"    source: {file.source}", markup=False)
        if file.known_flaws:
            screen.out.print(f"    known flaws: {file.known_flaws}", markup=False)


def improvers_command(
    store: options.Store = options.STORE, json: options.Json = False, seed: options.Seed = 0
) -> None:
    """List the improvers that come with selftaught."""
    found = {name: _first_sentence(load_improver(name).source) for name in improver_names()}
    if json:
        screen.print_json([{"name": name, "summary": text} for name, text in found.items()])
        return
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, text in found.items():
        table.add_row(f"[bold]{name}[/bold]", text)
    screen.out.print(table)


def models_command(
    base_url: options.BaseUrl = None,
    store: options.Store = options.STORE,
    json: options.Json = False,
    seed: options.Seed = 0,
) -> None:
    """List what can answer as --model, and whether it can be used now."""
    forms = model_names(base_url=base_url, environment=os.environ)
    if json:
        screen.print_json([msgspec.to_builtins(form) for form in forms])
        return
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for form in forms:
        mark = "[green]ready[/green]" if form.usable else "[yellow]not yet[/yellow]"
        table.add_row(
            f"[bold]{form.form}[/bold]", mark, screen.plain(f"{form.meaning}; {form.remark}")
        )
    screen.out.print(table)


def doctor_command(
    store: options.Store = options.STORE, json: options.Json = False, seed: options.Seed = 0
) -> None:
    """Tell which isolation layers this machine has, each with a probe that was really refused.

    Exits with 0 where generated code is safely contained, and with 1 where it is not.
    """
    from selftaught.sandbox import layers
    from selftaught.sandbox.permission_probes import found_toolchains, probe_permissions

    probes, chosen, problem = [], layers.WEAK, ""
    try:
        chosen = layers.choose_layers()
    except SandboxUnavailable as error:
        problem = str(error)
    if not problem:
        probes = [*layers.probe(chosen), *probe_permissions(chosen)]
    toolchains = found_toolchains()
    is_told = any(one.told for one in probes)
    is_safe = not problem and all(one.refused for one in probes)
    if json:
        screen.print_json(
            {
                "safe": is_safe,
                "layers": chosen,
                "problem": problem,
                "told_by_kernel": is_told,
                "probes": [msgspec.to_builtins(one) for one in probes],
                "private_tmp": "namespaces" in chosen,
                "toolchains": toolchains,
                "not_defended": NOT_DEFENDED,
                "machine": _machine(),
            }
        )
    else:
        screen.out.print(", ".join(f"{k} {v}" for k, v in _machine().items()))
        screen.out.print(f"layers: {' + '.join(chosen)}, and limits on every child")
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for one in probes:
            mark = "[green]refused[/green]" if one.refused else "[red]SUCCEEDED[/red]"
            table.add_row(mark, one.name, screen.plain(one.evidence))
        screen.out.print(table)
        private = "can be permitted" if "namespaces" in chosen else "needs namespaces"
        screen.out.print(f"a private folder for candidates: {private}")
        for language, version in toolchains.items():
            screen.out.print(f"compiler for {language}: {version}", markup=False)
        if missing := [language for language in LANGUAGES if language not in toolchains]:
            screen.out.print(f"no compiler for: {', '.join(missing)}")
        screen.out.print(f"refused system calls are told by: {WITNESSES[is_told]}")
        screen.out.print(f"not defended: {'; '.join(NOT_DEFENDED)}")
        if problem:
            screen.out.print(problem, style="red", markup=False)
        verdict = "safe" if is_safe else "NOT SAFE"
        screen.out.print(f"Generated code on this machine: [bold]{verdict}[/bold]")
    if not is_safe:
        raise typer.Exit(1)


def _machine() -> dict[str, str]:
    return {
        "selftaught": __version__,
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "user id": str(os.geteuid()),
        "cores": str(os.cpu_count()),
    }


def _first_sentence(source: str) -> str:
    text = " ".join((ast.get_docstring(ast.parse(source)) or "").split())
    return text.split(". ")[0].rstrip(".") + "." if text else ""
