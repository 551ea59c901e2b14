"""The totals of whole runs, added up again from their events: to upgrade, to move, to check."""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Sequence

from selftaught.errors import StoreError
from selftaught.events import AnyEvent, Improved, RoundEnded
from selftaught.store.record import decode_event
from selftaught.store.totals import (
    CANDIDATES,
    TABLES,
    Addition,
    AsColumn,
    Table,
    Value,
    additions,
)


class InOrder:
    """What the events of whole runs add, which are told one after another from the first."""

    def __init__(self) -> None:
        self._rounds: set[tuple[str, str]] = set()
        self._rounds_ended: dict[str, int] = {}
        self._improved: set[tuple[str, str]] = set()

    def additions(self, run: str, seq: int, event: AnyEvent) -> list[Addition]:
        """What the next event of a run adds."""
        before = self._rounds_ended.get(run, 0)
        is_first = (run, event.key) not in self._improved
        found = list(additions(event, seq, lambda: before, lambda: is_first))
        if isinstance(event, Improved):
            self._improved.add((run, event.key))
        elif isinstance(event, RoundEnded) and (run, event.key) not in self._rounds:
            self._rounds.add((run, event.key))
            self._rounds_ended[run] = before + 1
        return found


class Ledger:
    """The totals of whole runs, added up from their events in order.

    Args:
        as_column: makes of a text one that the database takes.
    """

    def __init__(self, as_column: AsColumn = str) -> None:
        self._as_column = as_column
        self._in_order = InOrder()
        self._rows: dict[Table, dict[tuple[Value, ...], list[Value]]] = {t: {} for t in TABLES}

    def add(self, run: str, seq: int, event: AnyEvent) -> None:
        """Take in the next event of a run."""
        for one in self._in_order.additions(run, seq, event):
            self._add(one, run)

    def _add(self, addition: Addition, run: str) -> None:
        table, row = addition.table, list(addition.row(run, self._as_column))
        n_keys = 1 + len(table.keys)
        known = self._rows[table].setdefault(tuple(row[:n_keys]), row)
        if known is not row:
            for place in range(n_keys + len(table.kept), len(row)):
                known[place] += row[place]  # type: ignore[operator]

    def rows(self, table: Table) -> list[list[Value]]:
        """The rows of a table, as `Table.columns` and what is derived from them."""
        rows = self._rows[table].values()
        if table is not CANDIDATES:
            return list(rows)
        return [[*row, _mean(row)] for row in rows]


def _mean(row: Sequence[Value]) -> float | None:
    scored, total = row[-2:]
    assert isinstance(scored, int)
    assert isinstance(total, float)
    return total / scored if scored else None


def fill(
    bodies: Iterable[tuple[str, int, str]],
    insert: Callable[[Table, list[list[Value]]], object],
    as_column: AsColumn = str,
) -> None:
    """Enter the totals of all runs of a store that has none.

    An event that cannot be read adds nothing; `check` tells of it.

    Args:
        bodies: of all events, with their runs and numbers, ordered by both.
        insert: enters rows into a table.
        as_column: makes of a text one that the database takes.
    """
    for run, events in itertools.groupby(bodies, key=lambda one: one[0]):
        ledger = Ledger(as_column)
        for _, seq, body in events:
            with contextlib.suppress(StoreError):
                ledger.add(run, seq, decode_event(body, run, seq))
        for table in TABLES:
            insert(table, ledger.rows(table))


def differences(ledger: Ledger, stored: Callable[[Table], Iterable[Sequence[Value]]]) -> list[str]:
    """What is wrong with stored totals, in sentences.

    Args:
        ledger: of all runs.
        stored: the rows of a table, with the columns of `Ledger.rows`.
    """
    found = []
    for table in TABLES:
        n_keys = 1 + len(table.keys)
        expected = {tuple(row[:n_keys]): row for row in ledger.rows(table)}
        runs = set()
        for row in stored(table):
            other = expected.pop(tuple(row[:n_keys]), None)
            if other is None or not _agree(row[n_keys:], other[n_keys:]):
                runs.add(str(row[0]))
        runs |= {str(key[0]) for key in expected}
        found += [
            f"The table {table.name!r} does not agree with the events of run {run!r}."
            for run in sorted(runs)
        ]
    return found


def _agree(one: Sequence[Value], other: Sequence[Value]) -> bool:
    return all(
        a == b
        or (
            isinstance(a, (int, float))
            and isinstance(b, (int, float))
            and abs(a - b) <= 1e-9 * max(abs(a), abs(b))
        )
        for a, b in zip(one, other, strict=True)
    )
