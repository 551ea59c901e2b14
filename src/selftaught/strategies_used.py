"""Which strategies the improvers of a recorded run use, by their texts and by their requests."""

from collections.abc import Collection, Sequence

import msgspec

from selftaught.events import Improved
from selftaught.history import History
from selftaught.improver import ENTRY_POINT
from selftaught.solution import Solution
from selftaught.store import queries
from selftaught.store.event_store import Store
from selftaught.strategies.classify import Found, strategies_in
from selftaught.strategies.trace import Exchange, strategies_of

_JOBS_LOOKED_AT = 8
# Following programs through them takes time with the square of their number.
_CALLS_LOOKED_AT = 64


class StrategiesUsed(msgspec.Struct, frozen=True, kw_only=True):
    """What one improver does.

    Attributes:
        name: as the run calls it, or the first round that it was in force.
        improver: the hash of its text.
        in_text: strategies that its text shows.
        in_requests: those that its requests show, each with what shows it.
    """

    name: str
    improver: str
    in_text: tuple[Found, ...]
    in_requests: dict[str, str]


def strategies_used(store: Store, history: History) -> list[StrategiesUsed]:
    """The strategies of each improver of a run: of its rounds, else of those it was given."""
    texts = {Solution(s, ENTRY_POINT).hash: (n, s) for n, s in reversed(history.config.improvers)}
    names = {improver: name for improver, (name, _) in reversed(texts.items())}
    if history.rounds:
        names = {}
        for view in history.rounds:
            names.setdefault(view.improver, f"round {view.number}")
    seen = strategies_seen(store, history.row.id, names)
    return [
        StrategiesUsed(
            name=name,
            improver=improver,
            in_text=tuple(
                strategies_in(texts[improver][1] if improver in texts else store.text(improver))
            ),
            in_requests=seen[improver],
        )
        for improver, name in names.items()
    ]


def strategies_seen(
    store: Store, run_id: str, improvers: Collection[str]
) -> dict[str, dict[str, str]]:
    """The strategies that improvers' requests show, each with what shows it.

    Args:
        store: where the run is.
        run_id: its full id.
        improvers: hashes of their texts; of each the first few recorded jobs are looked at, and the
            first calls of these.
    """
    begun: dict[str, list[int]] = {}
    for one in queries.rounds(store, run_id):
        begun.setdefault(one.improver, []).append(one.round + 1)
    seen: dict[str, dict[str, str]] = {improver: {} for improver in improvers}
    for improver, found in seen.items():
        rounds_begun = begun.get(improver, ())
        jobs = queries.jobs_of(store, run_id, improver, rounds_begun, _JOBS_LOOKED_AT)
        for asked, initial in _conversations(store, run_id, jobs):
            for name, evidence in strategies_of(asked, initial).items():
                found.setdefault(name, evidence)
    for found in seen.values():
        # A job whose first answers were of no use, or whose budget was one call, shows no more.
        if "refinement" in found:
            found.pop("best_of_n", None)
    return seen


def _conversations(
    store: Store, run_id: str, jobs: Sequence[Improved]
) -> list[tuple[list[Exchange], str]]:
    """What was said in each of some jobs, with the program that it began from."""
    calls = [queries.exchanges(store, run_id, job.job, _CALLS_LOOKED_AT) for job in jobs]
    # All at once: on a database server each query is a way there and back.
    hashes = {job.initial for job in jobs}
    hashes.update(*((one.message, *one.texts) for of_job in calls for one in of_job))
    names = list(hashes)
    texts = dict(zip(names, store.texts(names), strict=True))
    return [
        (
            [
                Exchange(
                    expertise=one.expertise,
                    message=texts[one.message],
                    temperature=one.temperature,
                    answers=tuple(texts[name] for name in one.texts),
                )
                for one in of_job
            ],
            texts[job.initial],
        )
        for job, of_job in zip(jobs, calls, strict=True)
    ]
