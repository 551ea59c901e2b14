"""Starting and resuming runs: the front door of the Python API."""

import os
import threading
from collections.abc import Mapping, Sequence

import msgspec

from selftaught.budget import Budget, RunLimits
from selftaught.errors import UsageError
from selftaught.improver import load_improver
from selftaught.language_model import LanguageModel
from selftaught.models.providers import PROVIDERS, provider_of
from selftaught.models.tariff import limited
from selftaught.pools.opening import LOCAL, cluster_of
from selftaught.redaction import (
    lacks_credentials,
    redacted,
    remember_environment,
    remember_url,
    without_credentials,
)
from selftaught.runs.config import RunConfig, check_config, check_digests, config_of
from selftaught.runs.execution import Execution
from selftaught.runs.replaying import with_replay
from selftaught.runs.result import Run, Watch
from selftaught.store.imported import reached_by
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
        store: where runs are kept, as after `--store`.
        command_line: as typed, kept for repeating the run.
        watch: told of progress.
        stop: set it from another thread or a signal handler to end the run cleanly.
        environment: where keys are read from; this process's where left out.
        model: used in place of `config.model`.
    """
    environment = os.environ if environment is None else environment
    _remember_secrets(environment, config.base_url, store)
    check_config(config)
    address = config.base_url
    config = with_tasks(config)
    with open_store(store, writable=True) as opened:
        config, replay = with_replay(config, opened)
        execution = Execution(config, watch or Watch(), stop, environment, model or replay, address)
        cache = execution.cache(opened)
        run_id = opened.new_run(msgspec.to_builtins(config), command_line or config.command)
        return execution.go(Journal(opened, run_id, on_event=execution.on_event), cache)


def with_tasks(config: RunConfig) -> RunConfig:
    """The configuration as it is recorded: tasks by full reference, and what they are now."""
    tasks = [Task.load(reference) for reference in config.tasks]
    held_out = [Task.load(reference) for reference in config.held_out]
    return msgspec.structs.replace(
        config,
        tasks=tuple(task.reference for task in tasks),
        held_out=tuple(task.reference for task in held_out),
        model_settings=limited(config.model_settings, config.limits),
        permits={
            task.name: said
            for task in (*tasks, *held_out)
            if (said := task.file.permissions.sentences())
        },
        digests={task.name: task.digest for task in (*tasks, *held_out)},
        # What is recorded is what is run, and no secret is recorded.
        improvers=tuple((redacted(n), redacted(source)) for n, source in config.improvers),
        base_url=without_credentials(config.base_url),
    )


def resume(
    run_id: str,
    store: str = DEFAULT_STORE,
    *,
    watch: Watch | None = None,
    stop: threading.Event | None = None,
    environment: Mapping[str, str] | None = None,
    model: LanguageModel | None = None,
    seed: int | None = None,
    pacing: Mapping[str, int | float] | None = None,
    pool: str | None = None,
    limits: RunLimits | None = None,
    base_url: str | None = None,
    trust_import: bool = False,
) -> Run:
    """Go on with a run that ended early: the same computation, with what is recorded looked up.

    Args:
        run_id: the run's id, the beginning of one, or `latest`.
        store: where runs are kept, as after `--store`.
        watch, stop, environment, model: as of `start`.
        seed: must be the run's own, if given.
        pacing: fields of `ModelSettings` to change that do not change what the model answers,
            such as `concurrency` and `patience_s`.
        pool: where jobs run from now on, as after `--pool`; as before where left out.
        limits: of what is spent from now on and was before; the run's own where left out. They
            bring the limit of output along that a run has which is started with them.
        base_url: where the same model is served now; the run's own where left out.
        trust_import: a run that came in a file may reach what the file says: the address of its
            model, its cluster, the folders of its tasks.

    Raises:
        StoreError: no such run.
        UsageError: another seed than the run's own; or a run that came in a file would reach
            what nobody here agreed to.
        SelftaughtError: a task changed since, so that its recorded scores mean something else.
    """
    environment = os.environ if environment is None else environment
    _remember_secrets(environment, base_url, store)
    with open_store(store, writable=True, must_exist=True) as opened:
        run_id = opened.resolve(run_id)
        # Before anything is read: what is read must be all that there will be.
        opened.take(run_id)
        config = config_of(opened, run_id)
        if seed is not None and seed != config.seed:
            raise UsageError(f"Run {run_id} has seed {config.seed}, not {seed}; leave it out.")
        if pool is not None:
            cluster_of(pool)
            config = msgspec.structs.replace(config, pool=pool)
        if limits is not None:
            config = msgspec.structs.replace(config, limits=limits)
        settings = msgspec.structs.replace(config.model_settings, **(pacing or {}))
        config = msgspec.structs.replace(config, model_settings=limited(settings, config.limits))
        if config.imported and not trust_import:
            _refuse_to_reach(run_id, config, is_asked_elsewhere=bool(base_url or model), pool=pool)
        check_digests(config, run_id)
        address = base_url
        if base_url is not None:
            config = msgspec.structs.replace(config, base_url=without_credentials(base_url))
        elif model is None:
            address = _address(run_id, config, environment)
        config, replay = with_replay(config, opened)
        execution = Execution(config, watch or Watch(), stop, environment, model or replay, address)
        cache = execution.cache(opened)
        return execution.go(Journal(opened, run_id, on_event=execution.on_event), cache)


def _refuse_to_reach(
    run_id: str, config: RunConfig, *, is_asked_elsewhere: bool, pool: str | None
) -> None:
    """Raise UsageError where an imported run would reach what its file says and nobody here."""
    changed = msgspec.structs.replace(
        config,
        base_url=None if is_asked_elsewhere else config.base_url,
        pool=config.pool if pool is None else LOCAL,
    )
    reached = " ".join(reached_by(msgspec.to_builtins(changed)))
    if reached:
        raise UsageError(
            f"Run {run_id} came in a file, and would do what the file says. {reached} Give "
            "--trust-import if you trust who made it, or name an address of your own with "
            "--base-url and a pool with --pool."
        )


def _remember_secrets(environment: Mapping[str, str], base_url: str | None, store: str) -> None:
    remember_environment(environment)
    addresses = (environment.get(one.url_variable) for one in PROVIDERS)
    for url in (base_url, store, *addresses):
        remember_url(url)


def _address(run_id: str, config: RunConfig, environment: Mapping[str, str]) -> str | None:
    """The base URL of a run with the credentials that were left out when it was recorded."""
    if not lacks_credentials(config.base_url):
        return config.base_url
    found = provider_of(config.model)
    variable = found[0].url_variable if found else ""
    given = environment.get(variable)
    if without_credentials(given) != config.base_url:
        raise UsageError(
            f"The base URL of run {run_id} held credentials, which are not recorded: set "
            f"{variable} to it, credentials included, and resume again. "
            f"It was {config.base_url}."
        )
    return given
