"""What can be found in a damaged Postgres store: rows one by one where more at once fail."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, LiteralString

from selftaught.store.salvage import Findings

if TYPE_CHECKING:
    import psycopg

_TABLES: tuple[tuple[str, LiteralString], ...] = (
    ("runs", "SELECT id, created_at, command, config FROM runs"),
    (
        "events",
        "SELECT run, seq, at, kind, key, convert_to(body::text, 'UTF8') FROM events",
    ),
    ("texts", "SELECT hash, text FROM texts"),
)
# No page holds more rows.
_ROWS_OF_PAGE = 300


def find_rows(connection: "psycopg.Connection[Any]", findings: Findings) -> None:
    """Take up all rows that the server gives.

    Args:
        connection: in autocommit mode, so that one row that fails leaves the others alone.
        findings: where to.
    """
    take: dict[str, Callable[..., None]] = {
        "runs": findings.add_run,
        "events": lambda run, seq, at, kind, key, body: findings.add_event(
            run, seq, at, kind, key, bytes(body)
        ),
        "texts": lambda name, content: findings.add_text(name, bytes(content)),
    }
    for table, query in _TABLES:
        row = connection.execute(
            "SELECT pg_relation_size(%s) / current_setting('block_size')::int", (table,)
        ).fetchone()
        blocks = int(row[0]) if row else 0
        for values in _rows(connection, query, 0, blocks):
            take[table](*values)


def _rows(
    connection: "psycopg.Connection[Any]", query: LiteralString, first: int, end: int
) -> Iterator[tuple[Any, ...]]:
    """The rows in some blocks of a table, by halves where a block among them is damaged."""
    import psycopg

    step = 64
    for start in range(first, end, step):
        stop = min(end, start + step)
        ranges = [(start, stop)]
        while ranges:
            low, high = ranges.pop()
            try:
                rows = _between(connection, query, f"({low},0)", f"({high},0)")
            except psycopg.OperationalError:
                raise
            except psycopg.Error:
                if high - low > 1:
                    middle = (low + high) // 2
                    ranges += [(middle, high), (low, middle)]
                    continue
                rows = list(_one_by_one(connection, query, low))
            yield from rows


def _one_by_one(
    connection: "psycopg.Connection[Any]", query: LiteralString, block: int
) -> Iterator[tuple[Any, ...]]:
    import psycopg

    for item in range(1, _ROWS_OF_PAGE):
        try:
            yield from _between(connection, query, f"({block},{item})", f"({block},{item + 1})")
        except psycopg.OperationalError:
            raise
        except psycopg.Error:
            continue


def _between(
    connection: "psycopg.Connection[Any]", query: LiteralString, low: str, high: str
) -> list[tuple[Any, ...]]:
    return connection.execute(
        query + " WHERE ctid >= %s::tid AND ctid < %s::tid", (low, high)
    ).fetchall()
