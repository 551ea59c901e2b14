"""What a recipe is: parts, which are ordinary runs, and how a report is made of them."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from selftaught.budget import Budget, RunLimits
from selftaught.errors import UsageError
from selftaught.language_model import ModelSettings
from selftaught.meta_utility import Measured
from selftaught.runs.config import RunConfig
from selftaught.runs.result import Run
from selftaught.statistics import Estimate, bca_mean
from selftaught.task import Task
from selftaught.utility import Scored, standard_error

LPN = "parity_noise"


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """How large an experiment is.

    Attributes:
        name: `small`, minutes with the mutation proposer on two cores, or `paper`.
        runs: of STOP, each with a seed of its own.
        small_model_runs: the same for `smaller_models`.
        rounds: T.
        budget: of one application of an improver, to a task or to itself.
        repeats: of a validation; `sealed_repeats` of a measurement on sealed instances.
        table_repeats: of the tables that compare frozen improvers; `table_budget` of one
            application there.
        generations: of an audit, for each condition.
    """

    name: str
    runs: int
    small_model_runs: int
    rounds: int
    budget: Budget
    repeats: int
    sealed_repeats: int
    table_repeats: int
    table_budget: Budget
    generations: int


SCALES = {
    "small": Scale(
        name="small",
        runs=3,
        small_model_runs=3,
        rounds=3,
        budget=Budget(calls=4, responses=4, utility_calls=17),
        repeats=1,
        sealed_repeats=3,
        table_repeats=3,
        table_budget=Budget(calls=2, responses=3, utility_calls=7),
        generations=100,
    ),
    "paper": Scale(
        name="paper",
        runs=5,
        small_model_runs=25,
        rounds=4,
        budget=Budget(calls=4, responses=6, utility_calls=25),
        repeats=5,
        sealed_repeats=5,
        table_repeats=10,
        table_budget=Budget(calls=4, responses=6, utility_calls=25),
        generations=10_000,
    ),
}


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What a person chooses about a recipe.

    Attributes:
        scale: how large.
        model: as after `--model`, or `custom:NAME`.
        models: of `smaller_models`; `model` alone where empty.
        base_url: of another server than the provider's own.
        model_settings: how the model is asked.
        seed: of the first run; the others follow by ones.
        limits: of each run.
        slots, allow_weak_sandbox: as in `RunConfig`.
    """

    scale: Scale
    model: str = "mutation"
    models: tuple[str, ...] = ()
    base_url: str | None = None
    model_settings: ModelSettings = ModelSettings()
    seed: int = 0
    limits: RunLimits = RunLimits()
    slots: int | None = None
    allow_weak_sandbox: bool = False

    def config(self, part: str, **settings: object) -> RunConfig:
        """The configuration of a part: what every part shares, and its own settings."""
        scale = self.scale
        shared: dict[str, object] = {
            "recipe": f"{part}, {scale.name}",
            "model": self.model,
            "base_url": self.base_url,
            "model_settings": self.model_settings,
            "seed": self.seed,
            "rounds": scale.rounds,
            "repeats": scale.repeats,
            "sealed_repeats": scale.sealed_repeats,
            "budget": scale.budget,
            "meta_budget": scale.budget,
            "limits": self.limits,
            "slots": self.slots,
            "allow_weak_sandbox": self.allow_weak_sandbox,
        }
        return RunConfig(**{**shared, **settings})  # type: ignore[arg-type]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a recipe.

    Attributes:
        name: by which the report finds it.
        config: what it is a function of.
        complete: fills in what earlier parts found, by their names.
    """

    name: str
    config: RunConfig
    complete: Callable[[RunConfig, Mapping[str, Run]], RunConfig] | None = None


class Sheet(msgspec.Struct, frozen=True, kw_only=True):
    """A table as it is shown: all cells are texts."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a recipe found.

    Attributes:
        sheets: ours beside the paper's.
        numbers: the same unrounded, as JSON-able data.
        remarks: sentences about this result.
    """

    sheets: tuple[Sheet, ...]
    numbers: dict[str, object] = {}
    remarks: tuple[str, ...] = ()


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """One of the paper's experiments.

    Attributes:
        name: as typed.
        place: where in the paper.
        summary: what is done, in a sentence or two.
        caveats: why figures here and there differ, beside the model.
        parts: the runs of a setting.
        report: of the runs, by the names of their parts.
    """

    name: str
    place: str
    summary: str
    caveats: tuple[str, ...]
    parts: Callable[[Setting], Sequence[Part]]
    report: Callable[[Setting, Mapping[str, Run]], Report]


def scale_of(name: str) -> Scale:
    """A scale by name.

    Raises:
        UsageError: there is none.
    """
    if name not in SCALES:
        raise UsageError(f"There is no scale {name!r}; there are: {', '.join(SCALES)}.")
    return SCALES[name]


def raw_values(measured: Measured, task: Task) -> list[float]:
    """The utility of every item on a task as the task counts, not normalised; failures as worst."""
    return [
        item.outcome.value if isinstance(item.outcome, Scored) else task.worst
        for item in measured.items
        if item.task == task.name
    ]


def error_free_values(measured: Measured, task: Task) -> list[float]:
    """The same without failures."""
    return [
        item.outcome.value
        for item in measured.items
        if item.task == task.name and isinstance(item.outcome, Scored)
    ]


def mean_and_error(values: Sequence[float], unit: str = " %") -> str:
    """A mean of shares as `57.7 ± 3.0 %`; a dash for none."""
    if not values:
        return "-"
    mean = sum(values) / len(values)
    return f"{100 * mean:.1f} ± {100 * standard_error(list(values)):.1f}{unit}"


def interval(values: Sequence[float], *, signed: bool = False) -> str:
    """A 95 % interval of a mean of shares; a dash for fewer than two."""
    if len(values) < 2:
        return "-"
    found = bca_mean(values)
    sign = "+" if signed else ""
    return f"({100 * found.low:{sign}.1f}, {100 * found.high:{sign}.1f})"


def as_numbers(values: Sequence[float]) -> dict[str, object]:
    """Values with their mean, standard error and interval, as data."""
    if not values:
        return {"values": []}
    found: Estimate = bca_mean(values)
    return {
        "values": list(values),
        "mean": found.value,
        "standard_error": standard_error(list(values)),
        "low": found.low,
        "high": found.high,
    }
