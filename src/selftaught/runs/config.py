"""What a run is a function of."""

from typing import Literal

import msgspec

from selftaught.acceptance import DEFAULT_REPEATS, MOST_REPEATS, fewest_repeats
from selftaught.algorithm import ACCEPT
from selftaught.audit.study import AuditSettings
from selftaught.budget import Budget, RunLimits
from selftaught.compare import MIN_SEEDS
from selftaught.errors import SelftaughtError, StoreError, UsageError
from selftaught.improver import API_VERSION
from selftaught.language_model import ModelSettings
from selftaught.models.mix import members
from selftaught.pools.opening import LOCAL, cluster_of
from selftaught.sandbox.grant import require_agreement
from selftaught.sandbox.toolchain import find_toolchain
from selftaught.store.event_store import Store
from selftaught.task import Task
from selftaught.transfer import check_held_out
from selftaught.version import __version__

DEFAULT_HELD_OUT = ("sorting_network", "str_grid_dist")


class RunConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a run is a function of; stored with it.

    Attributes:
        command: what the run does.
        tasks: task references, trained on; of `compare`, what the recorded runs trained on that
            its improvers come from.
        held_out: task references for the transfer table, or to compare on; empty for none.
        improvers: names and sources; of `run` the first is the seed improver.
        baseline: of `compare`, the name that the others are compared to; the first by default.
        seeds: of `compare`, N.
        rounds: T of Algorithm 1.
        repeats: how often each task is met where an improver is validated.
        sealed_repeats: the same on sealed test instances and held-out tasks.
        seed: all luck follows from it.
        model: as after `--model`; `custom:NAME` for an object given in Python.
        base_url: of an OpenAI-compatible endpoint, without credentials.
        model_settings: how the model is asked.
        budget: of one application of an improver to a task.
        meta_budget: of one application of an improver to an improver.
        limits: of the whole run.
        accept: the acceptance rule.
        accept_repeats: of the rule `significant`, fresh repeats that one trial may take.
        cache: answers of other runs in the store are used again.
        replay_of: of a replay, the model that answered in the recorded run; else empty.
        pool: where jobs run: `local`, or the URL of a cluster.
        allow_open_cluster: use a Ray cluster that lets anybody in.
        slots: jobs that compute at once, on each machine; None for one per core.
        speculate: score the programs in a model's answers before the improver asks for it. It
            changes no result, only the time that a run takes.
        allow_weak_sandbox: go on where isolation layers are missing.
        allow_network: candidates reach the network where their task permits it.
        permits: of the tasks that permit their candidates anything, what; told by `show`.
        digests: of the tasks, to tell on resume that one changed.
        audit: of `audit`, what it asks for.
        utility_text: whether the text of the meta-utility is shown to the language model.
        recipe: name, scale and part of the paper's experiment that the run belongs to, if any.
        imported: the run came in a file of somebody's, who wrote all of the above.
    """

    command: Literal["run", "improve", "transfer", "compare", "audit"]
    tasks: tuple[str, ...]
    held_out: tuple[str, ...] = ()
    improvers: tuple[tuple[str, str], ...] = ()
    baseline: str | None = None
    seeds: int = 10
    rounds: int = 3
    repeats: int = 2
    sealed_repeats: int = 4
    seed: int = 0
    model: str = "mutation"
    base_url: str | None = None
    model_settings: ModelSettings = ModelSettings()
    budget: Budget = Budget()
    meta_budget: Budget = Budget()
    limits: RunLimits = RunLimits()
    accept: str = "always"
    accept_repeats: int = DEFAULT_REPEATS
    cache: bool = False
    replay_of: str = ""
    pool: str = LOCAL
    allow_open_cluster: bool = False
    slots: int | None = None
    speculate: bool = True
    allow_weak_sandbox: bool = False
    allow_network: bool = False
    permits: dict[str, tuple[str, ...]] = {}
    digests: dict[str, str] = {}
    audit: AuditSettings = AuditSettings()
    utility_text: Literal["shown", "withheld"] = "shown"
    recipe: str = ""
    imported: bool = False
    improver_api: int = API_VERSION
    version: str = __version__


def is_mutation(config: RunConfig) -> bool:
    """Whether the proposals of a run come, or came in the run it repeats, from random mutation."""
    return all(one.startswith("mutation") for one in members(config.replay_of or config.model))


def check_config(config: RunConfig) -> None:
    """Raise UsageError, with a sentence, for a configuration that cannot be meant."""
    if config.rounds < 1:
        raise UsageError(f"--rounds must be at least 1, not {config.rounds}.")
    if not 1 <= config.repeats <= MOST_REPEATS:
        raise UsageError(f"--repeats must be 1 to {MOST_REPEATS}, not {config.repeats}.")
    if not 1 <= config.sealed_repeats <= MOST_REPEATS:
        raise UsageError(
            f"--sealed-repeats must be 1 to {MOST_REPEATS}, not {config.sealed_repeats}."
        )
    if config.slots is not None and config.slots < 1:
        raise UsageError(f"--slots must be at least 1, not {config.slots}.")
    cluster_of(config.pool)
    if config.accept not in ACCEPT:
        known = ", ".join(ACCEPT)
        raise UsageError(f"There is no acceptance rule {config.accept!r}; there are: {known}.")
    least = fewest_repeats(config.rounds)
    if config.accept == "significant" and not least <= config.accept_repeats <= MOST_REPEATS:
        raise UsageError(
            f"--accept-repeats must be {least} to {MOST_REPEATS}, not {config.accept_repeats}: "
            f"with {config.rounds} rounds fewer can show nothing."
        )
    if not config.tasks and not config.held_out:
        raise UsageError("At least one task is needed; `selftaught tasks` lists them.")
    tasks = [Task.load(reference) for reference in config.tasks]
    held_out = [Task.load(reference) for reference in config.held_out]
    for some in (tasks, held_out):
        _check_distinct("A task", [task.name for task in some])
    for task in (*tasks, *held_out):
        _check_permitted(task, config)
    if config.command == "compare":
        _check_comparison(config)
    if config.audit.generations < 1:
        raise UsageError(f"--generations must be at least 1, not {config.audit.generations}.")
    check_held_out(tasks, held_out)


def _check_permitted(task: Task, config: RunConfig) -> None:
    """Refuse at the start what would end the run at its first score."""
    require_agreement(task, config.allow_network)
    if task.file.permissions.compiler:
        find_toolchain(task.file.permissions.compiler)
        if config.model.partition("-")[0] == "mutation":
            raise UsageError(
                f"Task {task.name!r} wants programs in {task.language}, and the mutation proposer "
                "edits Python only. Name a language model with --model."
            )


def _check_comparison(config: RunConfig) -> None:
    names = [name for name, _ in config.improvers]
    _check_distinct("An improver", names)
    if not config.held_out:
        raise UsageError("--tasks must name at least one task to compare on.")
    if len(names) < 2:
        raise UsageError("A comparison needs at least two improvers, references included.")
    if config.seeds < MIN_SEEDS:
        raise UsageError(f"--seeds must be at least {MIN_SEEDS}, not {config.seeds}.")
    if config.baseline is not None and config.baseline not in names:
        raise UsageError(f"--baseline {config.baseline!r} is not among: {', '.join(names)}.")


def _check_distinct(what: str, names: list[str]) -> None:
    if len(set(names)) < len(names):
        raise UsageError(f"{what} is named twice: {', '.join(names)}.")


def check_digests(config: RunConfig, run_id: str) -> None:
    """Raise SelftaughtError where a task is not what it was when its scores were recorded."""
    for reference in (*config.tasks, *config.held_out):
        task = Task.load(reference)
        if config.digests.get(task.name) not in (None, task.digest):
            raise SelftaughtError(
                f"Task {task.name!r} has changed since run {run_id} recorded scores of it. "
                "Restore its files, or start a new run."
            )


def config_of(store: Store, run_id: str) -> RunConfig:
    """The configuration that a run was started with.

    Raises:
        StoreError: no such run, or one written by another version of selftaught.
    """
    try:
        return msgspec.convert(store.run(run_id).config, RunConfig)
    except msgspec.ValidationError as error:
        raise StoreError(
            f"Run {run_id} was recorded by another version of selftaught: {error}."
        ) from error
