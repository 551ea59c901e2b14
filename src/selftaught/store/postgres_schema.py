"""The tables and views of a Postgres store, as steps that are each applied once.

The same rules as for SQLite (`selftaught.store.migrations`): a released step is never edited, and
what it made is only added to. The views have the same names and columns.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, LiteralString

from selftaught.errors import StoreError
from selftaught.store import ledger, totals
from selftaught.store.record import without_nul

if TYPE_CHECKING:
    import psycopg

# An index on the hash of the key: a key may be longer than a btree takes.
_TABLES: tuple[LiteralString, ...] = (
    """
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    number BIGINT GENERATED ALWAYS AS IDENTITY UNIQUE,
    created_at DOUBLE PRECISION NOT NULL,
    command TEXT NOT NULL,
    config TEXT NOT NULL
)""",
    """
CREATE TABLE events (
    run TEXT NOT NULL REFERENCES runs (id),
    seq BIGINT NOT NULL,
    at DOUBLE PRECISION NOT NULL,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    body JSON NOT NULL,
    PRIMARY KEY (run, seq)
)""",
    "CREATE INDEX events_by_key ON events (run, kind, md5(key), seq)",
    "CREATE TABLE texts (hash TEXT PRIMARY KEY, text BYTEA NOT NULL)",
    """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION '% are append-only', TG_TABLE_NAME; END $$""",
    """
CREATE FUNCTION numbered() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.seq IS DISTINCT FROM
        (SELECT coalesce(max(seq), 0) + 1 FROM events WHERE run = NEW.run) THEN
        RAISE EXCEPTION 'events are numbered 1, 2, 3, ... within their run';
    END IF;
    RETURN NEW;
END $$""",
    """
CREATE TRIGGER events_are_numbered BEFORE INSERT ON events
FOR EACH ROW EXECUTE FUNCTION numbered()""",
    *(
        f"CREATE TRIGGER no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse()"
        for table in ("runs", "events", "texts")
    ),
)

_TEXT, _INT, _REAL, _BOOL = "text", "bigint", "double precision", "boolean"


def _fields(**types: str) -> str:
    """Columns out of the body of an event, named as its fields."""
    return ", ".join(f"(body ->> '{name}')::{kind} AS {name}" for name, kind in types.items())


_OUTCOME = """
    body #>> '{outcome,type}' AS outcome,
    (body #>> '{outcome,value}')::double precision AS value,
    (body #>> '{outcome,standard_error}')::double precision AS standard_error,
    body #>> '{outcome,reason}' AS reason"""

# Postgres refuses to take a text with NUL out of JSON. The body keeps it; what is shown does not.
_VIEWS = (
    r"""
CREATE VIEW readable_events AS
SELECT run, seq, at, kind, key,
    CASE WHEN strpos(body::text, '\u0000') > 0
        THEN replace(body::text, '\u0000', '\ufffd')::json ELSE body END AS body
FROM events""",
    """
CREATE VIEW v_runs AS
SELECT runs.id AS run, created_at, command,
    CASE kind WHEN 'run_ended' THEN body ->> 'status' ELSE 'unfinished' END AS status,
    CASE kind WHEN 'run_ended' THEN body ->> 'reason' ELSE '' END AS reason,
    CASE kind WHEN 'run_ended' THEN at END AS ended_at,
    (SELECT coalesce(max(seq), 0) FROM events WHERE events.run = runs.id) AS events,
    config
FROM runs LEFT JOIN LATERAL (
    SELECT kind, at, body FROM readable_events AS events
    WHERE events.run = runs.id AND kind IN ('run_started', 'run_resumed', 'run_ended')
    ORDER BY seq DESC LIMIT 1) AS mark ON true""",
    f"""
CREATE VIEW v_rounds AS
WITH ended AS (
    SELECT run, seq, at,
        {_fields(round=_INT, candidate=_TEXT, improver=_TEXT, accepted=_BOOL, reason=_TEXT)},
        row_number() OVER (PARTITION BY run, body ->> 'round' ORDER BY seq) AS time
    FROM readable_events WHERE kind = 'round_ended')
SELECT run, round, candidate, improver,
    lag(improver) OVER (PARTITION BY run ORDER BY seq) AS parent,
    accepted, reason, at,
    coalesce(lag(seq) OVER (PARTITION BY run ORDER BY seq), 0) + 1 AS first_seq,
    seq AS last_seq
FROM ended WHERE time = 1""",
    f"""
CREATE VIEW v_answers AS
SELECT run, seq, at,
    {_fields(job=_TEXT, content_hash=_TEXT, occurrence=_INT, model=_TEXT, temperature=_REAL)},
    json_array_length(body -> 'texts') AS responses,
    json_array_length(body -> 'truncated') AS truncated,
    {_fields(prompt_tokens=_INT, completion_tokens=_INT, dollars=_REAL, seconds=_REAL)},
    {_fields(attempts=_INT, expertise=_TEXT, message=_TEXT)}
FROM readable_events WHERE kind = 'answered'""",
    """
CREATE VIEW v_responses AS
SELECT run, seq, body ->> 'job' AS job, each.place - 1 AS response, each.hash AS hash,
    texts.text AS text
FROM readable_events,
    json_array_elements_text(body -> 'texts') WITH ORDINALITY AS each (hash, place)
    LEFT JOIN texts ON texts.hash = each.hash
WHERE kind = 'answered'""",
    f"""
CREATE VIEW v_scores AS
SELECT run, seq, at, {_fields(task=_TEXT, solution=_TEXT, split=_TEXT, repeat=_INT)}, {_OUTCOME},
    coalesce(json_array_length(body #> '{{outcome,values}}'), 0) AS instances,
    coalesce((SELECT sum(value::bigint) FROM json_each_text(body #> '{{outcome,failures}}')), 0)
        AS failed_instances,
    {_fields(seconds=_REAL)}
FROM readable_events WHERE kind = 'evaluated'""",
    f"""
CREATE VIEW v_requests AS
WITH asked AS (
    SELECT run, seq, at,
        {_fields(job=_TEXT, call=_INT, solution=_TEXT, outcome=_TEXT, value=_REAL, calls=_INT)},
        {_fields(responses=_INT)},
        row_number() OVER (
            PARTITION BY run, body ->> 'job', body ->> 'call' ORDER BY seq DESC) AS time
    FROM readable_events WHERE kind = 'requested')
SELECT run, job, call, solution, outcome, value,
    max(value) OVER (PARTITION BY run, job ORDER BY call) AS best,
    calls, responses, seq, at
FROM asked WHERE time = 1""",
    f"""
CREATE VIEW v_improvements AS
SELECT run, seq, at, {_fields(job=_TEXT, improver=_TEXT, initial=_TEXT, target=_TEXT)},
    body #>> '{{outcome,type}}' AS outcome,
    body #>> '{{outcome,reason}}' AS reason,
    body #>> '{{outcome,source}}' AS source,
    {_fields(unchanged=_BOOL, calls=_INT, responses=_INT, utility_calls=_INT, seconds=_REAL)}
FROM readable_events WHERE kind = 'improved'""",
    f"""
CREATE VIEW v_meta_scores AS
SELECT run, seq, at, {_fields(improver=_TEXT, split=_TEXT)}, {_OUTCOME},
    body -> 'by_task' AS by_task
FROM readable_events WHERE kind = 'meta_evaluated'""",
    """
CREATE VIEW v_failures AS
SELECT run, seq, at, kind AS during,
    body #>> '{outcome,type}' AS outcome,
    body #>> '{outcome,reason}' AS reason,
    CASE kind WHEN 'evaluated' THEN body ->> 'solution' ELSE body ->> 'improver' END AS program
FROM readable_events
WHERE kind IN ('evaluated', 'improved', 'meta_evaluated')
    AND body #>> '{outcome,type}' NOT IN ('scored', 'returned')""",
    f"""
CREATE VIEW v_refusals AS
SELECT run, seq, at, {_fields(job=_TEXT, times=_INT)}, body ->> 'limit' AS "limit"
FROM readable_events WHERE kind = 'budget_refused'""",
    f"""
CREATE VIEW v_attempts AS
SELECT run, seq, at, {_fields(job=_TEXT, what=_TEXT, detail=_TEXT)}
FROM readable_events WHERE kind = 'attempted'""",
    f"""
CREATE VIEW v_pauses AS
SELECT run, seq, at, {_fields(what=_TEXT, detail=_TEXT, seconds=_REAL)}
FROM readable_events WHERE kind = 'paused'""",
)

_COSTS = (
    f"""
CREATE VIEW v_costs AS
WITH call AS (
    SELECT run, seq, at, kind = 'answered' AS answered, {_fields(job=_TEXT, model=_TEXT)},
        CASE WHEN strpos(body ->> 'job', '/') > 0 THEN split_part(body ->> 'job', '/', 1)
            ELSE '' END AS phase,
        substr(body ->> 'job', strpos(body ->> 'job', '/') + 1) AS rest,
        coalesce(json_array_length(body -> 'texts'), 0) AS responses,
        {_fields(prompt_tokens=_INT, cached_tokens=_INT, completion_tokens=_INT)},
        {_fields(reasoning_tokens=_INT, dollars=_REAL, lost_tokens=_INT, lost_dollars=_REAL)},
        {_fields(seconds=_REAL)}
    FROM readable_events WHERE kind IN ('answered', 'unanswered'))
SELECT call.run AS run, call.seq AS seq, call.at AS at, within_.round AS round, phase,
    CASE phase
        WHEN 'round' THEN (
            SELECT before.improver FROM v_rounds AS before
            WHERE before.run = call.run AND (before.round + 1)::text = rest)
        ELSE split_part(rest, '/', 1) END AS improver,
    job, model, answered, responses,
    coalesce(prompt_tokens, 0) AS prompt_tokens, coalesce(cached_tokens, 0) AS cached_tokens,
    coalesce(completion_tokens, 0) AS completion_tokens,
    coalesce(reasoning_tokens, 0) AS reasoning_tokens,
    dollars, coalesce(lost_tokens, 0) AS lost_tokens,
    coalesce(lost_dollars, 0) AS lost_dollars, seconds
FROM call LEFT JOIN v_rounds AS within_
    ON within_.run = call.run AND call.seq BETWEEN within_.first_seq AND within_.last_seq""",
)

# A key may be longer than a btree takes; what is looked up by its beginning is shorter.
PREFIX_CHARS = 200
# Scores are looked up by their whole keys.
HAS_PREFIX: LiteralString = "kind <> 'evaluated'"
_TOTALS = (
    f"CREATE INDEX events_by_kind ON events (run, kind, seq) WHERE {totals.IS_INDEXED}",
    f"""
CREATE INDEX events_by_prefix ON events (run, kind, (left(key, {PREFIX_CHARS}) COLLATE "C"))
WHERE {HAS_PREFIX}""",
    *totals.create_statements(real=_REAL, clustered=""),
)

MIGRATIONS: tuple[tuple[str, Sequence[str]], ...] = (
    ("tables", _TABLES),
    ("views", _VIEWS),
    ("costs", _COSTS),
    ("totals", _TOTALS),
)
# From this step on a store has the tables of totals.
WITH_TOTALS = 4
_BATCH = 500
# Together with the hash of a run's id: the lock of that run, among all users of the database.
RUN_LOCKS = 0x53544F50
# Whoever opens a new database first makes it; others wait that long.
_LOCK = 0x53544F51
_RECORD = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    applied_at DOUBLE PRECISION NOT NULL
)"""


def schema_version(connection: "psycopg.Connection[Any]") -> int | None:
    """How many steps a database has been taken through; None where it holds no store."""
    row = connection.execute("SELECT to_regclass('schema_migrations')").fetchone()
    if row is None or row[0] is None:
        return None
    row = connection.execute("SELECT coalesce(max(number), 0) FROM schema_migrations").fetchone()
    return int(row[0]) if row is not None else None


def migrate(connection: "psycopg.Connection[Any]", now: float) -> None:
    """Take a database through the steps it lacks, all or none of them.

    Args:
        connection: in autocommit mode.
        now: seconds since the epoch, recorded with each step.

    Raises:
        StoreError: a step is lacking while a process of an earlier version writes a run.
    """
    from psycopg import sql

    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        connection.execute(_RECORD)
        done = schema_version(connection) or 0
        if 0 < done < len(MIGRATIONS):
            _refuse_writers(connection)
        for number, (name, statements) in enumerate(MIGRATIONS[done:], start=done + 1):
            for statement in statements:
                # The statements stand above, in this file; nothing of a user's is in them.
                connection.execute(sql.SQL(statement))
            if number == WITH_TOTALS:
                fill_totals(connection)
            connection.execute(
                "INSERT INTO schema_migrations VALUES (%s, %s, %s)", (number, name, now)
            )


def _refuse_writers(connection: "psycopg.Connection[Any]") -> None:
    """What a process of an earlier version records after a step is in no table that it made."""
    row = connection.execute(
        "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database "
        "WHERE locktype = 'advisory' AND classid = %s AND datname = current_database()",
        (RUN_LOCKS,),
    ).fetchone()
    if row is not None and row[0]:
        raise StoreError(
            "The store is of an earlier version, and a process of that version writes a run to "
            "it: wait until that has ended; what opens it for writing next brings it up to date."
        )


def make_temporary_totals(connection: "psycopg.Connection[Any]") -> None:
    """Make the tables of totals for this connection alone, to a store without them."""
    from psycopg import sql

    with connection.transaction():
        for statement in totals.create_statements(real=_REAL, clustered="", temporary=True):
            connection.execute(sql.SQL(statement))
        fill_totals(connection)


def fill_totals(connection: "psycopg.Connection[Any]") -> None:
    """Count all events; the tables of totals are empty, and a transaction is open."""

    def insert(table: totals.Table, rows: list[list[totals.Value]]) -> None:
        with connection.cursor() as cursor:
            cursor.executemany(sql.SQL(totals.insert_sql(table, "%s")), rows)

    from psycopg import sql

    with connection.cursor(name="counted") as events:
        events.itersize = _BATCH
        ledger.fill(
            events.execute("SELECT run, seq, body::text FROM events ORDER BY run, seq"),
            insert,
            without_nul,
        )
