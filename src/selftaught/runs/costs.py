"""What a recorded run cost: by call, model, phase, improver and round.

Sums come from the running totals of the store, calls from the events. The view `v_costs` gives the
same in SQL (docs/reference/store.md).
"""

import functools
from collections.abc import Hashable, Iterable
from operator import add, attrgetter
from typing import TypeVar

import msgspec

from selftaught.events import Answered, RoundEnded, Unanswered
from selftaught.improver import ENTRY_POINT, improver_names, load_improver
from selftaught.runs.config import RunConfig, config_of
from selftaught.solution import Solution
from selftaught.store import queries
from selftaught.store.event_store import Store

ROUND = "round"
AFTERWARDS = "after the last round"


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call to the model, and what it was for.

    Attributes:
        job: the improve job that asked.
        phase: `round` for an improver at work on itself, else the measurement or `improve`.
        improver: the hash of the improver that asked; empty where that is not recorded.
        round: in which it was asked; None after the last one, and in a run without rounds.
        model: who answered; empty where nobody did.
        answered: False for a call without an answer; it may be billed all the same.
        dollars: None where the price is not known.
        lost_tokens, lost_dollars: what failed requests for it may have cost at most.
    """

    job: str
    phase: str
    improver: str
    round: int | None
    model: str = ""
    answered: bool = True
    responses: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    dollars: float | None = None
    lost_tokens: int = 0
    lost_dollars: float = 0.0
    seconds: float = 0.0


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """The sum of some calls.

    Attributes:
        name: what they have in common.
        cached_tokens: part of `prompt_tokens`; `reasoning_tokens` are part of
            `completion_tokens`.
        dollars: of the calls whose price is known; `unpriced_calls` are the others.
        lost_tokens, lost_dollars: what failed requests may have cost at most, in no other number.
    """

    name: str
    calls: int
    responses: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    dollars: float
    unpriced_calls: int
    lost_tokens: int
    lost_dollars: float
    seconds: float


_SUMMED = tuple(name for name in Cost.__struct_fields__ if name != "name")
_amounts = attrgetter(*_SUMMED)
_Amounts = tuple[float, ...]
_NOTHING: _Amounts = (0,) * len(_SUMMED)
_Key = TypeVar("_Key", bound=Hashable)


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """What a run cost, summed up in several ways, and every call."""

    run: str
    total: Cost
    by_model: tuple[Cost, ...]
    by_phase: tuple[Cost, ...]
    by_improver: tuple[Cost, ...]
    by_round: tuple[Cost, ...]
    calls: tuple[Call, ...]


def read_costs(store: Store, run_id: str, *, with_calls: bool = True) -> Costs:
    """Read what a run cost, by id, unique beginning of an id, or `latest`.

    Args:
        store: where the run is.
        run_id: as typed.
        with_calls: list every call; without, it takes no longer for a longer run.

    Raises:
        StoreError: no such run.
    """
    run_id = store.resolve(run_id)
    config = config_of(store, run_id)
    ended = queries.rounds(store, run_id)
    in_force = {one.round: one.improver for one in ended}
    spent = queries.spending(store, run_id)
    names = _names(config)

    def round_of(rounds_ended: int) -> str:
        if rounds_ended < len(ended):
            return f"round {ended[rounds_ended].round}"
        return AFTERWARDS

    def improver_of(one: queries.Spending) -> str:
        hash_ = one.subject
        if one.phase == ROUND:
            hash_ = in_force.get(int(one.subject) - 1, "")
        return f"{hash_[:8]} {names.get(hash_, '')}".strip() or "unknown"

    # Thousands of improvers, and few of everything else: these are summed over what is summed.
    by_part = _sums(((one.rounds_ended, one.phase, one.model), _amounts(one)) for one in spent)
    by_improver = _sums((improver_of(one), _amounts(one)) for one in spent)
    parts = by_part.items()
    return Costs(
        run=run_id,
        total=_cost("all", _sums((None, sums) for _, sums in parts).get(None, _NOTHING)),
        by_model=_costs((model, sums) for (_, _, model), sums in parts if model),
        by_phase=_costs((phase, sums) for (_, phase, _), sums in parts),
        by_improver=_costs(by_improver.items()),
        by_round=_costs((round_of(after), sums) for (after, _, _), sums in parts)
        if config.command == "run"
        else (),
        calls=tuple(_calls(store, run_id)) if with_calls else (),
    )


def _sums(amounts: Iterable[tuple[_Key, _Amounts]]) -> dict[_Key, _Amounts]:
    """What belongs to each key, summed up, in the order of the first."""
    sums: dict[_Key, _Amounts] = {}
    for key, more in amounts:
        before = sums.get(key)
        sums[key] = more if before is None else tuple(map(add, before, more))
    return sums


def _costs(amounts: Iterable[tuple[str, _Amounts]]) -> tuple[Cost, ...]:
    return tuple(_cost(name, sums) for name, sums in _sums(amounts).items())


def _cost(name: str, amounts: _Amounts) -> Cost:
    return msgspec.convert(dict(zip(_SUMMED, amounts, strict=True)) | {"name": name}, Cost)


def _calls(store: Store, run_id: str) -> list[Call]:
    """Every call of a run in order; a round ends before its `round_ended` is recorded."""
    ended: dict[int, RoundEnded] = {}
    waiting: list[Answered | Unanswered] = []
    calls: list[Call] = []
    kinds = ("answered", "unanswered", "round_ended")
    for _, _, event in store.events(run_id, kinds):
        match event:
            case Answered() | Unanswered():
                waiting.append(event)
            case RoundEnded() if event.round not in ended:
                calls += [_call(one, event.round, ended) for one in waiting]
                waiting.clear()
                ended[event.round] = event
            case _:
                pass
    return calls + [_call(one, None, ended) for one in waiting]


def _call(event: Answered | Unanswered, round_: int | None, ended: dict[int, RoundEnded]) -> Call:
    phase, _, rest = event.job.partition("/")
    improver = rest.partition("/")[0]
    if phase == ROUND:
        before = ended.get(int(improver) - 1)
        improver = before.improver if before else ""
    if isinstance(event, Unanswered):
        return Call(
            job=event.job,
            phase=phase,
            improver=improver,
            round=round_,
            answered=False,
            lost_tokens=event.lost_tokens,
            lost_dollars=event.lost_dollars,
        )
    return Call(
        job=event.job,
        phase=phase,
        improver=improver,
        round=round_,
        model=event.model,
        responses=len(event.texts),
        prompt_tokens=event.prompt_tokens,
        cached_tokens=event.cached_tokens,
        completion_tokens=event.completion_tokens,
        reasoning_tokens=event.reasoning_tokens,
        dollars=event.dollars,
        lost_tokens=event.lost_tokens,
        lost_dollars=event.lost_dollars,
        seconds=event.seconds,
    )


def _names(config: RunConfig) -> dict[str, str]:
    """What the improvers of a run are called, by hash; those it made itself have no names."""
    given = {Solution(source, ENTRY_POINT).hash: name for name, source in config.improvers}
    return _shipped() | given


@functools.cache
def _shipped() -> dict[str, str]:
    return {load_improver(name).hash: name for name in improver_names()}
