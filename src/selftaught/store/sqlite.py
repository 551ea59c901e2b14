"""The store in one SQLite file: one writer, any number of readers, on one machine."""

import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

from selftaught.errors import StoreError
from selftaught.events import AnyEvent
from selftaught.events import kind as kind_of
from selftaught.redaction import redacted
from selftaught.store.adding import SQLiteAdding, free_name
from selftaught.store.connection import (
    SharedConnection,
    connect_reader,
    connect_writer,
    explained,
)
from selftaught.store.event_store import (
    RunRow,
    after_prefix,
    meant_run,
    read_only_store,
    require_process,
    run_row,
    text_hash,
    unknown_run,
    unknown_text,
)
from selftaught.store.integrity import problems
from selftaught.store.migrations import WITH_TOTALS, make_totals, schema_version
from selftaught.store.record import (
    decode_event,
    encode_config,
    encode_event,
    printable,
    text_from_column,
    text_to_column,
)
from selftaught.store.room import free_bytes
from selftaught.store.totals import (
    FREQUENT,
    IS_INDEXED,
    TABLES,
    Addition,
    Counting,
    Value,
    addition_parameters,
    addition_sql,
)
from selftaught.store.writer_lock import WriterLock

BATCH = 500

_PUT_TEXT = "INSERT INTO texts (hash, text) VALUES (?, ?) ON CONFLICT (hash) DO NOTHING"
_RUNS = """
SELECT id, created_at, command, config, mark.kind, mark.at, json_extract(mark.body, '$.status'),
    json_extract(mark.body, '$.reason'),
    (SELECT coalesce(max(seq), 0) FROM events WHERE events.run = runs.id)
FROM runs LEFT JOIN events AS mark ON mark.run = runs.id AND mark.seq = (
    SELECT max(seq) FROM events
    WHERE events.run = runs.id AND kind IN ('run_started', 'run_resumed', 'run_ended'))"""
_ADD = {table: addition_sql(table, "?") for table in TABLES}
# Long lists of parameters are refused by some builds of SQLite.
_TEXTS_AT_ONCE = 500


class SQLiteStore:
    """A `Store` in a SQLite file; made by `open`.

    Thread safety: one connection, one lock around it.
    Processes: cannot be used in a process forked from the one that opened it. Fork first, and end
    children with `os._exit`, as multiprocessing does.
    Durability: each append is a transaction of its own, on its way to the disk when the call
    returns. It outlives the process. A power failure may take the last few, but never leaves a
    gap or half an event.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: str,
        writer_lock: WriterLock | None,
        clock: Callable[[], float],
    ) -> None:
        self.path = path
        self._real = os.path.realpath(path)
        self._shared = SharedConnection(connection, path)
        self._writer_lock = writer_lock
        self._clock = clock
        self._pid = os.getpid()
        self._counting = Counting()
        # A store of an older version that is open for reading stays as it is.
        self._has_kinds = (schema_version(connection) or 0) >= WITH_TOTALS
        self._lacks_totals = not self._has_kinds

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, writable: bool, clock: Callable[[], float] = time.time
    ) -> "SQLiteStore":
        """Open a store; a writable one is made where there is none, and brought up to date.

        Args:
            path: the file.
            writable: whether to write, which one process at a time may do.
            clock: gives the seconds since the epoch that events are recorded with.

        Raises:
            StoreError: the file cannot be opened, with the reason and what to do about it.
        """
        name = os.fspath(path)
        real = os.path.realpath(name)
        if not writable:
            return cls(connect_reader(name, real), name, None, clock)
        if not os.path.isdir(os.path.dirname(real)):
            raise StoreError(
                f"The store {name!r} cannot be made, since its folder does not exist: make the "
                "folder first, or name another file with --store."
            )
        lock = WriterLock(real)
        try:
            return cls(connect_writer(name, real, clock()), name, lock, clock)
        except BaseException:
            lock.release()
            raise

    def new_run(self, config: dict[str, object], command: str) -> str:
        """Enter a run in the list and return its id, `r-` with UTC date and number of the day."""
        encoded = encode_config(config)
        now = self._clock()
        day = time.strftime("r-%Y%m%d-", time.gmtime(now))
        with self._transaction() as connection:
            run = free_name(connection, day)
            connection.execute(
                "INSERT INTO runs (id, created_at, command, config) VALUES (?, ?, ?, ?)",
                (run, now, printable(redacted(command)), encoded),
            )
        return run

    def take(self, run: str) -> None:
        """Become the writer of a run, which whoever opened the store for writing is already."""
        if self._writer_lock is None:
            raise read_only_store(self.path)
        self.events(run)

    def append(self, run: str, event: AnyEvent) -> int:
        """Record an event and return its number in the run, from 1."""
        return self.append_with_texts(run, event, ())

    def append_with_texts(self, run: str, event: AnyEvent, texts: Sequence[str]) -> int:
        """Record an event together with texts it refers to: all of them, or nothing."""
        body, stored = encode_event(event)
        kind = kind_of(event)
        rows = [(text_hash(text), text_to_column(text)) for text in texts]
        with self._transaction() as connection:
            known = connection.execute(
                "SELECT (SELECT max(seq) FROM events WHERE run = id) FROM runs WHERE id = ?", (run,)
            ).fetchone()
            if known is None:
                raise unknown_run(run, self.path)
            seq: int = (known[0] or 0) + 1
            for row in rows:
                connection.execute(_PUT_TEXT, row)
            for one in self._additions(connection, run, seq, stored):
                connection.execute(_ADD[one.table], addition_parameters(one, run))
            connection.execute(
                "INSERT INTO events (run, seq, at, kind, key, body) VALUES (?, ?, ?, ?, ?, ?)",
                (run, seq, self._clock(), kind, stored.key, body),
            )
        return seq

    def _additions(
        self, connection: sqlite3.Connection, run: str, seq: int, event: AnyEvent
    ) -> Iterator[Addition]:
        """What an event that is about to be recorded adds to the totals."""

        def count_rounds() -> int:
            (count,) = connection.execute(
                "SELECT count(DISTINCT key) FROM events WHERE run = ? AND kind = 'round_ended'",
                (run,),
            ).fetchone()
            return int(count)

        def is_first() -> bool:
            query = "SELECT 1 FROM events WHERE run = ? AND kind = ? AND key = ?"
            found = connection.execute(query, (run, kind_of(event), event.key)).fetchone()
            return found is None

        return self._counting.additions(run, seq, event, count_rounds, is_first)

    def put_text(self, text: str) -> str:
        """Keep a text, once however often it is put, and return its hash."""
        name = text_hash(text)
        with self._transaction() as connection:
            connection.execute(_PUT_TEXT, (name, text_to_column(text)))
        return name

    @contextmanager
    def adding(self) -> Iterator[SQLiteAdding]:
        """Take whole runs in from elsewhere: all that the block adds, or nothing."""
        with self._transaction() as connection:
            yield SQLiteAdding(connection)

    def text(self, text_hash: str) -> str:
        """Return the text of a hash, exactly as it was put."""
        with self._reading() as connection:
            row = connection.execute(
                "SELECT text FROM texts WHERE hash = ?", (printable(text_hash),)
            ).fetchone()
        if row is None:
            raise unknown_text(text_hash, self.path)
        return text_from_column(row[0])

    def texts(self, hashes: Sequence[str]) -> tuple[str, ...]:
        """Return the texts of some hashes, in their order."""
        found: dict[str, str] = {}
        for start in range(0, len(hashes), _TEXTS_AT_ONCE):
            some = hashes[start : start + _TEXTS_AT_ONCE]
            marks = ", ".join("?" * len(some))
            with self._reading() as connection:
                rows = connection.execute(
                    f"SELECT hash, text FROM texts WHERE hash IN ({marks})", some
                ).fetchall()
            found.update((name, text_from_column(value)) for name, value in rows)
        for name in hashes:
            if name not in found:
                raise unknown_text(name, self.path)
        return tuple(found[name] for name in hashes)

    def find(self, run: str, kind: str, key: str) -> AnyEvent | None:
        """Return the latest event of a kind under a key, or None."""
        with self._reading() as connection:
            row = connection.execute(
                "SELECT seq, body FROM events WHERE run = ? AND kind = ? AND key = ? "
                "ORDER BY seq DESC LIMIT 1",
                (run, kind, printable(key)),
            ).fetchone()
        return None if row is None else decode_event(row[1], run, row[0])

    def events(
        self, run: str, kinds: Collection[str] | None = None, *, after: int = 0
    ) -> Iterator[tuple[int, float, AnyEvent]]:
        """Iterate over the events of a run, in order, with their numbers and times.

        They are fetched in batches, so that a slow reader neither holds them all nor keeps the
        writer's log from being cleared. What is appended meanwhile is seen too.
        """
        with self._reading() as connection:
            if connection.execute("SELECT 1 FROM runs WHERE id = ?", (run,)).fetchone() is None:
                raise unknown_run(run, self.path)
        return self._in_batches(run, kinds, after)

    def keyed(
        self, run: str, kind: str, prefix: str, limit: int | None = None
    ) -> list[tuple[int, AnyEvent]]:
        """Return the events of a kind whose keys begin so, in order, with their numbers."""
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT seq, body FROM events WHERE run = ? AND kind = ? AND key >= ? AND key < ? "
                "ORDER BY seq LIMIT ?",
                (run, kind, prefix, after_prefix(prefix), -1 if limit is None else limit),
            ).fetchall()
        return [(seq, decode_event(body, run, seq)) for seq, body in rows]

    def select(self, query: str, parameters: Sequence[Value] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query; see `Store.select`."""
        with self._reading() as connection:
            if self._lacks_totals:
                make_totals(connection, temporary=True)
                self._lacks_totals = False
            return connection.execute(query, parameters).fetchall()

    def runs(self) -> list[RunRow]:
        """Return all runs, the oldest first."""
        with self._reading() as connection:
            rows = connection.execute(f"{_RUNS} ORDER BY runs.rowid").fetchall()
        return [run_row(*row) for row in rows]

    def run(self, run: str) -> RunRow:
        """Return one run by its full id."""
        with self._reading() as connection:
            row = connection.execute(f"{_RUNS} WHERE runs.id = ?", (printable(run),)).fetchone()
        if row is None:
            raise unknown_run(run, self.path)
        return run_row(*row)

    def resolve(self, run_prefix: str) -> str:
        """Return the id that a user means by an id, the beginning of one, or `latest`."""
        with self._reading() as connection:
            ids = [row[0] for row in connection.execute("SELECT id FROM runs ORDER BY rowid DESC")]
        return meant_run(run_prefix, ids, self.path)

    def free_bytes(self) -> int | None:
        """By how much the store may grow: what the disk, or a limit on files, leaves."""
        return free_bytes(self._real)

    def check(self) -> list[str]:
        """Look the whole store over and return what is wrong with it, in sentences.

        It reads everything, and an appending thread waits meanwhile: run it on a reader.
        """
        found: list[str] = []
        with self._reading() as connection:
            connection.execute("BEGIN")
            try:
                for problem in problems(connection):
                    found.append(problem)
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                # Damage may be such that reading on is impossible; what was found still counts.
                found.append(f"The file cannot be read to its end: {error}.")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        return found

    def close(self) -> None:
        """Let go of the file and, for a writer, of the lock; a second call does nothing."""
        if os.getpid() != self._pid:
            # Closing here could clear the log under the process that still writes it.
            return
        connection = self._shared.take()
        if connection is None:
            return
        try:
            with explained(self.path):
                if self._writer_lock is not None:
                    _clear_log(connection)
                connection.close()
        finally:
            if self._writer_lock is not None:
                self._writer_lock.release()

    def __enter__(self) -> "SQLiteStore":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _in_batches(
        self, run: str, kinds: Collection[str] | None, after: int
    ) -> Iterator[tuple[int, float, AnyEvent]]:
        select = "SELECT seq, at, body FROM events WHERE run = ? AND seq > ?"
        if kinds is None:
            wanted: list[tuple[str, ...]] = [()]
            parts = [select]
        elif self._has_kinds and not set(kinds).intersection(FREQUENT):
            # A part for each kind, which the index has in order. With IN, SQLite would sort all
            # that is left of these kinds for each batch.
            wanted = [(one,) for one in dict.fromkeys(kinds)]
            parts = [f"{select} AND kind = ? AND {IS_INDEXED}"] * len(wanted)
        else:
            wanted = [tuple(kinds)]
            parts = [f"{select} AND +kind IN ({', '.join('?' * len(kinds))})"]
        query = f"{' UNION ALL '.join(parts)} ORDER BY seq LIMIT {BATCH}"
        while parts:
            parameters = [value for one in wanted for value in (run, after, *one)]
            with self._reading() as connection:
                rows = connection.execute(query, parameters).fetchall()
            for seq, at, body in rows:
                yield seq, at, decode_event(body, run, seq)
            if len(rows) < BATCH:
                return
            after = rows[-1][0]

    @property
    def _connection(self) -> sqlite3.Connection | None:
        return self._shared.connection

    def _reading(self) -> SharedConnection:
        require_process(self._pid, self.path)
        return self._shared

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        if self._writer_lock is None:
            raise read_only_store(self.path)
        with self._reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")


def _clear_log(connection: sqlite3.Connection) -> None:
    """Move all of the log into the file, which closing does only where no reader is left."""
    # Where it fails, the log stays and is complete; the next writer moves it.
    with suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
