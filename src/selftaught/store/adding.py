"""Runs that were recorded elsewhere, on their way into a SQLite store."""

import sqlite3

from selftaught.events import AnyEvent
from selftaught.events import kind as kind_of
from selftaught.store.event_store import text_hash
from selftaught.store.ledger import InOrder
from selftaught.store.record import encode_event, exact_column
from selftaught.store.totals import TABLES, addition_parameters, addition_sql

_ADD = {table: addition_sql(table, "?") for table in TABLES}
DAY_CHARS = len("r-20261124-")
# New runs count on from the highest number of their day: no imported one may use the numbers up.
MAX_ID_CHARS = DAY_CHARS + 6


class SQLiteAdding:
    """An `Adding` within a transaction of its caller's."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._totals = InOrder()

    def free_id(self, run: str) -> str:
        """Return an id, or the next free one of its day where a run has it or it is too high."""
        taken = self._connection.execute("SELECT 1 FROM runs WHERE id = ?", (run,)).fetchone()
        is_free = taken is None and len(run) <= MAX_ID_CHARS
        return run if is_free else free_name(self._connection, run[:DAY_CHARS])

    def add_run(self, run: str, created_at: float, command: str, config: str) -> None:
        """Enter a run; `config` is JSON."""
        self._connection.execute(
            "INSERT INTO runs (id, created_at, command, config) VALUES (?, ?, ?, ?)",
            (run, created_at, command, config),
        )

    def add_event(self, run: str, seq: int, at: float, event: AnyEvent) -> None:
        """Enter an event, whose number must be the next one of its run."""
        body, stored = encode_event(event)
        self._connection.execute(
            "INSERT INTO events (run, seq, at, kind, key, body) VALUES (?, ?, ?, ?, ?, ?)",
            (run, seq, at, kind_of(event), stored.key, body),
        )
        for one in self._totals.additions(run, seq, stored):
            self._connection.execute(_ADD[one.table], addition_parameters(one, run))

    def add_text(self, text: str) -> None:
        """Enter a text, unless it is there."""
        self._connection.execute(
            "INSERT INTO texts (hash, text) VALUES (?, ?) ON CONFLICT (hash) DO NOTHING",
            (text_hash(text), exact_column(text)),
        )


def free_name(connection: sqlite3.Connection, day: str) -> str:
    """The next id of a day: one above the highest, since those of imported runs may leave gaps."""
    (last,) = connection.execute(
        "SELECT coalesce(max(CAST(substr(id, ?) AS INTEGER)), 0) FROM runs "
        "WHERE substr(id, 1, ?) = ?",
        (len(day) + 1, len(day), day),
    ).fetchone()
    return f"{day}{last + 1:03d}"
