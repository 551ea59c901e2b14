"""The options that several commands share, and how they become typed parts."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import msgspec
import typer

from selftaught.budget import Budget, RunLimits
from selftaught.cli import money
from selftaught.language_model import ModelSettings
from selftaught.pools.opening import LOCAL
from selftaught.runs.config import RunConfig
from selftaught.runs.launch import DEFAULT_STORE

Store = Annotated[
    str,
    typer.Option(
        "--store", metavar="FILE|URL", help="Where runs are kept: a file, or postgresql://…."
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout, progress on stderr.")
]
Seed = Annotated[int, typer.Option("--seed", help="All luck of a run follows from it.")]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="NAME",
        help="What proposes programs: mutation, mutation-first-order, openai/NAME, "
        "anthropic/NAME, google/NAME, local/PATH.gguf, replay/RUN, or a mix of these.",
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option("--base-url", metavar="URL", help="Another server than the provider's own."),
]
MaxOutputTokens = Annotated[
    int | None,
    typer.Option("--max-output-tokens", help="Of one response, reasoning included."),
]
ReasoningEffort = Annotated[
    str | None,
    typer.Option(
        "--reasoning-effort", metavar="WORD", help="As the provider spells it, such as `low`."
    ),
]
Concurrency = Annotated[
    int | None, typer.Option("--concurrency", help="Requests under way at once; 8 by default.")
]
RequestsPerMinute = Annotated[
    int | None, typer.Option("--requests-per-minute", help="What the endpoint allows.")
]
TokensPerMinute = Annotated[
    int | None, typer.Option("--tokens-per-minute", help="What the endpoint allows.")
]
RequestTimeout = Annotated[
    float | None,
    typer.Option("--request-timeout", metavar="S", help="Seconds for one request; 120 by default."),
]
Patience = Annotated[
    float | None,
    typer.Option(
        "--patience", metavar="S", help="Seconds to wait for a model that is down; 1800 by default."
    ),
]
Cache = Annotated[
    bool,
    typer.Option("--cache", help="Use the answers of other runs in the store again."),
]
Calls = Annotated[
    int, typer.Option("--calls", help="Language model calls of one application of an improver.")
]
Responses = Annotated[int, typer.Option("--responses", help="Responses that one call may ask for.")]
UtilityCalls = Annotated[
    int | None,
    typer.Option(
        "--utility-calls",
        help="Scores of one application; calls x responses + 1 where left out.",
    ),
]
Tokens = Annotated[int | None, typer.Option("--tokens", help="Tokens that the whole run may use.")]
Dollars = Annotated[
    float | None, typer.Option("--dollars", help="Money that the whole run may spend.")
]
Wall = Annotated[float | None, typer.Option("--wall", help="Seconds that the whole run may take.")]
Repeats = Annotated[
    int,
    typer.Option("--repeats", help="How often each task is met, with other instances and luck."),
]
SealedRepeats = Annotated[
    int,
    typer.Option("--sealed-repeats", help="The same, on sealed test instances."),
]
Slots = Annotated[
    int | None,
    typer.Option(
        "--slots", help="Jobs that compute at once, per machine; one per core if left out."
    ),
]
Pool = Annotated[
    str,
    typer.Option(
        "--pool",
        metavar="local|URL",
        help="Where programs run: this machine, ray://HOST:PORT, or slurm://PARTITION?nodes=N.",
    ),
]
OpenCluster = Annotated[
    bool,
    typer.Option(
        "--allow-open-cluster",
        help="Use a Ray cluster that lets anybody in, at your risk.",
    ),
]
Speculate = Annotated[
    bool,
    typer.Option(
        "--speculate/--no-speculate",
        help="Score the programs in an answer before they are asked for; changes no result.",
    ),
]
Weak = Annotated[
    bool,
    typer.Option(
        "--allow-weak-sandbox",
        help="Go on, at your risk, where `doctor` finds isolation layers missing.",
    ),
]
Network = Annotated[
    bool,
    typer.Option(
        "--allow-network",
        help="Let candidates reach the network, if their task's permissions ask for it.",
    ),
]

STORE = DEFAULT_STORE


class OptionGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Base of options that several commands share: each field is one option.

    A command that has a parameter of such a type gets the options, and one object of them.
    """


class Pacing(OptionGroup, frozen=True, kw_only=True):
    """How fast a model is asked, which does not change what it answers; None where not given."""

    concurrency: Concurrency = None
    requests_per_minute: RequestsPerMinute = None
    tokens_per_minute: TokensPerMinute = None
    request_timeout: RequestTimeout = None
    patience: Patience = None

    @property
    def changes(self) -> dict[str, int | float]:
        """What was given, by the names of fields of `ModelSettings`."""
        named = {
            "concurrency": self.concurrency,
            "requests_per_minute": self.requests_per_minute,
            "tokens_per_minute": self.tokens_per_minute,
            "timeout_s": self.request_timeout,
            "patience_s": self.patience,
        }
        return {name: value for name, value in named.items() if value is not None}


class ModelOptions(Pacing, frozen=True, kw_only=True):
    """What every command that starts runs takes, however large these are."""

    model: Model = "mutation"
    base_url: BaseUrl = None
    cache: Cache = False
    price: money.Price = None
    warn_above: money.WarnAbove = money.WARN_ABOVE
    max_output_tokens: MaxOutputTokens = None
    reasoning_effort: ReasoningEffort = None
    tokens: Tokens = None
    dollars: Dollars = None
    wall: Wall = None
    pool: Pool = LOCAL
    slots: Slots = None
    speculate: Speculate = True
    weak: Weak = False
    network: Network = False
    open_cluster: OpenCluster = False
    store: Store = STORE
    json: Json = False
    seed: Seed = 0

    @property
    def settings(self) -> ModelSettings:
        """How the model is asked."""
        settings = ModelSettings(
            max_output_tokens=self.max_output_tokens, reasoning_effort=self.reasoning_effort
        )
        return money.with_price(msgspec.structs.replace(settings, **self.changes), self.price)

    @property
    def limits(self) -> RunLimits:
        """The limits of the whole run."""
        return RunLimits(tokens=self.tokens, dollars=self.dollars, wall_s=self.wall)

    def applied(self, config: RunConfig) -> RunConfig:
        """Return a configuration with these options in it."""
        return msgspec.structs.replace(
            config,
            seed=self.seed,
            model=self.model,
            base_url=self.base_url,
            cache=self.cache,
            model_settings=self.settings,
            limits=self.limits,
            pool=self.pool,
            slots=self.slots,
            speculate=self.speculate,
            allow_weak_sandbox=self.weak,
            allow_network=self.network,
            allow_open_cluster=self.open_cluster,
        )


class RunOptions(ModelOptions, frozen=True, kw_only=True):
    """The same, with the budget of one application of an improver."""

    calls: Calls = 4
    responses: Responses = 6
    utility_calls: UtilityCalls = None

    @property
    def budget(self) -> Budget:
        """The budget of one application of an improver."""
        return budget(self.calls, self.responses, self.utility_calls)

    def applied(self, config: RunConfig) -> RunConfig:
        """Return a configuration with these options in it."""
        return msgspec.structs.replace(super().applied(config), budget=self.budget)


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command whose option groups are spread into options, for Typer to read."""
    signature = inspect.signature(command)
    groups: dict[str, type[OptionGroup]] = {}
    parameters = []
    for parameter in signature.parameters.values():
        kind = parameter.annotation
        if isinstance(kind, type) and issubclass(kind, OptionGroup):
            groups[parameter.name] = kind
            parameters += _parameters(kind)
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def called(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field: given.pop(field) for field in group.__struct_fields__})
        command(**given)

    called.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called


def _parameters(group: type[OptionGroup]) -> list[inspect.Parameter]:
    types = get_type_hints(group, include_extras=True)
    own = inspect.get_annotations(group)
    # What a group inherits comes last in the help.
    fields = sorted(msgspec.structs.fields(group), key=lambda field: field.name not in own)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=types[field.name],
        )
        for field in fields
    ]


def budget(calls: int, responses: int, utility_calls: int | None) -> Budget:
    """The budget of one application; utility calls cover every response by default."""
    if utility_calls is None:
        utility_calls = max(1, calls * responses + 1)
    return Budget(calls=calls, responses=responses, utility_calls=utility_calls)


def names(text: str) -> tuple[str, ...]:
    """A comma-separated list; `none` or nothing is the empty one."""
    if text.strip().lower() in ("", "none"):
        return ()
    return tuple(part.strip() for part in text.split(",") if part.strip())
