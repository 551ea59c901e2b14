"""The store in a Postgres database: writers on many hosts, one at a time for each run."""

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, LiteralString

from selftaught.errors import StoreError, UsageError
from selftaught.events import AnyEvent
from selftaught.events import kind as kind_of
from selftaught.redaction import redacted
from selftaught.store.event_store import (
    RunRow,
    after_prefix,
    closed_store,
    meant_run,
    read_only_store,
    require_process,
    run_row,
    text_hash,
    unknown_run,
    unknown_text,
)
from selftaught.store.postgres_check import problems
from selftaught.store.postgres_schema import (
    MIGRATIONS,
    PREFIX_CHARS,
    WITH_TOTALS,
    make_temporary_totals,
    migrate,
    schema_version,
)
from selftaught.store.postgres_text import column_bytes, column_text, said, shown_url
from selftaught.store.record import decode_event, encode_config, encode_event
from selftaught.store.totals import (
    TABLES,
    Addition,
    Counting,
    Value,
    addition_parameters,
    addition_sql,
)

if TYPE_CHECKING:
    import psycopg

BATCH = 500
_CONNECT_S = 15
# Together with the hash of a run's id: the lock of that run, among all users of the database.
_LOCK_SPACE = 0x53544F50
_PUT_TEXT = "INSERT INTO texts (hash, text) VALUES (%s, %s) ON CONFLICT (hash) DO NOTHING"
_RUNS = """
SELECT id, created_at, command, config, mark.kind, mark.at, mark.body ->> 'status',
    mark.body ->> 'reason',
    (SELECT coalesce(max(seq), 0) FROM events WHERE events.run = runs.id)
FROM runs LEFT JOIN LATERAL (
    SELECT kind, at, body FROM readable_events AS events
    WHERE events.run = runs.id AND kind IN ('run_started', 'run_resumed', 'run_ended')
    ORDER BY seq DESC LIMIT 1) AS mark ON true"""
_FIND = """
SELECT seq, body::text FROM events
WHERE run = %s AND kind = %s AND md5(key) = md5(%s) AND key = %s ORDER BY seq DESC LIMIT 1"""
_ADD = {table: addition_sql(table, "%s") for table in TABLES}


class PostgresStore:
    """A `Store` in a Postgres database; made by `open`.

    Who may write: any number of processes, each run one at a time. A process takes a run when it
    first appends to it, and keeps it until it closes the store or dies.
    Thread safety: one connection, one lock around it.
    Durability: the server's; by default a commit is on its disk when the call returns.
    """

    def __init__(
        self,
        connection: "psycopg.Connection[Any]",
        path: str,
        writable: bool,
        clock: Callable[[], float],
    ) -> None:
        self.path = path
        self._connection: psycopg.Connection[Any] | None = connection
        self._writable = writable
        self._clock = clock
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._taken: set[str] = set()
        self._counting = Counting()
        # A store of an older version that is open for reading stays as it is.
        self._lacks_totals = False

    @classmethod
    def open(
        cls, url: str, *, writable: bool, clock: Callable[[], float] = time.time
    ) -> "PostgresStore":
        """Open a database; a writable one gets the tables it lacks.

        Args:
            url: `postgresql://user@host/database`, as libpq takes it; a password is better kept
                in PGPASSWORD or ~/.pgpass.
            writable: whether to write.
            clock: gives the seconds since the epoch that events are recorded with.

        Raises:
            UsageError: psycopg is not installed.
            StoreError: the database cannot be reached or is no store of this version.
        """
        try:
            import psycopg
        except ImportError as error:
            raise UsageError(
                "A store in Postgres needs psycopg: pip install 'selftaught[postgres]'."
            ) from error
        shown = shown_url(url)
        try:
            connection = psycopg.connect(
                url, autocommit=True, connect_timeout=_CONNECT_S, application_name="selftaught"
            )
        except psycopg.Error as error:
            raise StoreError(
                f"The store {shown!r} cannot be reached: {said(error)}. Look at the address, and "
                "that the server runs."
            ) from error
        store = cls(connection, shown, writable, clock)
        try:
            with store._reading() as open_connection:
                if writable:
                    migrate(open_connection, clock())
                version = schema_version(open_connection)
            if version is None:
                raise StoreError(
                    f"The store {shown!r} is empty, since no run was ever started in it: name "
                    "another one with --store."
                )
            if version > len(MIGRATIONS):
                raise StoreError(
                    f"The store {shown!r} has schema {version}, and this version of selftaught "
                    f"knows none after {len(MIGRATIONS)}: update selftaught."
                )
            store._lacks_totals = version < WITH_TOTALS
        except BaseException:
            connection.close()
            raise
        return store

    def new_run(self, config: dict[str, object], command: str) -> str:
        """Enter a run in the list and return its id, `r-` with UTC date and number of the day."""
        encoded = encode_config(config)
        now = self._clock()
        day = time.strftime("r-%Y%m%d-", time.gmtime(now))
        with self._transaction() as connection:
            # Two hosts that start a run at once must not count to the same number.
            connection.execute("LOCK TABLE runs IN SHARE ROW EXCLUSIVE MODE")
            row = connection.execute(
                "SELECT count(*) FROM runs WHERE starts_with(id, %s)", (day,)
            ).fetchone()
            assert row is not None
            run = f"{day}{row[0] + 1:03d}"
            connection.execute(
                "INSERT INTO runs (id, created_at, command, config) VALUES (%s, %s, %s, %s)",
                (run, now, column_text(redacted(command)), encoded),
            )
        return run

    def append(self, run: str, event: AnyEvent) -> int:
        """Record an event and return its number in the run, from 1."""
        return self.append_with_texts(run, event, ())

    def append_with_texts(self, run: str, event: AnyEvent, texts: Sequence[str]) -> int:
        """Record an event together with texts it refers to: all of them, or nothing."""
        from psycopg import sql

        body, stored = encode_event(event)
        rows = [(text_hash(text), column_bytes(text)) for text in texts]
        with self._transaction() as connection:
            known = connection.execute(
                "SELECT (SELECT max(seq) FROM events WHERE run = id) FROM runs WHERE id = %s",
                (column_text(run),),
            ).fetchone()
            if known is None:
                raise unknown_run(run, self.path)
            self._take(connection, run)
            seq: int = (known[0] or 0) + 1
            # In one order everywhere: two writers that share texts never wait for each other.
            for row in sorted(rows):
                connection.execute(_PUT_TEXT, row)
            for one in self._additions(connection, run, seq, stored):
                parameters = addition_parameters(one, run, column_text)
                connection.execute(sql.SQL(_ADD[one.table]), parameters)
            connection.execute(
                "INSERT INTO events (run, seq, at, kind, key, body) "
                "VALUES (%s, %s, %s, %s, %s, %s)",
                (run, seq, self._clock(), kind_of(event), column_text(stored.key), body),
            )
        return seq

    def _additions(
        self, connection: "psycopg.Connection[Any]", run: str, seq: int, event: AnyEvent
    ) -> Iterator[Addition]:
        """What an event that is about to be recorded adds to the totals."""

        def count_rounds() -> int:
            row = connection.execute(
                "SELECT count(DISTINCT key) FROM events WHERE run = %s AND kind = 'round_ended'",
                (run,),
            ).fetchone()
            return int(row[0]) if row is not None else 0

        def is_first() -> bool:
            found = connection.execute(_FIND, _named(run, kind_of(event), event.key))
            return found.fetchone() is None

        return self._counting.additions(run, seq, event, count_rounds, is_first)

    def put_text(self, text: str) -> str:
        """Keep a text, once however often it is put, and return its hash."""
        name = text_hash(text)
        with self._transaction() as connection:
            connection.execute(_PUT_TEXT, (name, column_bytes(text)))
        return name

    def text(self, text_hash: str) -> str:
        """Return the text of a hash, exactly as it was put."""
        with self._reading() as connection:
            row = connection.execute(
                "SELECT text FROM texts WHERE hash = %s", (column_text(text_hash),)
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
            row = connection.execute(_FIND, _named(run, kind, key)).fetchone()
        return None if row is None else decode_event(row[1], run, row[0])

    def events(
        self, run: str, kinds: Collection[str] | None = None, *, after: int = 0
    ) -> Iterator[tuple[int, float, AnyEvent]]:
        """Iterate over the events of a run, in order, with their numbers and times, in batches."""
        with self._reading() as connection:
            known = connection.execute("SELECT 1 FROM runs WHERE id = %s", (column_text(run),))
            if known.fetchone() is None:
                raise unknown_run(run, self.path)
        return self._in_batches(run, kinds, after)

    def keyed(
        self, run: str, kind: str, prefix: str, limit: int | None = None
    ) -> list[tuple[int, AnyEvent]]:
        """Return the events of a kind whose keys begin so, in order, with their numbers."""
        prefix = column_text(prefix)
        beginning = prefix[:PREFIX_CHARS]
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT seq, body::text FROM events WHERE run = %s AND kind = %s "
                f'AND left(key, {PREFIX_CHARS}) COLLATE "C" >= %s '
                f'AND left(key, {PREFIX_CHARS}) COLLATE "C" < %s '
                "AND starts_with(key, %s) ORDER BY seq LIMIT %s",
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
            row = connection.execute(f"{_RUNS} WHERE runs.id = %s", (column_text(run),)).fetchone()
        if row is None:
            raise unknown_run(run, self.path)
        return run_row(*row)

    def resolve(self, run_prefix: str) -> str:
        """Return the id that a user means by an id, the beginning of one, or `latest`."""
        with self._reading() as connection:
            ids = [r[0] for r in connection.execute("SELECT id FROM runs ORDER BY number DESC")]
        return meant_run(run_prefix, ids, self.path)

    def check(self) -> list[str]:
        """Look the whole store over and return what is wrong with it, in sentences."""
        with self._reading() as connection, connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return list(problems(connection))

    def close(self) -> None:
        """Let go of the database and of the runs taken; a second call does nothing."""
        import psycopg

        if os.getpid() != self._pid:
            return
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                # The server notices the end of a connection in its own time.
                if not connection.closed:
                    with suppress(psycopg.Error):
                        connection.execute("SELECT pg_advisory_unlock_all()")
                connection.close()

    def __enter__(self) -> "PostgresStore":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _take(self, connection: "psycopg.Connection[Any]", run: str) -> None:
        """Become the run's writer, which the server remembers for as long as we are connected."""
        if run in self._taken:
            return
        lock = int.from_bytes(text_hash(run).encode()[:4]) >> 1
        row = connection.execute(
            "SELECT pg_try_advisory_lock(%s, %s)", (_LOCK_SPACE, lock)
        ).fetchone()
        if row is None or not row[0]:
            raise StoreError(
                f"Run {run} in {self.path!r} is being written by another process: wait until that "
                "has ended, or end it."
            )
        self._taken.add(run)

    def _in_batches(
        self, run: str, kinds: Collection[str] | None, after: int
    ) -> Iterator[tuple[int, float, AnyEvent]]:
        select: LiteralString = "SELECT seq, at, body::text FROM events WHERE run = %s AND seq > %s"
        wanted: list[tuple[str, ...]] = [()]
        parts = [select]
        if kinds is not None:
            # A part for each kind, which the index has in order; the server merges them.
            wanted = [(one,) for one in dict.fromkeys(kinds)]
            parts = [f"({select} AND kind = %s ORDER BY seq LIMIT {BATCH})"] * len(wanted)
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
            except psycopg.OperationalError as error:
                raise StoreError(
                    f"The store {self.path!r} is gone ({said(error)}): when the server is back, "
                    "resume the run."
                ) from error
            except psycopg.Error as error:
                raise StoreError(
                    f"The store {self.path!r} refused a request ({said(error)})."
                ) from error

    @contextmanager
    def _transaction(self) -> "Iterator[psycopg.Connection[Any]]":
        if not self._writable:
            raise read_only_store(self.path)
        with self._reading() as connection, connection.transaction():
            yield connection


def _named(run: str, kind: str, key: str) -> tuple[str, ...]:
    """The parameters of `_FIND`."""
    return run, kind, column_text(key), column_text(key)
