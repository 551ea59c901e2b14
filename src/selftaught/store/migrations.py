"""The schema as a list of steps, each applied once to every store and recorded in it.

A step that has been released is never edited: a later one alters what it made. Tables and columns
are only added, so that an older store can be read without changing it.
"""

import sqlite3
from collections.abc import Callable, Sequence

from selftaught.store import ledger, totals

Migration = Callable[[sqlite3.Connection], None]


def m001_tables(connection: sqlite3.Connection) -> None:
    """Runs, events and texts, each of which may only grow."""
    for statement in _TABLES + _APPEND_ONLY:
        connection.execute(statement)


def m002_views(connection: sqlite3.Connection) -> None:
    """One view per question that is asked of the events."""
    for statement in _VIEWS:
        connection.execute(statement)


def m003_costs(connection: sqlite3.Connection) -> None:
    """What every call cost, with the round and the improver that it was made for."""
    connection.execute(_COSTS)


def m004_totals(connection: sqlite3.Connection) -> None:
    """Running totals of each run, counted from its events; events of one kind in their order."""
    connection.execute(
        f"CREATE INDEX events_by_kind ON events (run, kind, seq) WHERE {totals.IS_INDEXED}"
    )
    make_totals(connection)


def make_totals(connection: sqlite3.Connection, *, temporary: bool = False) -> None:
    """Make the tables of totals and count all events.

    Args:
        connection: to a store without them.
        temporary: make them for this connection alone, which may be open for reading only.
    """
    for statement in totals.create_statements(
        real="REAL", clustered=" WITHOUT ROWID", temporary=temporary
    ):
        connection.execute(statement)
    ledger.fill(
        connection.execute("SELECT run, seq, body FROM events ORDER BY run, seq"),
        lambda table, rows: connection.executemany(totals.insert_sql(table, "?"), rows),
    )


MIGRATIONS: list[Migration] = [m001_tables, m002_views, m003_costs, m004_totals]
# From this step on a store has the tables of totals.
WITH_TOTALS = 4


def schema_version(connection: sqlite3.Connection) -> int | None:
    """How many steps a database has been taken through; None where it is not a store at all."""
    tables = {
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    }
    if not tables:
        return 0
    if "schema_migrations" not in tables:
        return None
    (version,) = connection.execute(
        "SELECT coalesce(max(number), 0) FROM schema_migrations"
    ).fetchone()
    return int(version)


def migrate(
    connection: sqlite3.Connection, now: float, migrations: Sequence[Migration] = MIGRATIONS
) -> None:
    """Take a database through the steps it lacks, each in a transaction of its own.

    Args:
        connection: in autocommit mode.
        now: seconds since the epoch, recorded with each step.
        migrations: the steps, the first one numbered 1.
    """
    done = schema_version(connection) or 0
    for number, step in enumerate(migrations[done:], start=done + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(_RECORD)
            step(connection)
            connection.execute(
                "INSERT INTO schema_migrations VALUES (?, ?, ?)", (number, step.__name__, now)
            )
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


_RECORD = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    applied_at REAL NOT NULL
)"""

# Tables with a rowid: bodies are long, and clustering them under (run, seq) makes the file larger
# by a third or more and an append slower by a quarter (docs/adr/0004-event-store.md).
_TABLES = (
    """
CREATE TABLE runs (
    id TEXT PRIMARY KEY NOT NULL,
    created_at REAL NOT NULL,
    command TEXT NOT NULL,
    config TEXT NOT NULL
)""",
    """
CREATE TABLE events (
    run TEXT NOT NULL REFERENCES runs (id),
    seq INTEGER NOT NULL,
    at REAL NOT NULL,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (run, seq)
)""",
    "CREATE INDEX events_by_key ON events (run, kind, key, seq)",
    "CREATE TABLE texts (hash TEXT PRIMARY KEY NOT NULL, text NOT NULL)",
)

# The triggers before INSERT are there for INSERT OR REPLACE, which deletes without firing a
# trigger on DELETE.
_APPEND_ONLY = (
    """
CREATE TRIGGER runs_are_new BEFORE INSERT ON runs
WHEN EXISTS (SELECT 1 FROM runs WHERE id = NEW.id)
BEGIN SELECT raise(ABORT, 'a run is never replaced'); END""",
    """
CREATE TRIGGER events_are_numbered BEFORE INSERT ON events
WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM events WHERE run = NEW.run)
BEGIN SELECT raise(ABORT, 'events are numbered 1, 2, 3, ... within their run'); END""",
    """
CREATE TRIGGER texts_are_their_hash BEFORE INSERT ON texts
WHEN EXISTS (SELECT 1 FROM texts WHERE hash = NEW.hash AND text IS NOT NEW.text)
BEGIN SELECT raise(ABORT, 'another text is stored under this hash'); END""",
    *(
        f"""
CREATE TRIGGER no_{verb.lower()}_of_{table} BEFORE {verb} ON {table}
BEGIN SELECT raise(ABORT, '{table} are append-only'); END"""
        for table in ("runs", "events", "texts")
        for verb in ("UPDATE", "DELETE")
    ),
)


def _fields(names: str) -> str:
    """Columns out of the body of an event, named as its fields."""
    return ", ".join(f"json_extract(body, '$.{name}') AS {name}" for name in names.split())


_OUTCOME = """
    json_extract(body, '$.outcome.type') AS outcome,
    json_extract(body, '$.outcome.value') AS value,
    json_extract(body, '$.outcome.standard_error') AS standard_error,
    json_extract(body, '$.outcome.reason') AS reason"""

_VIEWS = (
    """
CREATE VIEW v_runs AS
SELECT runs.id AS run, created_at, command,
    CASE kind WHEN 'run_ended' THEN json_extract(body, '$.status') ELSE 'unfinished' END AS status,
    CASE kind WHEN 'run_ended' THEN json_extract(body, '$.reason') ELSE '' END AS reason,
    CASE kind WHEN 'run_ended' THEN at END AS ended_at,
    (SELECT coalesce(max(seq), 0) FROM events WHERE events.run = runs.id) AS events,
    config
FROM runs LEFT JOIN events AS mark ON mark.run = runs.id AND mark.seq = (
    SELECT max(seq) FROM events
    WHERE events.run = runs.id AND kind IN ('run_started', 'run_resumed', 'run_ended'))""",
    # A round that a resumed run ended again counts where it ended first: its window of events
    # must not move.
    f"""
CREATE VIEW v_rounds AS
WITH ended AS (
    SELECT run, seq, at, {_fields("round candidate improver accepted reason")},
        row_number() OVER (PARTITION BY run, json_extract(body, '$.round') ORDER BY seq) AS time
    FROM events WHERE kind = 'round_ended')
SELECT run, round, candidate, improver,
    lag(improver) OVER (PARTITION BY run ORDER BY seq) AS parent,
    accepted, reason, at,
    coalesce(lag(seq) OVER (PARTITION BY run ORDER BY seq), 0) + 1 AS first_seq,
    seq AS last_seq
FROM ended WHERE time = 1""",
    f"""
CREATE VIEW v_answers AS
SELECT run, seq, at, {_fields("job content_hash occurrence model temperature")},
    json_array_length(body, '$.texts') AS responses,
    json_array_length(body, '$.truncated') AS truncated,
    {_fields("prompt_tokens completion_tokens dollars seconds attempts expertise message")}
FROM events WHERE kind = 'answered'""",
    """
CREATE VIEW v_responses AS
SELECT run, seq, json_extract(body, '$.job') AS job, each.key AS response, each.value AS hash,
    texts.text AS text
FROM events, json_each(body, '$.texts') AS each LEFT JOIN texts ON texts.hash = each.value
WHERE kind = 'answered'""",
    f"""
CREATE VIEW v_scores AS
SELECT run, seq, at, {_fields("task solution split repeat")}, {_OUTCOME},
    coalesce(json_array_length(body, '$.outcome.values'), 0) AS instances,
    (SELECT coalesce(sum(value), 0) FROM json_each(body, '$.outcome.failures')) AS failed_instances,
    json_extract(body, '$.seconds') AS seconds
FROM events WHERE kind = 'evaluated'""",
    # A job that was killed and ran again has made its first requests twice: the last count.
    f"""
CREATE VIEW v_requests AS
WITH asked AS (
    SELECT run, seq, at, {_fields("job call solution outcome value calls responses")},
        row_number() OVER (
            PARTITION BY run, json_extract(body, '$.job'), json_extract(body, '$.call')
            ORDER BY seq DESC) AS time
    FROM events WHERE kind = 'requested')
SELECT run, job, call, solution, outcome, value,
    max(value) OVER (PARTITION BY run, job ORDER BY call) AS best,
    calls, responses, seq, at
FROM asked WHERE time = 1""",
    f"""
CREATE VIEW v_improvements AS
SELECT run, seq, at, {_fields("job improver initial target")},
    json_extract(body, '$.outcome.type') AS outcome,
    json_extract(body, '$.outcome.reason') AS reason,
    json_extract(body, '$.outcome.source') AS source,
    {_fields("unchanged calls responses utility_calls seconds")}
FROM events WHERE kind = 'improved'""",
    f"""
CREATE VIEW v_meta_scores AS
SELECT run, seq, at, {_fields("improver split")}, {_OUTCOME},
    json_extract(body, '$.by_task') AS by_task
FROM events WHERE kind = 'meta_evaluated'""",
    # One row per program that failed as a whole; instances that failed are counted in v_scores.
    """
CREATE VIEW v_failures AS
SELECT run, seq, at, kind AS during,
    json_extract(body, '$.outcome.type') AS outcome,
    json_extract(body, '$.outcome.reason') AS reason,
    CASE kind WHEN 'evaluated' THEN json_extract(body, '$.solution')
        ELSE json_extract(body, '$.improver') END AS program
FROM events
WHERE kind IN ('evaluated', 'improved', 'meta_evaluated')
    AND json_extract(body, '$.outcome.type') NOT IN ('scored', 'returned')""",
    f"""
CREATE VIEW v_refusals AS
SELECT run, seq, at, {_fields("job times")}, json_extract(body, '$.limit') AS "limit"
FROM events WHERE kind = 'budget_refused'""",
    f"""
CREATE VIEW v_attempts AS
SELECT run, seq, at, {_fields("job what detail")} FROM events WHERE kind = 'attempted'""",
    f"""
CREATE VIEW v_pauses AS
SELECT run, seq, at, {_fields("what detail seconds")} FROM events WHERE kind = 'paused'""",
)

# The improver of round/N is the one in force before it; other jobs have theirs in their name.
_COSTS = f"""
CREATE VIEW v_costs AS
WITH call AS (
    SELECT run, seq, at, kind = 'answered' AS answered, {_fields("job model")},
        substr(json_extract(body, '$.job'), 1, instr(json_extract(body, '$.job'), '/') - 1)
            AS phase,
        substr(json_extract(body, '$.job'), instr(json_extract(body, '$.job'), '/') + 1) AS rest,
        coalesce(json_array_length(body, '$.texts'), 0) AS responses,
        {_fields("prompt_tokens cached_tokens completion_tokens reasoning_tokens dollars")},
        coalesce(json_extract(body, '$.lost_tokens'), 0) AS lost_tokens,
        coalesce(json_extract(body, '$.lost_dollars'), 0.0) AS lost_dollars,
        {_fields("seconds")}
    FROM events WHERE kind IN ('answered', 'unanswered'))
SELECT call.run AS run, call.seq AS seq, call.at AS at, within.round AS round, phase,
    CASE phase
        WHEN 'round' THEN (
            SELECT before.improver FROM v_rounds AS before
            WHERE before.run = call.run AND before.round = CAST(rest AS INTEGER) - 1)
        ELSE substr(rest, 1, instr(rest || '/', '/') - 1) END AS improver,
    job, model, answered, responses,
    coalesce(prompt_tokens, 0) AS prompt_tokens, coalesce(cached_tokens, 0) AS cached_tokens,
    coalesce(completion_tokens, 0) AS completion_tokens,
    coalesce(reasoning_tokens, 0) AS reasoning_tokens,
    dollars, lost_tokens, lost_dollars, seconds
FROM call LEFT JOIN v_rounds AS within
    ON within.run = call.run AND call.seq BETWEEN within.first_seq AND within.last_seq"""
