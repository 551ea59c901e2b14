"""Runs that were recorded elsewhere, on their way into a Postgres store."""

from typing import TYPE_CHECKING, Any

from selftaught.events import AnyEvent
from selftaught.events import kind as kind_of
from selftaught.store.adding import DAY_CHARS, MAX_ID_CHARS
from selftaught.store.event_store import text_hash
from selftaught.store.ledger import InOrder
from selftaught.store.record import encode_event, without_nul
from selftaught.store.totals import (
    TABLES,
    Table,
    Value,
    addition_parameters,
    addition_sql,
)

if TYPE_CHECKING:
    import psycopg

# Rows wait here, so that a row is not a round trip of its own.
_ROWS = 500
_BYTES = 4_000_000


class PostgresAdding:
    """An `Adding` within a transaction of its caller's, who calls `flush` at the end of it."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self._connection = connection
        self._events: list[tuple[object, ...]] = []
        self._texts: list[tuple[str, bytes]] = []
        self._waiting_bytes = 0
        self._totals = InOrder()
        self._added: dict[Table, list[tuple[Value, ...]]] = {table: [] for table in TABLES}

    def free_id(self, run: str) -> str:
        """Return an id, or the next free one of its day where a run has it or it is too high."""
        _lock(self._connection)
        taken = self._connection.execute("SELECT 1 FROM runs WHERE id = %s", (run,)).fetchone()
        is_free = taken is None and len(run) <= MAX_ID_CHARS
        return run if is_free else free_name(self._connection, run[:DAY_CHARS])

    def add_run(self, run: str, created_at: float, command: str, config: str) -> None:
        """Enter a run; `config` is JSON."""
        self._connection.execute(
            "INSERT INTO runs (id, created_at, command, config) VALUES (%s, %s, %s, %s)",
            (run, created_at, without_nul(command), config),
        )

    def add_event(self, run: str, seq: int, at: float, event: AnyEvent) -> None:
        """Enter an event, whose number must be the next one of its run."""
        body, stored = encode_event(event)
        self._events.append((run, seq, at, kind_of(event), without_nul(stored.key), body))
        for one in self._totals.additions(run, seq, stored):
            self._added[one.table].append(addition_parameters(one, run, without_nul))
        self._waits(len(body))

    def add_text(self, text: str) -> None:
        """Enter a text, unless it is there."""
        content = text.encode("utf-8", "surrogatepass")
        self._texts.append((text_hash(text), content))
        self._waits(len(content))

    def flush(self) -> None:
        """Send what waits."""
        from psycopg import sql

        with self._connection.cursor() as cursor:
            # In one order, as appends have them; one that meets ours crosswise is tried again.
            cursor.executemany(
                "INSERT INTO texts (hash, text) VALUES (%s, %s) ON CONFLICT (hash) DO NOTHING",
                sorted(self._texts),
            )
            cursor.executemany(
                "INSERT INTO events (run, seq, at, kind, key, body) "
                "VALUES (%s, %s, %s, %s, %s, %s)",
                self._events,
            )
            for table, rows in self._added.items():
                cursor.executemany(sql.SQL(addition_sql(table, "%s")), rows)
                rows.clear()
        self._events, self._texts, self._waiting_bytes = [], [], 0

    def _waits(self, size_bytes: int) -> None:
        self._waiting_bytes += size_bytes
        if len(self._events) + len(self._texts) >= _ROWS or self._waiting_bytes >= _BYTES:
            self.flush()


def free_name(connection: "psycopg.Connection[Any]", day: str) -> str:
    """The next id of a day: one above the highest, since those of imported runs may leave gaps."""
    _lock(connection)
    row = connection.execute(
        "SELECT coalesce(max(substr(id, %s)::bigint), 0) FROM runs "
        "WHERE starts_with(id, %s) AND substr(id, %s) ~ '^[0-9]{1,18}$'",
        (len(day) + 1, day, len(day) + 1),
    ).fetchone()
    return f"{day}{(row[0] if row else 0) + 1:03d}"


def _lock(connection: "psycopg.Connection[Any]") -> None:
    # Two hosts that enter a run at once must not count to the same number.
    connection.execute("LOCK TABLE runs IN SHARE ROW EXCLUSIVE MODE")
