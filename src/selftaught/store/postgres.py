"""The store in a Postgres database: writers on many hosts, one at a time for each run."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from selftaught.errors import StoreError, UsageError
from selftaught.events import AnyEvent
from selftaught.events import kind as kind_of
from selftaught.redaction import redacted
from selftaught.store.damaged_postgres import find_rows
from selftaught.store.event_store import (
    read_only_store,
    text_hash,
    unknown_run,
)
from selftaught.store.postgres_adding import PostgresAdding, free_name
from selftaught.store.postgres_check import problems
from selftaught.store.postgres_reading import FIND, PostgresReading, named
from selftaught.store.postgres_schema import (
    MIGRATIONS,
    WITH_TOTALS,
    migrate,
    schema_version,
)
from selftaught.store.postgres_text import column_bytes, said, shown_url
from selftaught.store.record import encode_config, encode_event, without_nul
from selftaught.store.salvage import Findings
from selftaught.store.totals import (
    TABLES,
    Addition,
    Counting,
    addition_parameters,
    addition_sql,
)

if TYPE_CHECKING:
    import psycopg

_CONNECT_S = 15
# How long to wait for a run whose last writer may have died just now, and how often to look.
_TAKE_S = 3.0
_LOOK_AGAIN_S = 0.05
# Together with the hash of a run's id: the lock of that run, among all users of the database.
_LOCK_SPACE = 0x53544F50
_PUT_TEXT = "INSERT INTO texts (hash, text) VALUES (%s, %s) ON CONFLICT (hash) DO NOTHING"
_ADD = {table: addition_sql(table, "%s") for table in TABLES}


class PostgresStore(PostgresReading):
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
        super().__init__(connection, path)
        self._writable = writable
        self._clock = clock
        self._taken: set[str] = set()
        self._counting = Counting()

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
            run = free_name(connection, day)
            connection.execute(
                "INSERT INTO runs (id, created_at, command, config) VALUES (%s, %s, %s, %s)",
                (run, now, without_nul(redacted(command)), encoded),
            )
        return run

    def take(self, run: str) -> None:
        """Become the writer of a run; see `Store.take`.

        Waits a little where another process is: the server notices the end of one in its own time.
        """
        if not self._writable:
            raise read_only_store(self.path)
        self.events(run)
        deadline = time.monotonic() + _TAKE_S
        while True:
            with self._reading() as connection:
                if self._takes(connection, run):
                    return
            if time.monotonic() >= deadline:
                raise self._written_by_another(run)
            time.sleep(_LOOK_AGAIN_S)

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
                (without_nul(run),),
            ).fetchone()
            if known is None:
                raise unknown_run(run, self.path)
            if not self._takes(connection, run):
                raise self._written_by_another(run)
            seq: int = (known[0] or 0) + 1
            # In one order everywhere: two writers that share texts never wait for each other.
            for row in sorted(rows):
                connection.execute(_PUT_TEXT, row)
            for one in self._additions(connection, run, seq, stored):
                parameters = addition_parameters(one, run, without_nul)
                connection.execute(sql.SQL(_ADD[one.table]), parameters)
            connection.execute(
                "INSERT INTO events (run, seq, at, kind, key, body) "
                "VALUES (%s, %s, %s, %s, %s, %s)",
                (run, seq, self._clock(), kind_of(event), without_nul(stored.key), body),
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
            found = connection.execute(FIND, named(run, kind_of(event), event.key))
            return found.fetchone() is None

        return self._counting.additions(run, seq, event, count_rounds, is_first)

    def put_text(self, text: str) -> str:
        """Keep a text, once however often it is put, and return its hash."""
        name = text_hash(text)
        with self._transaction() as connection:
            connection.execute(_PUT_TEXT, (name, column_bytes(text)))
        return name

    @contextmanager
    def adding(self) -> Iterator[PostgresAdding]:
        """Take whole runs in from elsewhere: all that the block adds, or nothing."""
        with self._transaction() as connection:
            adding = PostgresAdding(connection)
            yield adding
            adding.flush()

    def free_bytes(self) -> int | None:
        """Not known: the disk is the server's."""
        return None

    def check(self) -> list[str]:
        """Look the whole store over and return what is wrong with it, in sentences."""
        with self._reading() as connection, connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return list(problems(connection))

    def find_rows(self, findings: Findings) -> None:
        """Take up what the server still gives of a damaged store."""
        with self._reading() as connection:
            find_rows(connection, findings)

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

    def _takes(self, connection: "psycopg.Connection[Any]", run: str) -> bool:
        """Become the run's writer, which the server remembers for as long as we are connected."""
        if run in self._taken:
            return True
        lock = int(text_hash(run)[:8], 16) >> 1
        row = connection.execute(
            "SELECT pg_try_advisory_lock(%s, %s)", (_LOCK_SPACE, lock)
        ).fetchone()
        if row is None or not row[0]:
            return False
        self._taken.add(run)
        return True

    def _written_by_another(self, run: str) -> StoreError:
        return StoreError(
            f"Run {run} in {self.path!r} is being written by another process: wait until that "
            "has ended, or end it."
        )

    @contextmanager
    def _transaction(self) -> "Iterator[psycopg.Connection[Any]]":
        if not self._writable:
            raise read_only_store(self.path)
        with self._reading() as connection, connection.transaction():
            yield connection
