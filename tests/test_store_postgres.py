"""The store in Postgres: the contract of every store, and what is its own."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

psycopg = pytest.importorskip("psycopg")

from postgres_server import PostgresServer, binaries, postgres_server  # noqa: E402
from test_store_contract import EVERY_KIND, StoreContract, answered, evaluated, paused  # noqa: E402

from selftaught.errors import StoreError  # noqa: E402
from selftaught.runs.launch import resume, start  # noqa: E402
from selftaught.store import postgres_schema  # noqa: E402
from selftaught.store.event_store import text_hash  # noqa: E402
from selftaught.store.migrations import MIGRATIONS as OF_SQLITE  # noqa: E402
from selftaught.store.opening import open_store  # noqa: E402
from selftaught.store.postgres import PostgresStore  # noqa: E402
from selftaught.store.postgres_reading import CrossedWriters  # noqa: E402
from selftaught.store.postgres_schema import MIGRATIONS  # noqa: E402
from selftaught.store.sqlite import SQLiteStore  # noqa: E402

pytestmark = pytest.mark.skipif(
    binaries() is None, reason="no Postgres server here; on Debian: apt-get install postgresql"
)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


@pytest.fixture
def url(server: PostgresServer) -> str:
    return server.new_database()


class TestPostgresStore(StoreContract):
    @pytest.fixture
    def store(self, url: str) -> Iterator[PostgresStore]:
        with PostgresStore.open(url, writable=True) as store:
            yield store


def test_a_url_opens_postgres_and_a_path_sqlite(url: str, tmp_path: Path) -> None:
    with open_store(url, writable=True) as store:
        assert isinstance(store, PostgresStore)
    with open_store(str(tmp_path / "runs.db"), writable=True) as store:
        assert isinstance(store, SQLiteStore)


def test_what_cannot_be_opened_is_said_without_the_password(url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is empty, since no run") as empty:
        PostgresStore.open(url, writable=False)
    gone = f"postgresql://me:very-secret@127.0.0.1:9/runs?connect_timeout=1&x={tmp_path}"
    with pytest.raises(StoreError, match=r"postgresql://127.0.0.1:9/runs' cannot be") as error:
        PostgresStore.open(gone.partition("&")[0], writable=True)
    assert "very-secret" not in f"{empty.value}{error.value}"


def test_two_processes_write_two_runs_but_never_one(url: str) -> None:
    with (
        PostgresStore.open(url, writable=True) as one,
        PostgresStore.open(url, writable=True) as other,
    ):
        mine, theirs = one.new_run({}, "one"), other.new_run({}, "two")
        assert mine != theirs
        assert one.append(mine, paused()) == other.append(theirs, paused()) == 1
        with pytest.raises(StoreError, match=f"{mine} .* is being written by another process"):
            other.append(mine, paused())
        one.close()
        assert other.append(mine, paused(1)) == 2
        assert other.check() == []


def test_runs_whose_names_hash_alike_have_writers_of_their_own(url: str) -> None:
    seen: dict[str, str] = {}
    for number in range(1, 10_000):
        run = f"r-20261124-{number:03d}"
        same = seen.setdefault(text_hash(run)[:4], run)
        if same != run:
            break
    with (
        PostgresStore.open(url, writable=True) as one,
        PostgresStore.open(url, writable=True) as other,
    ):
        with one.adding() as adding:
            adding.add_run(run, 0.0, "x", "{}")
            adding.add_run(same, 0.0, "x", "{}")
        assert one.append(run, paused()) == other.append(same, paused()) == 1


def test_an_append_that_an_import_meets_crosswise_is_tried_again(url: str) -> None:
    first, second = sorted(["one text", "another"], key=text_hash)
    with (
        PostgresStore.open(url, writable=True) as one,
        PostgresStore.open(url, writable=True) as other,
        psycopg.connect(url, autocommit=True) as raw,
        ThreadPoolExecutor(1) as threads,
    ):
        run = one.new_run({}, "x")
        # The server ends either of the two.
        with suppress(CrossedWriters), other.adding() as adding:
            adding.add_text(second)
            adding.flush()
            appended = threads.submit(one.append_with_texts, run, paused(), [first, second])
            waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            while not raw.execute(waits).fetchone()[0]:  # type: ignore[index]
                assert not appended.done()
            adding.add_text(first)
            adding.flush()
        assert appended.result(timeout=60) == 1
        assert one.texts([text_hash(first), text_hash(second)]) == (first, second)
        assert one.check() == []


def test_a_store_is_not_brought_up_to_date_under_a_writer_of_an_earlier_version(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its events would be in no total: it has no table of totals to add to."""
    with psycopg.connect(url, autocommit=True) as raw, monkeypatch.context() as patched:
        patched.setattr(postgres_schema, "MIGRATIONS", MIGRATIONS[:3])
        postgres_schema.migrate(raw, 0.0)
        raw.execute("SELECT pg_advisory_lock(%s, 1)", (postgres_schema.RUN_LOCKS,))
        patched.undo()
        with pytest.raises(StoreError, match="wait until that has ended"):
            PostgresStore.open(url, writable=True)
        PostgresStore.open(url, writable=False).close()
        assert postgres_schema.schema_version(raw) == 3
    with PostgresStore.open(url, writable=True) as store:
        assert store.select("SELECT * FROM totals") == []


def test_the_run_of_a_killed_writer_is_free_and_whole(url: str) -> None:
    program = (
        "import sys, os, signal\n"
        "from selftaught.store.postgres import PostgresStore\n"
        "from selftaught.events import Paused\n"
        "store = PostgresStore.open(sys.argv[1], writable=True)\n"
        "run = store.new_run({}, 'x')\n"
        "for i in range(200):\n"
        "    print(store.append_with_texts(run, Paused(what='w', detail=str(i)), [str(i)]),"
        " flush=True)\n"
        "    if i == 150: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    child = subprocess.run([sys.executable, "-c", program, url], capture_output=True, timeout=60)
    acknowledged = [int(line) for line in child.stdout.split()]
    assert acknowledged == list(range(1, 152))
    with PostgresStore.open(url, writable=True) as store:
        (row,) = store.runs()
        assert [seq for seq, _, _ in store.events(row.id)] == acknowledged
        assert store.append(row.id, paused()) == 152
        assert store.check() == []


def test_nothing_recorded_is_changed_by_anybody(url: str) -> None:
    with PostgresStore.open(url, writable=True) as store:
        run = store.new_run({}, "x")
        store.append_with_texts(run, paused(), ["text"])
    with psycopg.connect(url, autocommit=True) as raw:
        for statement in (
            "UPDATE events SET at = 0",
            "DELETE FROM texts",
            "TRUNCATE runs CASCADE",
            f"INSERT INTO events (run, seq, at, kind, key, body) VALUES ('{run}', 7, 0, '', '', '1')",
        ):
            with pytest.raises(psycopg.errors.RaiseException):
                raw.execute(statement)


def test_damage_is_found(url: str) -> None:
    with PostgresStore.open(url, writable=True) as store:
        run = store.new_run({}, "x")
        store.append(run, evaluated())
        with psycopg.connect(url, autocommit=True) as raw:
            raw.execute("ALTER TABLE events DISABLE TRIGGER ALL")
            raw.execute("ALTER TABLE texts DISABLE TRIGGER ALL")
            raw.execute("UPDATE events SET key = 'other'")
            raw.execute("INSERT INTO texts VALUES ('0123456789abcdef', 'not this')")
            raw.execute(
                "INSERT INTO events (run, seq, at, kind, key, body) "
                f"VALUES ('{run}', 3, 0, 'paused', '', '{{}}')"
            )
        problems = "\n".join(store.check())
    assert "numbered 1 to 3" in problems
    assert "'0123456789abcdef' is not the text" in problems
    assert "kind or key that is not its own" in problems
    assert "Event 3" in problems


def views(execute: object) -> dict[str, list[dict[str, object]]]:
    """What each view shows, run by run; in no order of its own."""
    found = {}
    for name in VIEWS:
        cursor = execute(f"SELECT * FROM {name}")  # type: ignore[operator]
        columns = [column[0] for column in cursor.description]
        rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
        for row in rows:
            row.pop("at", None), row.pop("created_at", None), row.pop("ended_at", None)
            text = row.get("text")
            if isinstance(row.get("source"), str):
                # A NUL ends the text for SQLite, and is another character for Postgres.
                row["source"] = re.split("[\0\ufffd]", str(row["source"]))[0]
            row.update(
                {k: float(v) for k, v in row.items() if isinstance(v, (int, float))},
                **({"text": text.decode()} if isinstance(text, bytes) else {}),
            )
        found[name] = sorted(rows, key=repr)
    return found


VIEWS = [
    "v_runs",
    "v_rounds",
    "v_answers",
    "v_costs",
    "v_responses",
    "v_scores",
    "v_requests",
    "v_improvements",
    "v_failures",
    "v_refusals",
    "v_attempts",
    "v_pauses",
]


def test_views_show_what_those_of_sqlite_show(url: str, tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    for name in (url, str(path)):
        with open_store(name, writable=True) as store:
            run = store.new_run({"a": 1}, "x")
            for event in EVERY_KIND[:-1]:
                store.append(run, event)
            texts = ["expert", "improve this", "answer one", "answer two"]
            store.append_with_texts(run, answered(job="r2"), texts)
            store.append(run, EVERY_KIND[-1])
    import sqlite3

    with sqlite3.connect(path) as raw:
        of_sqlite = views(raw.execute)
    raw.close()
    with psycopg.connect(url) as other:
        of_postgres = views(other.execute)
    assert of_postgres == of_sqlite
    assert all(of_sqlite[name] for name in VIEWS)


def test_both_schemas_have_the_same_steps() -> None:
    names = [step.__name__.partition("_")[2] for step in OF_SQLITE]
    assert [name for name, _ in MIGRATIONS] == names


def test_a_run_is_kept_and_resumed_in_postgres(url: str) -> None:
    from test_report import CONFIGS

    from selftaught.errors import Interrupted
    from selftaught.runs.result import Watch

    stop = threading.Event()
    with pytest.raises(Interrupted):
        start(CONFIGS["run"], url, watch=Watch(on_round=lambda r: stop.set()), stop=stop)
    resumed = resume("latest", url)
    again = start(CONFIGS["run"], url)
    assert [r.improver for r in resumed.rounds] == [r.improver for r in again.rounds]
    assert resumed.scores == again.scores
    assert resumed.spent["reused_scores"] > 0


def test_runs_with_ids_alike_are_written_side_by_side(url: str) -> None:
    """Of these two the first hexadecimal digits of their hashes differ by the last bit only."""
    ids = "r-20261124-220", "r-20261124-275"
    with (
        PostgresStore.open(url, writable=True) as one,
        PostgresStore.open(url, writable=True) as other,
    ):
        with one.adding() as adding:
            for run in ids:
                adding.add_run(run, 0.0, "run", "{}")
        for store, run in zip((one, other), ids, strict=True):
            assert store.append(run, paused()) == 1
