"""What a run may take, before it is started: calls, tokens, money; low, expected, high.

How often improvers are applied follows from the configuration. How much one application asks for
is measured on recorded runs of the same model where there are any, and else assumed; `basis` says
which, in sentences.
"""

from collections.abc import Mapping

import msgspec

from selftaught.improver import ENTRY_POINT, improver_names, load_improver
from selftaught.language_model import Usage
from selftaught.models.mix import parse_mix
from selftaught.models.tariff import DEFAULT_OUTPUT_TOKENS, limited, tariff_of
from selftaught.runs.config import RunConfig, is_mutation
from selftaught.runs.habits import Habits, measured_habits
from selftaught.solution import Solution
from selftaught.store.event_store import Store
from selftaught.transfer import REFERENCES

# A prompt of the seed improver holds a program of 50 lines and its task; an answer is a paragraph
# and such a program.
PROMPT_TOKENS = 1_500
RESPONSE_TOKENS = 800
# Improvers may show several programs at once.
LONG_PROMPT = 4


class Amount(msgspec.Struct, frozen=True, kw_only=True):
    """What a run takes. `dollars` is None where a price is not known."""

    calls: int
    responses: int
    prompt_tokens: int
    completion_tokens: int
    dollars: float | None


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What a run may take.

    Attributes:
        low: every improver makes one call, as the seed improver does, and no round brings
            another improver.
        expected: as recorded runs did, or as assumed.
        high: all budgets are used, every answer is as long as it may be.
        unpriced: the models whose price is not known.
        basis: what the numbers rest on, in sentences.
    """

    low: Amount
    expected: Amount
    high: Amount
    unpriced: tuple[str, ...]
    basis: tuple[str, ...]


class _Range(msgspec.Struct, frozen=True):
    """A number at its lowest, expected and highest."""

    low: float
    expected: float
    high: float

    def __add__(self, other: "_Range") -> "_Range":
        return _Range(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def __mul__(self, other: "_Range | float") -> "_Range":
        by = other if isinstance(other, _Range) else _Range(other, other, other)
        return _Range(self.low * by.low, self.expected * by.expected, self.high * by.high)


_NONE = _Range(0, 0, 0)


def estimate(config: RunConfig, store: Store | None, environment: Mapping[str, str]) -> Estimate:
    """Estimate what a run of a configuration would take; nothing is asked.

    Args:
        config: as it would be started.
        store: where recorded runs of the same model are looked for; None for none.
        environment: where the address of an endpoint may stand, usually `os.environ`.

    Raises:
        UsageError: the model's name or price cannot be meant.
    """
    settings = limited(config.model_settings, config.limits)
    tariff = tariff_of(
        config.model, base_url=config.base_url, environment=environment, settings=settings
    )
    asks_nobody = is_mutation(config)
    habits = _assumed(config)
    if store is not None:
        habits = measured_habits(store, config.model, habits)
    calls = _calls(config, habits)
    responses = calls * _Range(
        config.budget.responses, habits.responses_per_call, config.budget.responses
    )
    cap = settings.max_output_tokens or DEFAULT_OUTPUT_TOKENS
    prompt, answer = _NONE, _NONE
    if not asks_nobody:
        length = habits.prompt_tokens_per_call
        prompt = calls * _Range(length, length, LONG_PROMPT * length * config.budget.responses)
        size = habits.tokens_per_response
        answer = responses * _Range(min(size, cap), min(size, cap), cap)
    weights = dict.fromkeys(tariff.prices, 1.0)
    weights |= {part.name: part.weight for part in parse_mix(config.model)}

    def amount(which: str) -> Amount:
        n, prompts, answers = (getattr(one, which) for one in (calls, prompt, answer))
        usage = Usage(prompt_tokens=round(prompts), completion_tokens=round(answers))
        # The prompt is sent for each response in the worst case, and one decides about the tier.
        sent = n if which != "high" else n * config.budget.responses
        costs = {
            name: price.dollars(usage, max(1, round(sent)))
            for name, price in tariff.prices.items()
            if price is not None
        }
        dollars: float | None = None
        if not tariff.unknown:
            dollars = {
                "low": min(costs.values()),
                "high": max(costs.values()),
                "expected": sum(weights[name] * cost for name, cost in costs.items())
                / sum(weights.values()),
            }[which]
        return _within(
            config,
            Amount(
                calls=round(n),
                responses=round(getattr(responses, which)),
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
                dollars=dollars,
            ),
        )

    return Estimate(
        low=amount("low"),
        expected=amount("expected"),
        high=amount("high"),
        unpriced=tuple(tariff.unknown),
        basis=tuple(_basis(config, habits, asks_nobody, settings.max_output_tokens)),
    )


def _calls(config: RunConfig, habits: Habits) -> _Range:
    """Calls of all applications of improvers."""
    tasks, held_out = len(config.tasks), len(config.held_out)
    shipped = {load_improver(name).hash: name for name in improver_names()}
    limit = config.budget.calls
    evolved = _Range(1, habits.calls_per_application, limit)

    def of(source: str) -> _Range:
        name = shipped.get(Solution(source, ENTRY_POINT).hash)
        if name is None:
            return evolved
        return {"identity": _NONE, "seed": _Range(1, 1, 1)}.get(name, _Range(1, limit, limit))

    named = sum((of(source) for _, source in config.improvers), _NONE)
    references = sum((of(load_improver(name).source) for name in REFERENCES), _NONE)
    if config.command == "improve":
        return named
    if config.command == "compare":
        return named * float(held_out * config.sealed_repeats * config.seeds)
    if config.command == "transfer":
        return (named + references) * float(held_out * config.sealed_repeats)
    validation, sealed = tasks * config.repeats, tasks * config.sealed_repeats
    transfer = held_out * config.sealed_repeats
    # Each round: the improver on itself, the candidates that it scores, and the one it returns.
    most = config.meta_budget.utility_calls + 1
    of_a_round = (
        _Range(1, min(habits.calls_per_round, config.meta_budget.calls), config.meta_budget.calls)
        + evolved * _Range(0, min(habits.candidates_per_round, most), most) * float(validation)
        + evolved * _Range(0, 1, 1) * float(sealed)
    )
    # A final improver that is the seed improver is not measured twice.
    at_the_end = named * float(transfer) + evolved * _Range(0, 1, 1) * float(transfer)
    return (
        named * float(validation + sealed)
        + of_a_round * float(config.rounds)
        + at_the_end
        + references * float(sealed + transfer)
    )


def _assumed(config: RunConfig) -> Habits:
    return Habits(
        runs=0,
        calls_per_application=(1 + config.budget.calls) / 2,
        calls_per_round=(1 + config.meta_budget.calls) / 2,
        candidates_per_round=(1 + config.meta_budget.utility_calls) / 2,
        responses_per_call=config.budget.responses,
        prompt_tokens_per_call=PROMPT_TOKENS,
        tokens_per_response=RESPONSE_TOKENS,
    )


def _within(config: RunConfig, amount: Amount) -> Amount:
    """An amount, less what the limits of the run do not allow; calls are left as they are."""
    tokens, dollars = amount.prompt_tokens + amount.completion_tokens, amount.dollars
    limits = config.limits
    share = 1.0
    if limits.tokens is not None and tokens > limits.tokens:
        share = limits.tokens / tokens
    if limits.dollars is not None and dollars is not None and dollars > limits.dollars:
        share = min(share, limits.dollars / dollars)
    if share == 1.0:
        return amount
    return Amount(
        calls=round(amount.calls * share),
        responses=round(amount.responses * share),
        prompt_tokens=int(amount.prompt_tokens * share),
        completion_tokens=int(amount.completion_tokens * share),
        dollars=None if dollars is None else dollars * share,
    )


def _basis(
    config: RunConfig,
    habits: Habits,
    asks_nobody: bool,
    max_output_tokens: int | None,
) -> list[str]:
    told = [
        f"{habits.calls_per_application:.1f} calls an application",
        f"{habits.responses_per_call:.1f} responses a call",
    ]
    if config.command == "run":
        told.append(f"{habits.candidates_per_round:.1f} improvers measured a round")
    if not asks_nobody:
        told.append(f"{habits.prompt_tokens_per_call:,.0f} tokens a prompt")
        told.append(f"{habits.tokens_per_response:,.0f} tokens a response")
    where = (
        f"Expected, as in recorded runs ({habits.runs}) of {config.model}"
        if habits.runs
        else f"Expected, assumed since no run of {config.model} is recorded"
    )
    lines = [f"{where}: {', '.join(told)}."]
    if not asks_nobody:
        cap = max_output_tokens or DEFAULT_OUTPUT_TOKENS
        kind = "the limit" if max_output_tokens else "assumed, since no limit is set"
        lines.append(
            f"High: all budgets used, prompts {LONG_PROMPT} times as long and sent for each "
            f"response, {cap:,} tokens a response ({kind})."
        )
    return lines
