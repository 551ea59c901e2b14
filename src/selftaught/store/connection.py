"""Opening the SQLite file, and what its errors mean for the user."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from selftaught.errors import StoreError
from selftaught.store.event_store import closed_store
from selftaught.store.migrations import MIGRATIONS, migrate, schema_version
from selftaught.store.room import FULL_BYTES, free_bytes

BUSY_TIMEOUT_S = 5.0
# Between checkpoints nothing waits for the disk. 4,000 pages are 16 MB of log.
CHECKPOINT_PAGES = 4000

# What SQLite's result codes mean for the user, after "The store 'x.db' ".
_SENTENCES = {
    sqlite3.SQLITE_NOTADB: "is not a SQLite database: name another file with --store.",
    sqlite3.SQLITE_CORRUPT: "is damaged ({error}): go back to a copy, or save what can still be "
    "read with `selftaught store repair`.",
    sqlite3.SQLITE_READONLY: "cannot be written: make the file and its folder writable, or name "
    "another file with --store.",
    # A journal beside the file is there only while a store is made; afterwards it has a log.
    sqlite3.SQLITE_READONLY_ROLLBACK: "was not made to the end, since its process was killed, and "
    "holds no run yet: the next `selftaught run` makes it whole.",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: look at the permissions of the file, of the files "
    "-wal and -shm beside it, and of their folder.",
    sqlite3.SQLITE_FULL: "cannot grow, since the disk is full ({free} free); what was recorded is "
    "kept. Make room, then `selftaught resume` goes on.",
    sqlite3.SQLITE_IOERR: "cannot be read or written, since the disk failed ({error}): look at "
    "the disk, or name a file on another one with --store.",
    sqlite3.SQLITE_BUSY: "is held by another program, such as a sqlite3 shell in a transaction: "
    "end that, then try again.",
    sqlite3.SQLITE_TOOBIG: "does not take a text of a gigabyte or more.",
}


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn what SQLite reports into a StoreError that says what to do."""
    try:
        yield
    except UnicodeDecodeError as error:
        # What SQLite says of a damaged file may quote it.
        sentence = _SENTENCES[sqlite3.SQLITE_CORRUPT].format(error="it holds text that is none")
        raise StoreError(f"The store {name!r} {sentence}") from error
    except sqlite3.Error as error:
        raise explanation(name, error) from error


def explanation(name: str, error: sqlite3.Error) -> StoreError:
    """What an error of SQLite means for the user."""
    code = getattr(error, "sqlite_errorcode", None)
    free = free_bytes(os.path.realpath(name))
    if code is not None and code & 0xFF == sqlite3.SQLITE_IOERR and (free or 0) < FULL_BYTES:
        # A limit on the size of a file, or a quota, is an error of the disk to SQLite.
        code = sqlite3.SQLITE_FULL if free is not None else code
    sentence = "cannot be read or written ({error})."
    if code is not None:
        general = _SENTENCES.get(code & 0xFF, "refused a request ({error}).")
        sentence = _SENTENCES.get(code, general)
    told = "some bytes" if free is None else f"{free:,} bytes"
    return StoreError(f"The store {name!r} {sentence.format(error=error, free=told)}")


class SharedConnection:
    """A connection that threads take turns with: a context, whose errors are explained.

    A class and no generator, since look-ups are many and short.

    Attributes:
        connection: None once it was taken away.
    """

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self.connection: sqlite3.Connection | None = connection
        self._name = name
        self._lock = threading.Lock()

    def __enter__(self) -> sqlite3.Connection:
        self._lock.acquire()
        if self.connection is None:
            self._lock.release()
            raise closed_store(self._name)
        return self.connection

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()
        if isinstance(error, sqlite3.Error):
            raise explanation(self._name, error) from error

    def take(self) -> sqlite3.Connection | None:
        """Take the connection away from all threads, when none uses it."""
        with self._lock:
            connection, self.connection = self.connection, None
        return connection


def _connect(real: str, query: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{Path(real).as_uri()}?{query}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )


def connect_reader(name: str, real: str) -> sqlite3.Connection:
    """Open a store for reading only; such a connection cannot clear the log (no checkpoint).

    Args:
        name: the path as the user gave it, for messages.
        real: the same with symbolic links resolved.

    Raises:
        StoreError: there is no store, or it cannot be read.
    """
    if not os.path.exists(real):
        raise StoreError(
            f"There is no store {name!r}: `selftaught run TASK --store {name}` makes one, or name "
            "another file with --store."
        )
    _refuse_folder(name, real)
    _keep_log(name, real)
    query = "mode=ro"
    may_make_log = os.access(os.path.dirname(real), os.W_OK, effective_ids=True)
    if not may_make_log and not os.path.exists(real + "-wal"):
        # Even a reader makes the two files of the log. Where it may not, and no log shows that
        # anybody writes, the file is read as it stands.
        query += "&immutable=1"
    with explained(name):
        connection = _connect(real, query)
        try:
            _check_version(connection, name)
            if schema_version(connection) == 0:
                raise StoreError(
                    f"The store {name!r} is empty, since no run was ever started in it: name "
                    "another file with --store."
                )
        except BaseException:
            connection.close()
            raise
    return connection


def connect_writer(name: str, real: str, now: float) -> sqlite3.Connection:
    """Open a store for writing, made where there is none and brought up to date.

    Args:
        name: the path as the user gave it, for messages.
        real: the same with symbolic links resolved; the caller holds its `WriterLock`.
        now: seconds since the epoch, recorded with each migration.

    Raises:
        StoreError: it cannot be written, or is no store of this version or an earlier one.
    """
    _refuse_folder(name, real)
    _keep_log(name, real)
    if os.path.exists(real) and not os.access(real, os.W_OK, effective_ids=True):
        # SQLite would open it all the same, for reading.
        raise StoreError(f"The store {name!r} {_SENTENCES[sqlite3.SQLITE_READONLY]}")
    with explained(name):
        connection = _connect(real, "mode=rwc")
        try:
            _check_version(connection, name)
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise StoreError(
                    f"The store {name!r} lies where SQLite cannot keep a write-ahead log, such as "
                    "on a network disk: name a file on a disk of this machine with --store."
                )
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            # Another program in the middle of writing shows here, before the run has begun.
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
            migrate(connection, now)
        except BaseException:
            connection.close()
            raise
    return connection


def _refuse_folder(name: str, real: str) -> None:
    if os.path.isdir(real):
        raise StoreError(f"{name!r} is a folder: name a file with --store.")


def _keep_log(name: str, real: str) -> None:
    """Raise StoreError where SQLite would take the log of an empty file away, with all it holds."""
    log = real + "-wal"
    if os.path.exists(log) and os.path.getsize(log) and not _size(real):
        raise StoreError(
            f"The store {name!r} is empty or gone, and its log {log!r} is not: `selftaught store "
            "repair` saves what can still be read."
        )


def _size(path: str) -> int:
    return os.path.getsize(path) if os.path.exists(path) else 0


def _check_version(connection: sqlite3.Connection, name: str) -> None:
    version = schema_version(connection)
    if version is None:
        raise StoreError(
            f"{name!r} is the database of another program: name another file with --store."
        )
    if version > len(MIGRATIONS):
        raise StoreError(
            f"The store {name!r} has schema {version}, and this version of selftaught knows none "
            f"after {len(MIGRATIONS)}: update selftaught, or name another file with --store."
        )
