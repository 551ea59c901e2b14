"""What `check` finds in a store that was damaged from outside."""

import re
import sqlite3
from pathlib import Path

import pytest
from test_store_contract import evaluated
from test_store_sqlite import filled

from selftaught.errors import StoreError
from selftaught.store.event_store import text_hash
from selftaught.store.sqlite import SQLiteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def damage(path: Path, *statements: str) -> None:
    """Change a store as no program of this project can, its triggers taken away."""
    shell = sqlite3.connect(path)
    triggers = shell.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for (name,) in triggers:
        shell.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        shell.execute(statement)
    shell.commit()
    shell.close()


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("DELETE FROM events WHERE seq = 1", "has 1 events numbered 2 to 2; they should run from"),
        ("DELETE FROM texts WHERE text = 'expert'", "Event 1 of run .* refers to text .* missing"),
        ("UPDATE texts SET text = 'x' WHERE text = 'expert'", "is not the text that was stored"),
        ("UPDATE events SET body = '{}' WHERE seq = 2", "Event 2 of run .* cannot be read"),
        ("UPDATE events SET body = x'ff' WHERE seq = 2", "Event 2 of run .* cannot be read"),
        ("UPDATE events SET key = 'x' WHERE seq = 2", "under a kind or key that is not its own"),
        ("DELETE FROM runs", "A row of 'events' refers to a row of 'runs' that does not exist"),
    ],
)
def test_check_finds_what_is_wrong(path: Path, statement: str, finding: str) -> None:
    filled(path)
    damage(path, statement)
    with SQLiteStore.open(path, writable=False) as store:
        problems = "\n".join(store.check())
    assert re.search(finding, problems), problems


def test_check_reports_a_damaged_page_instead_of_failing(path: Path) -> None:
    with SQLiteStore.open(path, writable=True) as store:
        run = store.new_run({}, "run")
        for i in range(400):
            store.append_with_texts(run, evaluated(f"s{i}"), [f"text {i} " * 100])
    content = bytearray(path.read_bytes())
    page = content.index(b"text 200 " * 50) // 4096 * 4096
    content[page : page + 4096] = b"\xa5" * 4096
    path.write_bytes(content)
    with SQLiteStore.open(path, writable=False) as store:
        assert store.check() == [
            "The file cannot be read to its end: database disk image is malformed."
        ]
        with pytest.raises(StoreError, match=r"is damaged \(.*go back to a copy, or save what can"):
            [store.text(text_hash(f"text {i} " * 100)) for i in range(400)]


def test_check_passes_on_what_sqlite_itself_finds(path: Path) -> None:
    filled(path)
    damage(
        path,
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET sql = replace(sql, 'at REAL NOT NULL', 'at REAL') "
        "WHERE name = 'events'",
    )
    damage(path, "UPDATE events SET at = NULL WHERE seq = 2")
    damage(
        path,
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET sql = replace(sql, 'at REAL', 'at REAL NOT NULL') "
        "WHERE name = 'events'",
    )
    with SQLiteStore.open(path, writable=False) as store:
        assert store.check() == ["SQLite's own check found: NULL value in events.at."]


def test_check_finds_a_text_that_is_no_longer_utf_8(path: Path) -> None:
    filled(path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"improve this", b"improve \xff\xff\xff\xff"))
    with SQLiteStore.open(path, writable=False) as store:
        name = text_hash("improve this")
        assert store.check() == [
            f"The text {name!r} is not the text that was stored under this hash."
        ]


def test_an_event_of_an_unknown_kind_is_an_error_that_says_which(path: Path) -> None:
    run = filled(path)
    damage(path, """UPDATE events SET body = '{"type":"dreamt"}' WHERE seq = 2""")
    with (
        SQLiteStore.open(path, writable=False) as store,
        pytest.raises(StoreError, match=f"Event 2 of run '{run}' cannot be read .*dreamt"),
    ):
        list(store.events(run))


@pytest.mark.parametrize("config", ["torn", "[1]", ""])
def test_a_configuration_that_cannot_be_read_is_said_by_every_reader(
    path: Path, config: str
) -> None:
    filled(path)
    damage(path, f"UPDATE runs SET config = '{config}'")
    with (
        SQLiteStore.open(path, writable=False) as store,
        pytest.raises(StoreError, match=r"configuration of run .*selftaught store repair"),
    ):
        store.runs()
