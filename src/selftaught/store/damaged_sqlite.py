"""What can be found in a damaged SQLite store, and what its files alone tell."""

import fcntl
import os
import re

from selftaught.errors import StoreError
from selftaught.store.migrations import MIGRATIONS
from selftaught.store.salvage import Findings
from selftaught.store.sqlite_pages import Pages, Row, Value

_MIGRATION = re.compile(rb"m([0-9]{3})_[a-z_]+")


def find_rows(path: str, findings: Findings) -> None:
    """Take up all that the pages of a store and of its log hold.

    Raises:
        StoreError: it cannot be read, or is of a later version.
    """
    version = 0
    try:
        with Pages(path) as pages:
            for row in pages.rows():
                version = max(version, _version(row.values))
                _take_up(row, findings)
    except OSError as error:
        raise StoreError(f"The store {path!r} cannot be read ({error.strerror}).") from error
    if version > len(MIGRATIONS):
        raise StoreError(
            f"The store {path!r} has schema {version}, and this version of selftaught knows none "
            f"after {len(MIGRATIONS)}: update selftaught."
        )


def told_by_files(path: str) -> list[str]:
    """What is wrong with the files of a store, as seen without opening one as a database."""
    found = []
    log = path + "-wal"
    holds_log = os.path.exists(log) and os.path.getsize(log) > 0
    if os.path.getsize(path) == 0:
        found.append(
            f"The file {path!r} is empty, and its log {log!r} is not: it was cut off."
            if holds_log
            else f"The file {path!r} is empty: no run was ever started in it, or it was cut off."
        )
    writer = _dead_writer(path)
    if writer and not os.path.exists(log):
        found.append(
            f"The last writer, process {writer}, did not close the store, and its log {log!r} is "
            "gone: what it had recorded there cannot be read."
        )
    return found


def refuse_written(path: str) -> None:
    """Raise StoreError where a process writes to a store at this moment."""
    holder = _lock(path)
    if holder is not None and holder[0]:
        raise StoreError(
            f"The store {path!r} is being written by process {holder[1] or '?'}: wait until that "
            "has ended, or end it."
        )


def _dead_writer(path: str) -> str:
    """The process that wrote a store last, where it ended without closing it."""
    holder = _lock(path)
    return "" if holder is None or holder[0] else holder[1]


def _lock(path: str) -> tuple[bool, str] | None:
    """Whether a store's lock is held, and the process it names; None where there is no lock."""
    try:
        fd = os.open(path + ".lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        named = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True, named
    finally:
        os.close(fd)
    return False, named


def _version(values: tuple[Value, ...]) -> int:
    match values:
        case (None, bytes(name), float() | int()):
            found = _MIGRATION.fullmatch(name)
            return int(found[1]) if found else 0
    return 0


def _take_up(row: Row, findings: Findings) -> None:
    """Tell by its form what a row is of; columns that later versions add come last."""
    try:
        match row.values:
            # Rows are numbered over all runs, so none has a lower number than in its own.
            case (bytes(run), bytes(kind), bytes(key), int(seq), int(rowid)) if row.rowid is None:
                if seq <= rowid:
                    findings.add_entry(run.decode(), seq, kind.decode(), key.decode())
            case (bytes(run), int(seq), int(rowid)) if row.rowid is None:
                if seq <= rowid:
                    findings.add_entry(run.decode(), seq)
            case (bytes(run), int(seq), float(at) | int(at), bytes(kind), bytes(key), body, *_):
                if isinstance(body, bytes) and row.rowid is not None and seq <= row.rowid:
                    findings.add_event(
                        run.decode(), seq, float(at), kind.decode(), key.decode(), body
                    )
            case (bytes(run), float(at) | int(at), bytes(command), bytes(config), *_):
                findings.add_run(run.decode(), float(at), command.decode(), config.decode())
            case (bytes(name), bytes(content), *_) if row.rowid is not None:
                findings.add_text(name.decode(), content)
    except UnicodeDecodeError:
        # A name that is no text names nothing.
        return
