"""What is read from a store in Postgres: texts, events, rows, the list of runs."""

import os
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, LiteralString

from selftaught.errors import StoreError
from selftaught.events import AnyEvent
from selftaught.store.event_store import (
    RunRow,
    after_prefix,
    closed_store,
    meant_run,
    require_process,
    run_row,
    unknown_run,
    unknown_text,
)
from selftaught.store.postgres_schema import HAS_PREFIX, PREFIX_CHARS, make_temporary_totals
from selftaught.store.postgres_text import said
from selftaught.store.record import decode_event, without_nul
from selftaught.store.totals import FREQUENT, IS_INDEXED, Value

if TYPE_CHECKING:
    import psycopg

BATCH = 500
_RUNS = """
SELECT id, created_at, command, config, mark.kind, mark.at, mark.body ->> 'status',
    mark.body ->> 'reason',
    (SELECT coalesce(max(seq), 0) FROM events WHERE events.run = runs.id)
FROM runs LEFT JOIN LATERAL (
    SELECT kind, at, body FROM readable_events AS events
    WHERE events.run = runs.id AND kind IN ('run_started', 'run_resumed', 'run_ended')
    ORDER BY seq DESC LIMIT 1) AS mark ON true"""
FIND = """
SELECT seq, body::text FROM events
WHERE run = %s AND kind = %s AND md5(key) = md5(%s) AND key = %s ORDER BY seq DESC LIMIT 1"""


class CrossedWriters(StoreError):
    """The server ended a transaction that waited for one that waited for it."""


class PostgresReading:
    """The reading half of `PostgresStore`.

    Thread safety: one connection, one lock around it.
    """

    def __init__(self, connection: "psycopg.Connection[Any]", path: str) -> None:
        self.path = path
        self._connection: psycopg.Connection[Any] | None = connection
        self._pid = os.getpid()
        self._lock = threading.Lock()
        # A store of an older version that is open for reading stays as it is.
        self._lacks_totals = False

    def text(self, text_hash: str) -> str:
        """Return the text of a hash, exactly as it was put."""
        with self._reading() as connection:
            row = connection.execute(
                "SELECT text FROM texts WHERE hash = %s", (without_nul(text_hash),)
            ).fetchone()
        if row is None:
            raise unknown_text(text_hash, self.path)
        return bytes(row[0]).decode("utf-8", "surrogatepass")

    def texts(self, hashes: Sequence[str]) -> tuple[str, ...]:
        """Return the texts of some hashes, in their order."""
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT hash, text FROM texts WHERE hash = ANY(%s)", (list(hashes),)
            ).fetchall()
        found = {name: bytes(value).decode("utf-8", "surrogatepass") for name, value in rows}
        for name in hashes:
            if name not in found:
                raise unknown_text(name, self.path)
        return tuple(found[name] for name in hashes)

    def find(self, run: str, kind: str, key: str) -> AnyEvent | None:
        """Return the latest event of a kind under a key, or None."""
        with self._reading() as connection:
            row = connection.execute(FIND, named(run, kind, key)).fetchone()
        return None if row is None else decode_event(row[1], run, row[0])

    def events(
        self, run: str, kinds: Collection[str] | None = None, *, after: int = 0
    ) -> Iterator[tuple[int, float, AnyEvent]]:
        """Iterate over the events of a run, in order, with their numbers and times, in batches."""
        with self._reading() as connection:
            known = connection.execute("SELECT 1 FROM runs WHERE id = %s", (without_nul(run),))
            if known.fetchone() is None:
                raise unknown_run(run, self.path)
        return self._in_batches(run, kinds, after)

    def keyed(
        self, run: str, kind: str, prefix: str, limit: int | None = None
    ) -> list[tuple[int, AnyEvent]]:
        """Return the events of a kind whose keys begin so, in order, with their numbers."""
        prefix = without_nul(prefix)
        indexed = f"AND {HAS_PREFIX} " if kind != "evaluated" else ""
        beginning = prefix[:PREFIX_CHARS]
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT seq, body::text FROM events WHERE run = %s AND kind = %s "
                f'AND left(key, {PREFIX_CHARS}) COLLATE "C" >= %s '
                f'AND left(key, {PREFIX_CHARS}) COLLATE "C" < %s '
                f"{indexed}AND starts_with(key, %s) ORDER BY seq LIMIT %s",
                (run, kind, beginning, after_prefix(beginning), prefix, limit),
            ).fetchall()
        return [(seq, decode_event(body, run, seq)) for seq, body in rows]

    def select(self, query: str, parameters: Sequence[Value] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query; see `Store.select`."""
        from psycopg import sql

        with self._reading() as connection:
            if self._lacks_totals:
                make_temporary_totals(connection)
                self._lacks_totals = False
            # The queries stand in selftaught.store.queries; nothing of a user's is in them.
            statement = sql.SQL(query.replace("?", "%s"))
            return connection.execute(statement, parameters).fetchall()

    def runs(self) -> list[RunRow]:
        """Return all runs, the oldest first."""
        with self._reading() as connection:
            rows = connection.execute(f"{_RUNS} ORDER BY runs.number").fetchall()
        return [run_row(*row) for row in rows]

    def run(self, run: str) -> RunRow:
        """Return one run by its full id."""
        with self._reading() as connection:
            row = connection.execute(f"{_RUNS} WHERE runs.id = %s", (without_nul(run),)).fetchone()
        if row is None:
            raise unknown_run(run, self.path)
        return run_row(*row)

    def resolve(self, run_prefix: str) -> str:
        """Return the id that a user means by an id, the beginning of one, or `latest`."""
        with self._reading() as connection:
            ids = [r[0] for r in connection.execute("SELECT id FROM runs ORDER BY number DESC")]
        return meant_run(run_prefix, ids, self.path)

    def _in_batches(
        self, run: str, kinds: Collection[str] | None, after: int
    ) -> Iterator[tuple[int, float, AnyEvent]]:
        select: LiteralString = "SELECT seq, at, body::text FROM events WHERE run = %s AND seq > %s"
        wanted: list[tuple[str, ...]] = [()]
        parts = [select]
        if kinds is not None and not set(kinds).intersection(FREQUENT):
            # A part for each kind, which the index has in order; the server merges them.
            wanted = [(one,) for one in dict.fromkeys(kinds)]
            part = f"{select} AND kind = %s AND {IS_INDEXED} ORDER BY seq LIMIT {BATCH}"
            parts = [f"({part})"] * len(wanted)
        elif kinds is not None:
            wanted = [tuple(kinds)]
            parts = [f"{select} AND kind IN ({', '.join(['%s'] * len(kinds))})"]
        merged = " UNION ALL ".join(parts)
        query = f"SELECT * FROM ({merged}) AS merged ORDER BY seq LIMIT {BATCH}"
        while parts:
            parameters = [value for one in wanted for value in (run, after, *one)]
            with self._reading() as connection:
                rows = connection.execute(query, parameters).fetchall()
            for seq, at, body in rows:
                yield seq, at, decode_event(body, run, seq)
            if len(rows) < BATCH:
                return
            after = rows[-1][0]

    @contextmanager
    def _reading(self) -> "Iterator[psycopg.Connection[Any]]":
        import psycopg

        require_process(self._pid, self.path)
        with self._lock:
            if self._connection is None:
                raise closed_store(self.path)
            try:
                yield self._connection
            except psycopg.errors.DiskFull as error:
                raise StoreError(
                    f"The store {self.path!r} cannot grow, since the disk of its server is full; "
                    "what was recorded is kept. Make room there, then `selftaught resume` goes on."
                ) from error
            except psycopg.errors.DeadlockDetected as error:
                raise CrossedWriters(
                    f"Two processes that write to {self.path!r} waited for each other, and this "
                    "one gave way: nothing was written. Try again."
                ) from error
            except psycopg.OperationalError as error:
                raise StoreError(
                    f"The store {self.path!r} is gone ({said(error)}): when the server is back, "
                    "resume the run."
                ) from error
            except psycopg.Error as error:
                raise StoreError(
                    f"The store {self.path!r} refused a request ({said(error)})."
                ) from error


def named(run: str, kind: str, key: str) -> tuple[str, ...]:
    """The parameters of `FIND`."""
    return run, kind, without_nul(key), without_nul(key)
