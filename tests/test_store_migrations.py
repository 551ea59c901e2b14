"""The schema: made from nothing, brought up to date from its first version, refused when newer."""

import sqlite3
from pathlib import Path

import pytest

from selftaught.errors import StoreError
from selftaught.events import RunResumed, kind
from selftaught.store.migrations import MIGRATIONS, migrate, schema_version
from selftaught.store.sqlite import SQLiteStore

# A store as version 1 of the schema left it, with one run. It is never edited.
VERSION_1 = """
BEGIN TRANSACTION;
CREATE TABLE events (
    run TEXT NOT NULL REFERENCES runs (id),
    seq INTEGER NOT NULL,
    at REAL NOT NULL,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (run, seq)
);
INSERT INTO "events" VALUES('r-20261124-001',1,1795478402.0,'run_started','',
'{"type":"run_started","config":{"rounds":1}}');
INSERT INTO "events" VALUES('r-20261124-001',2,1795478403.0,'answered','r1|c0|0',
'{"type":"answered","job":"r1","content_hash":"c0","occurrence":0,
"expertise":"c7d253870ab8de38","message":"e5198d130344e5f8",
"temperature":0.7,"texts":[],"model":"mutation","prompt_tokens":0,
"completion_tokens":0,"dollars":null,"truncated":[],
"seconds":0.0,"attempts":1}');
INSERT INTO "events" VALUES('r-20261124-001',3,1795478404.0,'evaluated','three_sat|val|0|s0',
'{"type":"evaluated","task":"three_sat","solution":"s0","split":"val","repeat":0,
"outcome":{"type":"scored","value":0.5,"standard_error":0.1,
"values":[0.5,0.1],"failures":{"failed":1},"feedback":""},"seconds":0.25}');
INSERT INTO "events" VALUES('r-20261124-001',4,1795478405.0,'run_ended','',
'{"type":"run_ended","status":"done","reason":""}');
CREATE TABLE runs (
    id TEXT PRIMARY KEY NOT NULL,
    created_at REAL NOT NULL,
    command TEXT NOT NULL,
    config TEXT NOT NULL
);
INSERT INTO "runs" VALUES('r-20261124-001',1795478401.0,'selftaught run three_sat','{"rounds":1}');
CREATE TABLE schema_migrations (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    applied_at REAL NOT NULL
);
INSERT INTO "schema_migrations" VALUES(1,'m001_tables',1795478400.0);
CREATE TABLE texts (hash TEXT PRIMARY KEY NOT NULL, text NOT NULL);
INSERT INTO "texts" VALUES('c7d253870ab8de38','expert');
INSERT INTO "texts" VALUES('e5198d130344e5f8','improve this');
CREATE INDEX events_by_key ON events (run, kind, key, seq);
CREATE TRIGGER runs_are_new BEFORE INSERT ON runs
WHEN EXISTS (SELECT 1 FROM runs WHERE id = NEW.id)
BEGIN SELECT raise(ABORT, 'a run is never replaced'); END;
CREATE TRIGGER events_are_numbered BEFORE INSERT ON events
WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM events WHERE run = NEW.run)
BEGIN SELECT raise(ABORT, 'events are numbered 1, 2, 3, ... within their run'); END;
CREATE TRIGGER texts_are_their_hash BEFORE INSERT ON texts
WHEN EXISTS (SELECT 1 FROM texts WHERE hash = NEW.hash AND text IS NOT NEW.text)
BEGIN SELECT raise(ABORT, 'another text is stored under this hash'); END;
CREATE TRIGGER no_update_of_runs BEFORE UPDATE ON runs
BEGIN SELECT raise(ABORT, 'runs are append-only'); END;
CREATE TRIGGER no_delete_of_runs BEFORE DELETE ON runs
BEGIN SELECT raise(ABORT, 'runs are append-only'); END;
CREATE TRIGGER no_update_of_events BEFORE UPDATE ON events
BEGIN SELECT raise(ABORT, 'events are append-only'); END;
CREATE TRIGGER no_delete_of_events BEFORE DELETE ON events
BEGIN SELECT raise(ABORT, 'events are append-only'); END;
CREATE TRIGGER no_update_of_texts BEFORE UPDATE ON texts
BEGIN SELECT raise(ABORT, 'texts are append-only'); END;
CREATE TRIGGER no_delete_of_texts BEFORE DELETE ON texts
BEGIN SELECT raise(ABORT, 'texts are append-only'); END;
COMMIT;
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def old_path(path: Path) -> Path:
    shell = sqlite3.connect(path)
    shell.executescript(VERSION_1)
    shell.execute("PRAGMA journal_mode = WAL")
    shell.close()
    return path


def schema(path: Path) -> set[tuple[str, str]]:
    shell = sqlite3.connect(path)
    rows = shell.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    shell.close()
    return {(name, " ".join(sql.split())) for name, sql in rows}


def applied(path: Path) -> list[tuple[int, str, float]]:
    shell = sqlite3.connect(path)
    rows = shell.execute("SELECT * FROM schema_migrations ORDER BY number").fetchall()
    shell.close()
    return rows


def test_steps_are_numbered_by_their_names_without_a_gap() -> None:
    numbers = [int(step.__name__[1:4]) for step in MIGRATIONS]
    assert numbers == list(range(1, len(MIGRATIONS) + 1))


def test_a_blank_file_is_taken_through_every_step_and_each_is_recorded(path: Path) -> None:
    SQLiteStore.open(path, writable=True, clock=lambda: 12.5).close()
    assert applied(path) == [
        (number, step.__name__, 12.5) for number, step in enumerate(MIGRATIONS, start=1)
    ]


def test_opening_again_changes_nothing(path: Path) -> None:
    SQLiteStore.open(path, writable=True, clock=lambda: 1.0).close()
    before = path.read_bytes()
    SQLiteStore.open(path, writable=True, clock=lambda: 2.0).close()
    assert path.read_bytes() == before


def test_the_first_step_still_makes_the_schema_that_version_1_had(old_path: Path) -> None:
    new = old_path.with_name("new.db")
    shell = sqlite3.connect(new, isolation_level=None)
    migrate(shell, 0.0, MIGRATIONS[:1])
    shell.close()
    assert schema(new) == schema(old_path)


def test_a_version_1_store_keeps_its_run_and_becomes_like_a_new_one(
    old_path: Path, tmp_path: Path
) -> None:
    with SQLiteStore.open(old_path, writable=True, clock=lambda: 12.5) as store:
        (row,) = store.runs()
        assert (row.id, row.status, row.events) == ("r-20261124-001", "done", 4)
        kinds = [kind(event) for _, _, event in store.events(row.id)]
        assert kinds == ["run_started", "answered", "evaluated", "run_ended"]
        assert store.check() == []
        assert store.append(row.id, RunResumed(recorded=4)) == 5
    assert applied(old_path)[0] == (1, "m001_tables", 1795478400.0)
    assert [at for _, _, at in applied(old_path)[1:]] == [12.5] * (len(MIGRATIONS) - 1)
    SQLiteStore.open(tmp_path / "new.db", writable=True).close()
    assert schema(old_path) == schema(tmp_path / "new.db")


def test_a_reader_reads_a_version_1_store_as_it_is(old_path: Path) -> None:
    before = old_path.read_bytes()
    with SQLiteStore.open(old_path, writable=False) as store:
        assert store.resolve("latest") == "r-20261124-001"
        assert [row.status for row in store.runs()] == ["done"]
        assert store.check() == []
    assert old_path.read_bytes() == before


@pytest.mark.parametrize("writable", [True, False])
def test_a_newer_schema_is_refused_and_left_alone(path: Path, writable: bool) -> None:
    SQLiteStore.open(path, writable=True).close()
    shell = sqlite3.connect(path)
    newer = len(MIGRATIONS) + 1
    shell.execute("INSERT INTO schema_migrations VALUES (?, 'm999_future', 0)", (newer,))
    shell.commit()
    shell.close()
    before = path.read_bytes()
    with pytest.raises(StoreError) as refused:
        SQLiteStore.open(path, writable=writable)
    assert str(refused.value) == (
        f"The store {str(path)!r} has schema {newer}, and this version of selftaught knows none "
        f"after {newer - 1}: update selftaught, or name another file with --store."
    )
    assert path.read_bytes() == before
    assert not (path.with_name("runs.db.lock").read_text()), "a refused writer lets go of the lock"


def test_a_step_that_fails_half_way_leaves_the_store_as_it_was(path: Path) -> None:
    def m003_breaks(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE half (a)")
        connection.execute("CREATE TABLE half (a)")

    SQLiteStore.open(path, writable=True).close()
    before = schema(path)
    shell = sqlite3.connect(path, isolation_level=None)
    with pytest.raises(sqlite3.OperationalError, match="half already exists"):
        migrate(shell, 0.0, [*MIGRATIONS, m003_breaks])
    assert not shell.in_transaction
    assert schema_version(shell) == len(MIGRATIONS)
    shell.close()
    assert schema(path) == before
