"""The SQLite store: who may open it, what survives a kill, and that nothing is ever changed."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from test_store_contract import EVERY_KIND, answered, evaluated, paused

from selftaught.errors import StoreError
from selftaught.store import sqlite as sqlite_module
from selftaught.store.event_store import text_hash
from selftaught.store.sqlite import SQLiteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def filled(path: Path) -> str:
    """Make a store with one run of a few events and return the run's id."""
    with SQLiteStore.open(path, writable=True) as store:
        run = store.new_run({"seed": 1}, "selftaught run three_sat")
        store.append_with_texts(
            run, answered(), ["expert", "improve this", "answer one", "answer two"]
        )
        store.append(run, evaluated())
    return run


def start_python(code: str, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
    )


def end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


# --- what survives -------------------------------------------------------------------------------

APPEND_FOREVER = """
import sys, threading
from test_store_contract import evaluated
from selftaught.store.sqlite import SQLiteStore

store = SQLiteStore.open(sys.argv[1], writable=True)
run = store.new_run({}, "run")
print(run, flush=True)

def append(thread):
    for i in range(1_000_000):
        seq = store.append_with_texts(run, evaluated(f"{thread}.{i}"), [f"{thread}.{i}" * 50])
        print(f"{seq} {thread}.{i}\\n", end="", flush=True)

threading.Thread(target=append, args=(1,)).start()
append(0)
"""


@pytest.mark.parametrize("appends", [1, 40, 700])
def test_a_kill_in_the_middle_of_appends_loses_nothing_that_was_committed(
    path: Path, appends: int
) -> None:
    process = start_python(APPEND_FOREVER, path)
    assert process.stdout is not None
    run = process.stdout.readline().strip()
    acknowledged = [process.stdout.readline().split() for _ in range(appends)]
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    # The last line may have been cut off by the kill.
    acknowledged += [line.split() for line in rest.splitlines()[:-1]]
    with SQLiteStore.open(path, writable=True) as store:
        assert store.check() == []
        stored = {str(seq): event for seq, _, event in store.events(run)}
        for seq, solution in acknowledged:
            assert stored[seq] == evaluated(solution)
            assert store.text(text_hash(solution * 50)) == solution * 50
        assert store.append(run, paused()) == len(stored) + 1


def test_a_reader_sees_what_a_killed_writer_left_and_leaves_its_log_alone(path: Path) -> None:
    process = start_python(APPEND_FOREVER, path)
    assert process.stdout is not None
    run = process.stdout.readline().strip()
    for _ in range(50):
        process.stdout.readline()
    end(process)
    log = path.with_name("runs.db-wal")
    before = (path.read_bytes(), log.read_bytes())
    with SQLiteStore.open(path, writable=False) as store:
        assert sum(1 for _ in store.events(run)) >= 50
        assert store.check() == []
        with pytest.raises(sqlite3.OperationalError):
            connection_of(store).execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert (path.read_bytes(), log.read_bytes()) == before, "a reader must never checkpoint"


def connection_of(store: SQLiteStore) -> sqlite3.Connection:
    connection = store._connection
    assert connection is not None
    return connection


def test_a_transaction_that_fails_half_way_is_taken_back(path: Path) -> None:
    filled(path)
    with SQLiteStore.open(path, writable=True) as store:
        run = store.resolve("latest")
        store._clock = interrupted
        with pytest.raises(KeyboardInterrupt):
            store.append_with_texts(run, paused(), ["half"])
        store._clock = lambda: 5.0
        with pytest.raises(StoreError, match="holds no text"):
            store.text(text_hash("half"))
        assert store.append(run, paused()) == 3


def interrupted() -> float:
    raise KeyboardInterrupt


# --- one writer, many readers ---------------------------------------------------------------------

HOLD = """
import sys
from selftaught.store.sqlite import SQLiteStore

store = SQLiteStore.open(sys.argv[1], writable=True)
print("open", flush=True)
sys.stdin.readline()
store.close()
"""


def test_a_second_writer_is_refused_and_told_which_process_writes(path: Path) -> None:
    process = start_python(HOLD, path)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(StoreError) as refused:
            SQLiteStore.open(path, writable=True)
    finally:
        process.communicate("go\n")
    assert str(refused.value) == (
        f"The store {str(path)!r} is being written by process {process.pid}: wait until that has "
        "ended, end it, or name another file with --store."
    )
    SQLiteStore.open(path, writable=True).close()


def test_a_second_writer_in_the_same_process_is_refused(path: Path) -> None:
    with (
        SQLiteStore.open(path, writable=True),
        pytest.raises(StoreError, match="by this very process"),
    ):
        SQLiteStore.open(path, writable=True)


def test_a_store_has_one_lock_whatever_link_leads_to_it(path: Path, tmp_path: Path) -> None:
    filled(path)
    link = tmp_path / "link.db"
    link.symlink_to(path)
    with SQLiteStore.open(path, writable=True), pytest.raises(StoreError, match="being written"):
        SQLiteStore.open(link, writable=True)


def test_a_killed_writer_leaves_no_lock_behind(path: Path) -> None:
    process = start_python(HOLD, path)
    assert process.stdout is not None
    process.stdout.readline()
    end(process)
    SQLiteStore.open(path, writable=True).close()


FORK = """
import os, sys, time
from selftaught.errors import StoreError
from selftaught.store.sqlite import SQLiteStore
from selftaught.events import Paused

store = SQLiteStore.open(sys.argv[1], writable=True)
run = store.new_run({}, "run")
if os.fork() == 0:
    try:
        store.append(run, Paused(what="a", detail="b"))
    except StoreError as error:
        said = str(error)
    store.close()
    os.write(1, f"{os.getpid()} {said}\\n".encode())
    time.sleep(30)
    os._exit(0)
time.sleep(30)
"""


def test_a_forked_child_neither_uses_the_store_nor_keeps_its_lock(path: Path) -> None:
    process = start_python(FORK, path)
    assert process.stdout is not None
    child, said = process.stdout.readline().split(" ", 1)
    try:
        assert "cannot be used in a process forked from it: open it again there" in said
        with pytest.raises(StoreError, match=f"process {process.pid}"):
            SQLiteStore.open(path, writable=True)
        process.kill()
        process.wait()
        SQLiteStore.open(path, writable=True).close()
    finally:
        os.kill(int(child), signal.SIGKILL)
        end(process)


def test_a_reader_follows_a_run_while_it_is_written(path: Path) -> None:
    with SQLiteStore.open(path, writable=True) as writer:
        run = writer.new_run({}, "run")
        writing = threading.Thread(
            target=lambda: [writer.append(run, paused(i)) for i in range(3_000)]
        )
        with SQLiteStore.open(path, writable=False) as reader:
            seen: list[int] = []
            writing.start()
            while len(seen) < 3_000:
                seen += [seq for seq, _, _ in reader.events(run, after=len(seen))]
            writing.join()
            assert seen == list(range(1, 3_001))
            assert reader.check() == []


def test_a_writer_that_closes_leaves_the_file_complete_though_a_reader_is_there(
    path: Path, tmp_path: Path
) -> None:
    run = filled(path)
    with SQLiteStore.open(path, writable=False) as reader:
        with SQLiteStore.open(path, writable=True) as writer:
            writer.append(run, paused())
            assert sum(1 for _ in reader.events(run)) == 3
        assert path.with_name("runs.db-wal").stat().st_size == 0
        copy = tmp_path / "copy.db"
        copy.write_bytes(path.read_bytes())
        with SQLiteStore.open(copy, writable=False) as copied:
            assert list(copied.events(run)) == list(reader.events(run))


def test_check_sees_the_store_as_of_one_moment(path: Path) -> None:
    """Texts and events are read one after the other while another process adds to both."""
    with SQLiteStore.open(path, writable=True) as writer:
        run = writer.new_run({}, "run")
        stop = threading.Event()

        def write() -> None:
            i = 0
            while not stop.is_set():
                text = f"text {i}"
                name = text_hash(text)
                event = answered(occurrence=i, expertise=name, message=name, texts=(name,))
                writer.append_with_texts(run, event, [text])
                i += 1

        writing = threading.Thread(target=write)
        writing.start()
        try:
            with SQLiteStore.open(path, writable=False) as reader:
                assert [reader.check() for _ in range(20)] == [[]] * 20
        finally:
            stop.set()
            writing.join()


def test_a_reader_writes_nothing(path: Path) -> None:
    filled(path)
    writes: list[Callable[[SQLiteStore], object]] = [
        lambda store: store.new_run({}, "run"),
        lambda store: store.append("r", paused()),
        lambda store: store.put_text("a"),
    ]
    with SQLiteStore.open(path, writable=False) as store:
        for write in writes:
            with pytest.raises(StoreError, match="open for reading only: open it with writable=T"):
                write(store)
        with pytest.raises(sqlite3.OperationalError):
            connection_of(store).execute("DELETE FROM texts")


# --- append-only ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE events SET body = '{}'", "events are append-only"),
        ("DELETE FROM events", "events are append-only"),
        ("UPDATE texts SET text = 'x'", "texts are append-only"),
        ("DELETE FROM texts", "texts are append-only"),
        ("UPDATE runs SET command = 'x'", "runs are append-only"),
        ("DELETE FROM runs", "runs are append-only"),
        ("REPLACE INTO runs SELECT id, 0, 'x', '{}' FROM runs", "a run is never replaced"),
        (
            "REPLACE INTO events SELECT run, seq, at, kind, key, '{}' FROM events",
            "events are numbered",
        ),
        (
            "INSERT INTO events SELECT run, seq + 5, at, kind, key, body FROM events",
            "events are numbered",
        ),
        ("REPLACE INTO texts SELECT hash, 'x' FROM texts", "another text is stored"),
        ("INSERT OR IGNORE INTO texts SELECT hash, 'x' FROM texts", "another text is stored"),
    ],
)
def test_the_database_itself_refuses_to_change_what_was_recorded(
    path: Path, statement: str, reason: str
) -> None:
    run = filled(path)
    shell = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match=reason):
        shell.execute(statement)
    shell.close()
    with SQLiteStore.open(path, writable=False) as store:
        assert [event for _, _, event in store.events(run)] == [answered(), evaluated()]


def test_a_text_whose_hash_is_taken_by_another_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SQLiteStore.open(path, writable=True) as store:
        monkeypatch.setattr(sqlite_module, "text_hash", lambda text: "0" * 16)
        store.put_text("one")
        with pytest.raises(StoreError, match=r"refused a request.*another text is stored under"):
            store.put_text("two")
        assert store.text("0" * 16) == "one"


# --- ids ------------------------------------------------------------------------------------------


def test_a_run_is_named_by_its_utc_day_and_its_number_on_it(path: Path) -> None:
    noon, late, midnight = 1795521600.0, 1795564799.0, 1795564800.0
    times = iter([noon, noon, noon, late, midnight, noon])
    with SQLiteStore.open(path, writable=True, clock=lambda: next(times)) as store:
        ids = [store.new_run({}, "run") for _ in range(5)]
        assert ids == [
            "r-20261124-001",
            "r-20261124-002",
            "r-20261124-003",
            "r-20261125-001",
            "r-20261124-004",
        ]
        assert store.resolve("latest") == "r-20261124-004", "latest is by entry, not by name"
        assert store.resolve("r-20261125") == "r-20261125-001"


def test_the_files_of_a_store_are_named_after_it_and_the_log_goes_when_it_is_closed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a ?#%41é.db"
    with SQLiteStore.open(path, writable=True) as store:
        store.new_run({}, "run")
        lock = tmp_path / f"{path.name}.lock"
        assert lock.read_text() == f"{os.getpid()}\n"
    assert {p.name for p in tmp_path.iterdir()} == {path.name, lock.name}
    assert lock.read_text() == "", "a closed store names no writer"
    with SQLiteStore.open(path, writable=False) as store:
        assert len(store.runs()) == 1


def test_events_of_every_kind_survive_closing(path: Path) -> None:
    with SQLiteStore.open(path, writable=True) as store:
        run = store.new_run({}, "run")
        for event in EVERY_KIND:
            store.append(run, event)
    with SQLiteStore.open(path, writable=True) as store:
        assert tuple(event for _, _, event in store.events(run)) == EVERY_KIND
        assert store.append(run, paused()) == len(EVERY_KIND) + 1


def test_a_full_disk_is_said_to_be_full_and_the_store_stays_sound(path: Path) -> None:
    with SQLiteStore.open(path, writable=True) as store:
        run = store.new_run({}, "run")
        (pages,) = connection_of(store).execute("PRAGMA page_count").fetchone()
        connection_of(store).execute(f"PRAGMA max_page_count = {pages + 4}").fetchone()
        with pytest.raises(StoreError, match=r"the disk is full .* bytes free"):
            store.append_with_texts(run, paused(), ["x" * 100_000])
        assert store.append(run, paused()) == 1
        assert store.check() == []
