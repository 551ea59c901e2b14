"""What `check` looks at: the file itself, numbering, events, the texts they refer to, totals."""

import sqlite3
from collections.abc import Iterator

from selftaught.errors import StoreError
from selftaught.events import kind
from selftaught.store.event_store import bytes_hash
from selftaught.store.ledger import Ledger, differences
from selftaught.store.migrations import WITH_TOTALS, schema_version
from selftaught.store.names import Names
from selftaught.store.record import decode_config, decode_event, referenced_texts


def problems(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield one sentence for each thing that is wrong, nothing for a sound store.

    The caller holds a read transaction, so that all of it is seen as of one moment.
    """
    for (finding,) in connection.execute("PRAGMA integrity_check"):
        if finding != "ok":
            yield f"SQLite's own check found: {finding}."
    for table, _, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        yield f"A row of {table!r} refers to a row of {parent!r} that does not exist."
    for run, config in connection.execute("SELECT id, CAST(config AS BLOB) FROM runs"):
        yield from config_problems(run, config or b"")
    yield from _numbering(connection)
    ledger = Ledger()
    with Names() as hashes:
        # As bytes: damage may have left something that is no UTF-8.
        for name, value in connection.execute("SELECT hash, CAST(text AS BLOB) FROM texts"):
            hashes.add(name)
            if bytes_hash(value or b"") != name:
                yield f"The text {name!r} is not the text that was stored under this hash."
        yield from _events(connection, hashes, ledger)
    if (schema_version(connection) or 0) >= WITH_TOTALS:
        yield from differences(
            ledger,
            lambda table: connection.execute(
                f"SELECT {', '.join((*table.columns, *table.derived))} FROM {table.name}"
            ),
        )


def config_problems(run: str, config: bytes | str) -> Iterator[str]:
    """Yield what is wrong with the configuration of a run, which is what it is resumed by."""
    try:
        decode_config(config, run)
    except StoreError:
        yield f"The configuration of run {run!r} cannot be read."


def _numbering(connection: sqlite3.Connection) -> Iterator[str]:
    query = "SELECT run, count(*), min(seq), max(seq) FROM events GROUP BY run"
    for run, count, first, last in connection.execute(query):
        if first != 1 or last != count:
            yield (
                f"Run {run!r} has {count} events numbered {first} to {last}; "
                "they should run from 1 without a gap."
            )


def _events(connection: sqlite3.Connection, hashes: Names, ledger: Ledger) -> Iterator[str]:
    query = "SELECT run, seq, kind, key, CAST(body AS BLOB) FROM events ORDER BY run, seq"
    for run, seq, stored_kind, key, body in connection.execute(query):
        try:
            event = decode_event(body or b"", run, seq)
        except StoreError as error:
            yield str(error)
            continue
        ledger.add(run, seq, event)
        if (kind(event), event.key) != (stored_kind, key):
            yield f"Event {seq} of run {run!r} is entered under a kind or key that is not its own."
        for name in referenced_texts(event):
            if name not in hashes:
                yield f"Event {seq} of run {run!r} refers to text {name!r}, which is missing."
