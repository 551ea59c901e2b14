"""Running totals: what is asked of a run again and again, counted as its events are recorded.

Four small tables are kept in the transaction that records an event, so that counts need no look at
the events. What an event adds is defined here, once for both databases; `selftaught.store.queries`
reads it. Everything can be computed again from the events, which `check` does.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from selftaught.events import (
    Answered,
    AnyEvent,
    Attempted,
    Audited,
    BudgetRefused,
    Evaluated,
    Improved,
    MetaEvaluated,
    Requested,
    RoundEnded,
    Unanswered,
)
from selftaught.events import kind as kind_of
from selftaught.utility import Scored, kind

Value = str | int | float | None
AsColumn = Callable[[str], str]


class Table(NamedTuple):
    """A table of totals.

    Attributes:
        keys: columns that name a row, after `run`.
        whole: columns of counts, which are added to.
        real: columns of sums of numbers, which are added to.
        kept: columns that the first event of a row sets.
        derived: columns of numbers that follow from the others of their row.
    """

    name: str
    keys: tuple[tuple[str, str], ...]
    whole: tuple[str, ...]
    real: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    derived: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Of one row, in order, without those that are derived."""
        return ("run", *(name for name, _ in self.keys), *self.kept, *self.whole, *self.real)


_TOKENS = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens")
TOTALS = Table(
    "totals",
    keys=(("kind", "TEXT"), ("label", "TEXT")),
    whole=("events", "times", "responses", *_TOKENS, "unpriced_calls", "lost_tokens"),
    real=("dollars", "lost_dollars", "seconds"),
)
SPENDING = Table(
    "spending",
    keys=(
        ("rounds_ended", "INTEGER"),
        ("phase", "TEXT"),
        ("subject", "TEXT"),
        ("model", "TEXT"),
    ),
    kept=("first_seq",),
    whole=("calls", "responses", *_TOKENS, "unpriced_calls", "lost_tokens"),
    real=("dollars", "lost_dollars", "seconds"),
)
APPLICATIONS = Table(
    "applications",
    keys=(("rounds_ended", "INTEGER"), ("phase", "TEXT")),
    whole=("jobs", "calls", "responses", "utility_calls"),
    real=("seconds",),
)
CANDIDATES = Table(
    "candidates",
    keys=(("task", "TEXT"), ("split", "TEXT"), ("solution", "TEXT")),
    whole=("blocks", "scored"),
    real=("total",),
    derived=("mean",),
)
# Most events are of these kinds, which nothing reads for themselves. They have no place in the
# index on kinds, whose every entry is another page to write.
FREQUENT = ("evaluated", "requested")
IS_INDEXED = f"kind NOT IN {FREQUENT}"
# An event adds no more than that, so that no sum overflows: an endpoint may say that an answer had
# any number of tokens. And nothing smaller, so that no mean vanishes, which Postgres refuses too.
_MOST_COUNT = 10**12
_MOST, _LEAST = 1e300, 1e-290
TABLES = (TOTALS, SPENDING, APPLICATIONS, CANDIDATES)


class Addition(NamedTuple):
    """What an event adds to one row: its key after `run`, and amounts by column."""

    table: Table
    key: tuple[Value, ...]
    amounts: dict[str, int | float]

    def row(self, run: str, as_column: AsColumn) -> tuple[Value, ...]:
        """The values of `Table.columns`, with texts as the database takes them."""
        table = self.table
        key = (as_column(part) if isinstance(part, str) else part for part in self.key)
        amounts = {name: _bounded(amount) for name, amount in self.amounts.items()}
        counts = (amounts.get(c, 0) for c in (*table.kept, *table.whole))
        return (run, *key, *counts, *(float(amounts.get(c, 0)) for c in table.real))


def _bounded(amount: float) -> float:
    if isinstance(amount, int):
        return max(-_MOST_COUNT, min(_MOST_COUNT, amount))
    return max(-_MOST, min(_MOST, amount)) if abs(amount) >= _LEAST else 0.0


def additions(
    event: AnyEvent, seq: int, rounds_ended: Callable[[], int], is_first: Callable[[], bool]
) -> Iterator[Addition]:
    """What an event adds to the totals of its run.

    Args:
        event: as it is stored.
        seq: its number.
        rounds_ended: tells how many rounds of the run had ended before it; asked if needed.
        is_first: tells whether none of its kind and key was recorded before it; asked if needed.
    """
    of_kind = kind_of(event)
    key: tuple[Value, ...]
    match event:
        case Answered():
            amounts = _of_answer(event)
            yield Addition(TOTALS, (of_kind, event.source), {"events": 1, **amounts})
            key = (rounds_ended(), *_place(event.job), event.model)
            yield Addition(SPENDING, key, {"first_seq": seq, "calls": 1, **amounts})
        case Unanswered():
            lost = {"lost_tokens": event.lost_tokens, "lost_dollars": event.lost_dollars}
            yield Addition(TOTALS, (of_kind, ""), {"events": 1, **lost})
            key = (rounds_ended(), *_place(event.job), "")
            yield Addition(SPENDING, key, {"first_seq": seq, **lost})
        case Evaluated():
            outcome = event.outcome
            seconds = {"seconds": event.seconds}
            yield Addition(TOTALS, (of_kind, kind(outcome)), {"events": 1, **seconds})
            block: dict[str, int | float] = {"blocks": 1}
            if isinstance(outcome, Scored):
                block |= {"scored": 1, "total": outcome.value}
            yield Addition(CANDIDATES, (event.task, event.split, event.solution), block)
        case Improved():
            label = "unchanged" if event.unchanged else kind(event.outcome)
            yield Addition(TOTALS, (of_kind, label), {"events": 1, "seconds": event.seconds})
            if is_first():
                key = (rounds_ended(), event.job.partition("/")[0])
                yield Addition(APPLICATIONS, key, _of_application(event))
        case MetaEvaluated():
            yield Addition(TOTALS, (of_kind, kind(event.outcome)), {"events": 1})
        case Requested():
            yield Addition(TOTALS, (of_kind, event.outcome), {"events": 1})
        case Attempted():
            yield Addition(TOTALS, (of_kind, event.what), {"events": 1})
        case BudgetRefused():
            yield Addition(TOTALS, (of_kind, event.limit), {"events": 1, "times": event.times})
        case Audited():
            times = sum(event.generations.values())
            for label in event.kinds:
                yield Addition(TOTALS, (of_kind, label), {"events": 1, "times": times})
        case _:
            yield Addition(TOTALS, (of_kind, ""), {"events": 1})


def _of_answer(event: Answered) -> dict[str, int | float]:
    return {
        "responses": len(event.texts),
        "prompt_tokens": event.prompt_tokens,
        "cached_tokens": event.cached_tokens,
        "completion_tokens": event.completion_tokens,
        "reasoning_tokens": event.reasoning_tokens,
        "unpriced_calls": int(event.dollars is None),
        "lost_tokens": event.lost_tokens,
        "dollars": event.dollars or 0.0,
        "lost_dollars": event.lost_dollars,
        "seconds": event.seconds,
    }


def _of_application(event: Improved) -> dict[str, int | float]:
    return {
        "jobs": 1,
        "calls": event.calls,
        "responses": event.responses,
        "utility_calls": event.utility_calls,
        "seconds": event.seconds,
    }


def _place(job: str) -> tuple[str, str]:
    """What a job is for, and on whose behalf: an improver's hash, or a round's number."""
    phase, _, rest = job.partition("/")
    return phase, rest.partition("/")[0]


def create_statements(*, real: str, clustered: str, temporary: bool = False) -> list[str]:
    """The tables, in the SQL of a database.

    Args:
        real: the type of a number of 64 bits.
        clustered: what makes a table lie in the order of its key, where the database can do that:
            an addition then changes one page and no index.
        temporary: for this connection alone.
    """
    statements = []
    for table in TABLES:
        columns = [
            "run TEXT NOT NULL" if temporary else "run TEXT NOT NULL REFERENCES runs (id)",
            *(f"{name} {type_} NOT NULL" for name, type_ in table.keys),
            *(f"{name} BIGINT NOT NULL" for name in (*table.kept, *table.whole)),
            *(f"{name} {real} NOT NULL" for name in table.real),
            *(f"{name} {real}" for name in table.derived),
        ]
        names = ", ".join(("run", *(name for name, _ in table.keys)))
        create = "CREATE TEMPORARY TABLE" if temporary else "CREATE TABLE"
        listed = ",\n    ".join([*columns, f"PRIMARY KEY ({names})"])
        statements.append(f"{create} {table.name} (\n    {listed}\n){clustered}")
    statements.append(
        "CREATE INDEX candidates_by_mean ON candidates (run, task, split, mean, solution)"
    )
    return statements


def addition_sql(table: Table, mark: str) -> str:
    """The statement that adds a row of `Addition.row`, in SQL that both databases take.

    Args:
        table: where to.
        mark: what stands for a parameter.
    """
    name = table.name
    columns, values = list(table.columns), [mark] * len(table.columns)
    sums = [f"{c} = {name}.{c} + excluded.{c}" for c in (*table.whole, *table.real)]
    if table is CANDIDATES:
        columns.append("mean")
        # Of the row that is added: its total is its value, and none where it has no score.
        values.append(f"CASE WHEN {mark} = 1 THEN {mark} END")
        sums.append(
            "mean = (candidates.total + excluded.total)"
            " / nullif(candidates.scored + excluded.scored, 0)"
        )
    keys = ", ".join(("run", *(key for key, _ in table.keys)))
    return (
        f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({', '.join(values)}) "
        f"ON CONFLICT ({keys}) DO UPDATE SET {', '.join(sums)}"
    )


def addition_parameters(
    addition: Addition, run: str, as_column: AsColumn = str
) -> tuple[Value, ...]:
    """The parameters of `addition_sql`.

    Args:
        addition: what is added.
        run: to whose totals.
        as_column: makes of a text one that the database takes.
    """
    row = addition.row(run, as_column)
    if addition.table is CANDIDATES:
        _, scored, total = row[-3:]
        return (*row, scored, total)
    return row


class Counting:
    """What the events that a store records add to its totals. Not thread-safe.

    It remembers how many rounds have ended in each run that the store writes.
    """

    def __init__(self) -> None:
        self._rounds_ended: dict[str, int] = {}

    def additions(
        self,
        run: str,
        seq: int,
        event: AnyEvent,
        count_rounds: Callable[[], int],
        is_first: Callable[[], bool],
    ) -> Iterator[Addition]:
        """What an event adds that is about to be recorded.

        Args:
            run, seq: its run and its number in it.
            event: as it is stored.
            count_rounds: counts the rounds of the run that have ended.
            is_first: tells whether none of its kind and key is recorded.
        """

        def rounds_ended() -> int:
            if run not in self._rounds_ended:
                self._rounds_ended[run] = count_rounds()
            return self._rounds_ended[run]

        if isinstance(event, RoundEnded):
            # Counted again when it is needed next, whether or not this one comes to be recorded.
            self._rounds_ended.pop(run, None)
        return additions(event, seq, rounds_ended, is_first)


def insert_sql(table: Table, mark: str) -> str:
    """The statement that enters a row of `Ledger.rows`."""
    width = len(table.columns) + len(table.derived)
    return f"INSERT INTO {table.name} VALUES ({', '.join([mark] * width)})"
