"""What a run is a function of."""

from typing import Literal

import msgspec

from selftaught.algorithm import ACCEPT
from selftaught.budget import Budget, RunLimits
from selftaught.errors import StoreError, UsageError
from selftaught.improver import API_VERSION
from selftaught.store.sqlite import SQLiteStore
from selftaught.task import Task
from selftaught.transfer import check_held_out
from selftaught.version import __version__

DEFAULT_HELD_OUT = ("sorting_network", "str_grid_dist")


class RunConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a run is a function of; stored with it.

    Attributes:
        command: what the run does.
        tasks: task references, trained on.
        held_out: task references for the transfer table; empty for none.
        improvers: names and sources; of `run` the first is the seed improver.
        rounds: T of Algorithm 1.
        repeats: how often each task is met where an improver is validated.
        sealed_repeats: the same on sealed test instances and held-out tasks.
        seed: all luck follows from it.
        model: as after `--model`; `custom:NAME` for an object given in Python.
        base_url: of an OpenAI-compatible endpoint.
        budget: of one application of an improver to a task.
        meta_budget: of one application of an improver to an improver.
        limits: of the whole run.
        accept: the acceptance rule.
        slots: jobs that compute at once; None for one per core.
        allow_weak_sandbox: go on where isolation layers are missing.
        digests: of the tasks, to tell on resume that one changed.
    """

    command: Literal["run", "improve", "transfer"]
    tasks: tuple[str, ...]
    held_out: tuple[str, ...] = ()
    improvers: tuple[tuple[str, str], ...] = ()
    rounds: int = 3
    repeats: int = 2
    sealed_repeats: int = 4
    seed: int = 0
    model: str = "mutation"
    base_url: str | None = None
    budget: Budget = Budget()
    meta_budget: Budget = Budget()
    limits: RunLimits = RunLimits()
    accept: str = "always"
    slots: int | None = None
    allow_weak_sandbox: bool = False
    digests: dict[str, str] = {}
    improver_api: int = API_VERSION
    version: str = __version__


def check_config(config: RunConfig) -> None:
    """Raise UsageError, with a sentence, for a configuration that cannot be meant."""
    if config.rounds < 1:
        raise UsageError(f"--rounds must be at least 1, not {config.rounds}.")
    if config.repeats < 1:
        raise UsageError(f"--repeats must be at least 1, not {config.repeats}.")
    if config.sealed_repeats < 1:
        raise UsageError(f"--sealed-repeats must be at least 1, not {config.sealed_repeats}.")
    if config.slots is not None and config.slots < 1:
        raise UsageError(f"--slots must be at least 1, not {config.slots}.")
    if config.accept not in ACCEPT:
        known = ", ".join(ACCEPT)
        raise UsageError(f"There is no acceptance rule {config.accept!r}; there are: {known}.")
    if not config.tasks and not config.held_out:
        raise UsageError("At least one task is needed; `selftaught tasks` lists them.")
    names = [Task.load(reference).name for reference in config.tasks]
    if len(set(names)) < len(names):
        raise UsageError(f"A task is named twice: {', '.join(names)}.")
    held_out = [Task.load(reference) for reference in config.held_out]
    check_held_out([Task.load(reference) for reference in config.tasks], held_out)


def config_of(store: SQLiteStore, run_id: str) -> RunConfig:
    """The configuration that a run was started with.

    Raises:
        StoreError: no such run, or one written by another version of selftaught.
    """
    for row in store.runs():
        if row.id == run_id:
            try:
                return msgspec.convert(row.config, RunConfig)
            except msgspec.ValidationError as error:
                raise StoreError(
                    f"Run {run_id} was recorded by another version of selftaught: {error}."
                ) from error
    raise StoreError(f"The store holds no run {run_id!r}.")
