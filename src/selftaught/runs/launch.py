"""Starting and resuming runs: the front door of the Python API."""

import threading
from collections.abc import Mapping, Sequence

import msgspec

from selftaught.budget import Budget
from selftaught.errors import UsageError
from selftaught.improver import load_improver
from selftaught.language_model import LanguageModel
from selftaught.runs.config import RunConfig, check_config, check_digests, config_of
from selftaught.runs.execution import Execution
from selftaught.runs.result import Run, Watch
from selftaught.store.journal import Journal
from selftaught.store.opening import open_store
from selftaught.task import Task

DEFAULT_STORE = "selftaught.db"


def run(
    tasks: Sequence[Task | str],
    *,
    rounds: int = 3,
    model: str | LanguageModel = "mutation",
    budget: Budget | None = None,
    held_out: Sequence[Task | str] = (),
    store: str = DEFAULT_STORE,
    seed: int = 0,
) -> Run:
    """Run the Self-Taught Optimizer on tasks (paper, Algorithm 1).

    Args:
        tasks: loaded tasks, or references as `Task.load` takes them.
        rounds: T, how often the improver improves itself.
        model: a name as after `--model`, or an object that is a LanguageModel.
        budget: of one application of an improver, to a task or to itself.
        held_out: tasks for the transfer table.
        store: path of the SQLite file; made where it is missing.
        seed: all luck follows from it.

    Raises:
        SelftaughtError: with a sentence that says what to do.
    """
    name = model if isinstance(model, str) else f"custom:{model.name}"
    config = RunConfig(
        command="run",
        tasks=tuple(t if isinstance(t, str) else t.reference for t in tasks),
        held_out=tuple(t if isinstance(t, str) else t.reference for t in held_out),
        improvers=(("seed", load_improver("seed").source),),
        rounds=rounds,
        seed=seed,
        model=name,
        budget=budget or Budget(),
        meta_budget=budget or Budget(),
    )
    given = None if isinstance(model, str) else model
    return start(config, store, model=given)


def start(
    config: RunConfig,
    store: str = DEFAULT_STORE,
    *,
    command_line: str = "",
    watch: Watch | None = None,
    stop: threading.Event | None = None,
    environment: Mapping[str, str] | None = None,
    model: LanguageModel | None = None,
) -> Run:
    """Start a run from a configuration. Everything is checked before anything is recorded.

    Args:
        config: what to do.
        store: path of the SQLite file.
        command_line: as typed, kept for repeating the run.
        watch: told of progress.
        stop: set it from another thread or a signal handler to end the run cleanly.
        environment: where keys are read from; this process's where left out.
        model: used in place of `config.model`.
    """
    check_config(config)
    tasks = [Task.load(reference) for reference in config.tasks]
    held_out = [Task.load(reference) for reference in config.held_out]
    config = msgspec.structs.replace(
        config,
        tasks=tuple(task.reference for task in tasks),
        held_out=tuple(task.reference for task in held_out),
        digests={task.name: task.digest for task in (*tasks, *held_out)},
    )
    with open_store(store, writable=True) as opened:
        execution = Execution(config, watch or Watch(), stop, environment, model)
        run_id = opened.new_run(msgspec.to_builtins(config), command_line or config.command)
        return execution.go(Journal(opened, run_id, on_event=execution.watch.on_event))


def resume(
    run_id: str,
    store: str = DEFAULT_STORE,
    *,
    watch: Watch | None = None,
    stop: threading.Event | None = None,
    environment: Mapping[str, str] | None = None,
    model: LanguageModel | None = None,
    seed: int | None = None,
) -> Run:
    """Go on with a run that ended early: the same computation, with what is recorded looked up.

    Raises:
        StoreError: no such run.
        UsageError: another seed than the run's own.
        SelftaughtError: a task changed since, so that its recorded scores mean something else.
    """
    with open_store(store, writable=True, must_exist=True) as opened:
        run_id = opened.resolve(run_id)
        config = config_of(opened, run_id)
        if seed is not None and seed != config.seed:
            raise UsageError(f"Run {run_id} has seed {config.seed}, not {seed}; leave it out.")
        check_digests(config, run_id)
        execution = Execution(config, watch or Watch(), stop, environment, model)
        return execution.go(Journal(opened, run_id, on_event=execution.watch.on_event))
