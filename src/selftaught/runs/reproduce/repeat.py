"""Running a recipe: parts that a store holds are gone on with, the others are started."""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from selftaught.audit.study import PER_REQUEST
from selftaught.budget import Budget, RunLimits
from selftaught.errors import RunBudgetSpent
from selftaught.language_model import LanguageModel
from selftaught.runs.config import RunConfig
from selftaught.runs.launch import DEFAULT_STORE, resume, start, with_tasks
from selftaught.runs.recall import recall
from selftaught.runs.reproduce.recipe import Part, Recipe, Report, Setting
from selftaught.runs.result import Run, Watch
from selftaught.store.event_store import RunRow
from selftaught.store.opening import open_store
from selftaught.transfer import REFERENCES


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """The most that something may spend on the model, and the most programs it may score."""

    calls: int = 0
    responses: int = 0
    scores: int = 0

    def __add__(self, other: "Bound") -> "Bound":
        """Both together."""
        return Bound(
            calls=self.calls + other.calls,
            responses=self.responses + other.responses,
            scores=self.scores + other.scores,
        )

    def times(self, n: int) -> "Bound":
        """This, n times."""
        return Bound(calls=n * self.calls, responses=n * self.responses, scores=n * self.scores)


class Reproduction(msgspec.Struct, frozen=True, kw_only=True):
    """A recipe that was run: its report, and the ids of its runs by part."""

    recipe: Recipe
    report: Report
    runs: dict[str, str]


def reproduce(
    recipe: Recipe,
    setting: Setting,
    store: str = DEFAULT_STORE,
    *,
    command_line: str = "",
    watch: Watch | None = None,
    stop: threading.Event | None = None,
    environment: Mapping[str, str] | None = None,
    model: LanguageModel | None = None,
) -> Reproduction:
    """Run a recipe's parts one after another and report on them.

    A part of the same configuration that the store holds is gone on with, or, where it is done,
    read back. Limits and slots may differ.

    Args:
        recipe: from the catalogue.
        setting: scale, model, seed.
        store, command_line, watch, stop, environment: as for `start`.
        model: used in place of the setting's, whose name should be `custom:` and its name.

    Raises:
        RunBudgetSpent: a limit ended a part early; with a higher one the same command goes on.
    """
    runs: dict[str, Run] = {}
    for part in recipe.parts(setting):
        config = part.complete(part.config, runs) if part.complete else part.config
        recorded = recorded_run(config, store)
        if recorded is not None and recorded.status == "done":
            with open_store(store, writable=False) as opened:
                run = recall(opened, recorded.id)
        elif recorded is None:
            run = start(
                config,
                store,
                command_line=command_line,
                watch=watch,
                stop=stop,
                environment=environment,
                model=model,
            )
        else:
            run = resume(
                recorded.id,
                store,
                watch=watch,
                stop=stop,
                environment=environment,
                model=model,
                limits=config.limits,
            )
        if run.status != "done":
            raise RunBudgetSpent(
                f"{run.reason} Run {run.id} ({part.name} of {recipe.name}) is not complete; the "
                "same command with a higher limit goes on."
            )
        runs[part.name] = run
    return Reproduction(
        recipe=recipe,
        report=recipe.report(setting, runs),
        runs={name: run.id for name, run in runs.items()},
    )


def recorded_run(config: RunConfig, store: str) -> RunRow | None:
    """The newest run of a store that is a function of the same configuration, or None."""
    if "://" not in store and not Path(store).is_file():
        return None
    wanted = _comparable(with_tasks(config))
    with open_store(store, writable=False) as opened:
        rows = opened.runs()
    for row in reversed(rows):
        # Most runs of a store are of no recipe, or written by an older version.
        if row.config.get("recipe") != config.recipe:
            continue
        try:
            found = msgspec.convert(row.config, RunConfig)
        except msgspec.ValidationError:
            continue
        if _comparable(found) == wanted:
            return row
    return None


def _comparable(config: RunConfig) -> RunConfig:
    """The configuration without what does not change results."""
    return msgspec.structs.replace(config, limits=RunLimits(), slots=None, allow_weak_sandbox=False)


def bound(parts: Sequence[Part]) -> Bound:
    """The most that all parts together may spend."""
    total = Bound()
    for part in parts:
        total += _BOUNDS[part.config.command](part.config)
    return total


def _application(budget: Budget) -> Bound:
    # Beside the scores paid for: the initial program's on both blocks, and the returned one's.
    return Bound(
        calls=budget.calls,
        responses=budget.calls * budget.responses,
        scores=budget.utility_calls + 3,
    )


def _of_run(config: RunConfig) -> Bound:
    candidates = 1 + config.rounds * config.meta_budget.utility_calls
    sealed = 1 + config.rounds + len(REFERENCES)
    applications = config.repeats * candidates + config.sealed_repeats * sealed
    own = Bound(
        calls=config.meta_budget.calls,
        responses=config.meta_budget.calls * config.meta_budget.responses,
    )
    on_tasks = _application(config.budget).times(len(config.tasks) * applications)
    return on_tasks + own.times(config.rounds)


def _of_transfer(config: RunConfig) -> Bound:
    # One more than named: the improver that an earlier part finds.
    improvers = len(config.improvers) + 1 + len(REFERENCES)
    places = len(config.held_out) * config.sealed_repeats
    return _application(config.budget).times(improvers * places)


def _of_audit(config: RunConfig) -> Bound:
    conditions = len(config.audit.conditions)
    n = config.audit.generations
    return Bound(
        calls=conditions * math.ceil(n / PER_REQUEST),
        responses=conditions * n,
        scores=conditions * n * (config.budget.utility_calls + 1) if config.audit.dynamic else 0,
    )


_BOUNDS: dict[str, Callable[[RunConfig], Bound]] = {
    "run": _of_run,
    "transfer": _of_transfer,
    "audit": _of_audit,
}
