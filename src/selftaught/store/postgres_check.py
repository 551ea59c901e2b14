"""What `check` looks at in a Postgres store: numbering, events, texts, totals."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from selftaught.errors import StoreError
from selftaught.events import kind
from selftaught.store.event_store import bytes_hash
from selftaught.store.integrity import config_problems
from selftaught.store.ledger import Ledger, differences
from selftaught.store.names import Names
from selftaught.store.postgres_schema import WITH_TOTALS, schema_version
from selftaught.store.record import decode_event, referenced_texts, without_nul

if TYPE_CHECKING:
    import psycopg

_BATCH = 500


def problems(connection: "psycopg.Connection[Any]") -> Iterator[str]:
    """Yield one sentence for each thing that is wrong, nothing for a sound store.

    The caller holds a transaction, so that all of it is seen as of one moment.
    """
    from psycopg import sql

    for run, config in connection.execute("SELECT id, config FROM runs"):
        yield from config_problems(run, config)
    query = "SELECT run, count(*), min(seq), max(seq) FROM events GROUP BY run ORDER BY run"
    for run, count, first, last in connection.execute(query):
        if first != 1 or last != count:
            yield (
                f"Run {run!r} has {count} events numbered {first} to {last}; "
                "they should run from 1 without a gap."
            )
    ledger = Ledger(without_nul)
    with Names() as hashes:
        with connection.cursor(name="texts") as cursor:
            cursor.itersize = _BATCH
            for name, value in cursor.execute("SELECT hash, text FROM texts"):
                hashes.add(name)
                if bytes_hash(bytes(value)) != name:
                    yield f"The text {name!r} is not the text that was stored under this hash."
        yield from _events(connection, hashes, ledger)
    if (schema_version(connection) or 0) >= WITH_TOTALS:
        yield from differences(
            ledger,
            lambda table: connection.execute(
                sql.SQL(f"SELECT {', '.join((*table.columns, *table.derived))} FROM {table.name}")
            ),
        )


def _events(connection: "psycopg.Connection[Any]", hashes: Names, ledger: Ledger) -> Iterator[str]:
    with connection.cursor(name="events") as cursor:
        cursor.itersize = _BATCH
        rows = cursor.execute(
            "SELECT run, seq, kind, key, body::text FROM events ORDER BY run, seq"
        )
        for run, seq, stored_kind, key, body in rows:
            try:
                event = decode_event(body, run, seq)
            except StoreError as error:
                yield str(error)
                continue
            ledger.add(run, seq, event)
            if (kind(event), event.key.replace("\0", "\\u0000")) != (stored_kind, key):
                yield (
                    f"Event {seq} of run {run!r} is entered under a kind or key that is not its "
                    "own."
                )
            for name in referenced_texts(event):
                if name not in hashes:
                    yield f"Event {seq} of run {run!r} refers to text {name!r}, which is missing."
