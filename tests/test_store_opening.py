"""What cannot be opened, and that the error says what to do about it."""

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_store_sqlite import filled

from selftaught.errors import StoreError
from selftaught.store.sqlite import SQLiteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@contextmanager
def without_privilege() -> Iterator[None]:
    """As a user to whom permissions apply; root, whom they do not stop, becomes nobody."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def refusal(path: Path, *, writable: bool) -> str:
    with pytest.raises(StoreError) as refused:
        SQLiteStore.open(path, writable=writable)
    return str(refused.value)


def test_a_reader_of_a_missing_file_is_told_how_to_make_one(path: Path) -> None:
    assert refusal(path, writable=False) == (
        f"There is no store {str(path)!r}: `selftaught run TASK --store {path}` makes one, or "
        "name another file with --store."
    )
    assert list(path.parent.iterdir()) == []


def test_a_missing_folder_is_named_and_not_made(path: Path) -> None:
    assert "its folder does not exist: make the folder first" in refusal(
        path / "deep.db", writable=True
    )
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("writable", [True, False])
def test_a_folder_is_no_store(path: Path, writable: bool) -> None:
    path.mkdir()
    said = refusal(path, writable=writable)
    assert said == f"{str(path)!r} is a folder: name a file with --store."


@pytest.mark.parametrize("writable", [True, False])
def test_a_file_that_is_no_database_is_left_alone(path: Path, writable: bool) -> None:
    path.write_text("# notes\n" * 200)
    assert "is not a SQLite database: name another file" in refusal(path, writable=writable)
    assert path.read_text() == "# notes\n" * 200


@pytest.mark.parametrize("writable", [True, False])
def test_the_database_of_another_program_is_left_alone(path: Path, writable: bool) -> None:
    shell = sqlite3.connect(path)
    shell.execute("CREATE TABLE bookmarks (url)")
    shell.close()
    before = path.read_bytes()
    assert "is the database of another program" in refusal(path, writable=writable)
    assert path.read_bytes() == before


def test_a_reader_of_an_empty_file_is_told_that_it_holds_nothing(path: Path) -> None:
    path.touch()
    assert "is empty, since no run was ever started in it" in refusal(path, writable=False)
    SQLiteStore.open(path, writable=True).close()
    SQLiteStore.open(path, writable=False).close()


KILLED_IN_THE_MAKING = """
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")
database.execute("BEGIN")
database.execute("CREATE TABLE unfinished (bytes)")
for _ in range(100):
    database.execute("INSERT INTO unfinished VALUES (zeroblob(10000))")
os._exit(0)
"""


def test_a_store_whose_making_was_cut_short_is_said_to_be_so_and_made_whole(path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED_IN_THE_MAKING, path], check=True)
    assert "was not made to the end" in refusal(path, writable=False)
    with SQLiteStore.open(path, writable=True) as store:
        assert store.runs() == []


def test_a_folder_without_write_permission_is_said_to_be_so(open_folder: Path) -> None:
    os.chmod(open_folder, 0o555)
    with without_privilege():
        said = refusal(open_folder / "runs.db", writable=True)
    os.chmod(open_folder, 0o755)
    assert "cannot be made (Permission denied): make the folder and the lock writable" in said


def test_a_file_without_write_permission_is_said_to_be_so(open_folder: Path) -> None:
    path = open_folder / "runs.db"
    filled(path)
    os.chmod(path, 0o444)
    os.chmod(open_folder / "runs.db.lock", 0o666)
    os.chmod(open_folder, 0o777)
    with without_privilege():
        said = refusal(path, writable=True)
    os.chmod(path, 0o644)
    assert "cannot be written: make the file and its folder writable" in said
    with SQLiteStore.open(path, writable=True) as store:
        assert store.check() == []


def test_a_file_without_read_permission_is_said_to_be_so(open_folder: Path) -> None:
    path = open_folder / "runs.db"
    filled(path)
    os.chmod(path, 0o000)
    with without_privilege():
        said = refusal(path, writable=False)
    assert "cannot be opened: look at the permissions" in said


def test_a_program_that_holds_the_database_in_a_transaction_is_said_to(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(path)
    monkeypatch.setattr("selftaught.store.connection.BUSY_TIMEOUT_S", 0.05)
    shell = sqlite3.connect(path, isolation_level=None)
    shell.execute("BEGIN IMMEDIATE")
    assert "is held by another program, such as a sqlite3 shell" in refusal(path, writable=True)
    shell.execute("ROLLBACK")
    shell.close()
    SQLiteStore.open(path, writable=True).close()


def test_a_store_is_read_where_nothing_may_be_written(open_folder: Path) -> None:
    path = open_folder / "runs.db"
    run = filled(path)
    os.chmod(path, 0o444)
    (open_folder / "runs.db.lock").unlink()
    os.chmod(open_folder, 0o555)
    with without_privilege(), SQLiteStore.open(path, writable=False) as store:
        assert store.resolve("latest") == run
        assert store.check() == []
    os.chmod(open_folder, 0o755)
