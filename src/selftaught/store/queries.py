"""What is asked of a store: lists, counts, curves, pages. None takes longer in a longer run.

Counts come from the running totals, rare events through their index, pages by a place to go on
from. Every function only reads; any thread may call it. Errors: StoreError, as of `Store`.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from selftaught.events import (
    Answered,
    AnyEvent,
    Asked,
    Attempted,
    Improved,
    MetaEvaluated,
    Requested,
    RoundEnded,
    Unanswered,
    exchange_key,
)
from selftaught.store import totals
from selftaught.store.event_store import RunRow, Store

PAGE = 50
NO_FAILURE = ("scored", "returned", "unchanged")
_SCORED_KINDS = ("evaluated", "improved", "meta_evaluated")


class Total(msgspec.Struct, frozen=True, kw_only=True):
    """The events of one kind and label of a run: a row of `totals`.

    Attributes:
        label: of `answered` the source; of scores and jobs the outcome, or `unchanged`; of
            `attempted` what, of `budget_refused` which limit, of `audited` each kind found.
        times: of `budget_refused` and `audited`: how often, over these events.
        dollars: of the calls whose price is known; `unpriced_calls` are the others.
    """

    kind: str
    label: str
    events: int
    times: int = 0
    responses: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    unpriced_calls: int = 0
    lost_tokens: int = 0
    dollars: float = 0.0
    lost_dollars: float = 0.0
    seconds: float = 0.0


class Spending(msgspec.Struct, frozen=True, kw_only=True):
    """Calls to one model for one part of a run: a row of `spending`.

    Attributes:
        rounds_ended: how many rounds had ended before them.
        phase: `round`, the name of a measurement, `improve`, ...
        subject: the hash of the improver that asked; of a `round` its number.
        model: empty for calls without an answer.
        first_seq: the number of the first event.
        calls: those that were answered.
    """

    rounds_ended: int
    phase: str
    subject: str
    model: str
    first_seq: int
    calls: int
    responses: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    unpriced_calls: int
    lost_tokens: int
    dollars: float
    lost_dollars: float
    seconds: float


class Application(msgspec.Struct, frozen=True, kw_only=True):
    """Improve jobs of one phase that ended after so many rounds: a row of `applications`."""

    rounds_ended: int
    phase: str
    jobs: int
    calls: int
    responses: int
    utility_calls: int
    seconds: float


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A program and its scores on the blocks of one split.

    Attributes:
        solution: the hash of its text, for `Store.text`.
        blocks: scores that were recorded of it; `scored` of them did not fail.
        mean: of those; None where all failed.
    """

    solution: str
    blocks: int
    scored: int
    mean: float | None


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A run in a list of runs: its row, and counts.

    Attributes:
        calls, tokens, dollars: of live calls that were answered.
        scores: programs scored; `failures` of them failed as a whole.
    """

    row: RunRow
    calls: int = 0
    tokens: int = 0
    dollars: float = 0.0
    scores: int = 0
    failures: int = 0
    attempts: int = 0


# Made for its effect: a type that two threads are the first to need crashes msgspec.
msgspec.json.Decoder(RunSummary)


def run_list(store: Store) -> list[RunSummary]:
    """All runs with their status and counts, the oldest first."""
    query = (
        "SELECT run, kind, label, events, prompt_tokens + completion_tokens, dollars FROM totals "
        "WHERE kind IN ('answered', 'evaluated', 'attempted')"
    )
    counts: dict[str, dict[str, float]] = {}
    for run, kind, label, events, tokens, dollars in store.select(query):
        count = counts.setdefault(run, {})
        if kind == "answered" and label == "live":
            count.update(calls=events, tokens=tokens, dollars=dollars)
        elif kind == "evaluated":
            count["scores"] = count.get("scores", 0) + events
            count["failures"] = count.get("failures", 0) + (label != "scored") * events
        elif kind == "attempted":
            count["attempts"] = count.get("attempts", 0) + events
    return [
        msgspec.convert({"row": row, **counts.get(row.id, {})}, RunSummary) for row in store.runs()
    ]


def totals_of(store: Store, run: str) -> list[Total]:
    """How many events of each kind and label a run has, and what they add up to."""
    return [Total(**row) for row in _rows(store, totals.TOTALS, run)]


def spending(store: Store, run: str) -> list[Spending]:
    """What the calls of a run cost by round, phase, improver and model, in order of the first."""
    found = [Spending(**row) for row in _rows(store, totals.SPENDING, run)]
    return sorted(found, key=lambda one: one.first_seq)


def applications(store: Store, run: str) -> list[Application]:
    """How many improve jobs ended in each round and phase, and what they spent."""
    return [Application(**row) for row in _rows(store, totals.APPLICATIONS, run)]


def failures_by_kind(store: Store, run: str) -> list[tuple[str, str, int]]:
    """Programs that failed as a whole: during what, with which outcome, how many; most first."""
    found = [
        (one.kind, one.label, one.events)
        for one in totals_of(store, run)
        if one.kind in _SCORED_KINDS and one.label not in NO_FAILURE
    ]
    return sorted(found, key=lambda one: (-one[2], one[1], one[0]))


def rounds(store: Store, run: str) -> list[RoundEnded]:
    """The rounds of a run, each as it ended first, in the order of their ends."""
    ended: dict[int, RoundEnded] = {}
    for _, _, event in store.events(run, ("round_ended",)):
        if isinstance(event, RoundEnded):
            ended.setdefault(event.round, event)
    return list(ended.values())


def meta_utility(store: Store, run: str, improver: str, split: str) -> MetaEvaluated | None:
    """The meta-utility of an improver, by hash, on a measurement such as `validation`."""
    event = store.find(run, "meta_evaluated", f"{split}|{improver}")
    return event if isinstance(event, MetaEvaluated) else None


def improvements(store: Store, run: str, phase: str) -> list[Improved]:
    """How the improve jobs of a phase ended, such as `improve`, in order."""
    found = store.keyed(run, "improved", f"{phase}/")
    return [event for _, event in found if isinstance(event, Improved)]


def jobs_of(
    store: Store, run: str, improver: str, rounds_begun: Iterable[int], limit: int
) -> list[Improved]:
    """The first improve jobs of an improver, on tasks and on itself, in order.

    Args:
        store: where the run is.
        run: its id.
        improver: its hash.
        rounds_begun: the rounds that it was in force in.
        limit: no more than so many.
    """
    found: list[tuple[int, AnyEvent]] = []
    phases = store.select("SELECT DISTINCT phase FROM applications WHERE run = ?", (run,))
    for (phase,) in phases:
        if phase != "round":
            found += store.keyed(run, "improved", f"{phase}/{improver}/", limit)
    for number in rounds_begun:
        found += [
            (seq, event)
            for seq, event in store.keyed(run, "improved", f"round/{number}")
            if event.key == f"round/{number}"
        ]
    found.sort(key=lambda one: one[0])
    of_it = [e for _, e in found if isinstance(e, Improved) and e.improver == improver]
    return of_it[:limit]


def anytime(store: Store, run: str, job: str) -> list[Requested]:
    """The scores that an improve job paid for, by call: the points of its anytime curve.

    A job that was killed and ran again asked for its first scores twice: the last count.
    """
    found: dict[int, Requested] = {}
    for _, event in store.keyed(run, "requested", f"{job}|"):
        if isinstance(event, Requested) and event.job == job:
            found[event.call] = event
    return [found[call] for call in sorted(found)]


def exchanges(store: Store, run: str, job: str, limit: int | None = None) -> list[Answered]:
    """The answered calls of an improve job, in order; `Store.texts` has what was said.

    Args:
        store: where the run is.
        run: its id.
        job: its key.
        limit: no more than so many, the first.
    """
    found = store.keyed(run, "answered", f"{job}|", limit)
    return [event for _, event in found if isinstance(event, Answered) and event.job == job]


def under_way(store: Store, run: str) -> list[Asked]:
    """Calls to the model that were begun and whose end is not recorded, in order."""
    ended = " ".join(
        "AND NOT EXISTS (SELECT 1 FROM events AS ended WHERE ended.run = asked.run "
        f"AND ended.kind = '{kind}' AND ended.key = asked.key AND ended.seq > asked.seq)"
        for kind in ("answered", "rejected")
    )
    rows = store.select(
        "SELECT key, max(seq) FROM events AS asked WHERE run = ? AND kind = 'asked' "
        f"{ended} GROUP BY key ORDER BY max(seq)",
        (run,),
    )
    begun = dict(rows)
    if begun:
        # These have no key of their own in a run of an earlier version.
        for seq, _, event in store.events(run, ("unanswered",)):
            if isinstance(event, Unanswered):
                key = exchange_key(event.job, event.content_hash, event.occurrence)
                if begun.get(key, seq) < seq:
                    del begun[key]
    found = (store.find(run, "asked", key) for key in begun)
    return [event for event in found if isinstance(event, Asked)]


def best_candidates(
    store: Store,
    run: str,
    task: str,
    split: str,
    *,
    after: Candidate | None = None,
    limit: int = PAGE,
) -> list[Candidate]:
    """Programs with a score, by the mean of their scores, the highest first.

    Args:
        store: where the run is.
        run: its id.
        task: as scores name it, `NAME@DIGEST`.
        split: `val` or `test`.
        after: the last on the page before; None for the first page.
        limit: how many on this page.
    """
    place = "mean IS NOT NULL"
    values: list[totals.Value] = [run, task, split]
    if after is not None:
        place = "(mean, solution) < (?, ?)"
        values += [after.mean, after.solution]
    rows = store.select(
        "SELECT solution, blocks, scored, mean FROM candidates "
        f"WHERE run = ? AND task = ? AND split = ? AND {place} "
        "ORDER BY mean DESC, solution DESC LIMIT ?",
        (*values, limit),
    )
    return [
        Candidate(solution=solution, blocks=blocks, scored=scored, mean=mean)
        for solution, blocks, scored, mean in rows
    ]


def attempts(
    store: Store, run: str, *, after: int = 0, limit: int = PAGE
) -> list[tuple[int, float, Attempted]]:
    """What programs tried and may not, with numbers and times: the next after a number."""
    found = itertools.islice(store.events(run, ("attempted",), after=after), limit)
    return [(seq, at, event) for seq, at, event in found if isinstance(event, Attempted)]


def tail(
    store: Store, run: str, *, after: int, limit: int = PAGE
) -> list[tuple[int, float, AnyEvent]]:
    """The next events after a number: what a reader asks for again and again to follow a run."""
    return list(itertools.islice(store.events(run, after=after), limit))


def _rows(store: Store, table: totals.Table, run: str) -> list[dict[str, Any]]:
    columns: Sequence[str] = table.columns[1:]
    query = f"SELECT {', '.join(columns)} FROM {table.name} WHERE run = ?"
    return [dict(zip(columns, row, strict=True)) for row in store.select(query, (run,))]
