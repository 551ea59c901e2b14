"""The same on Postgres, whose server, connections and lock of a run are further things to lose."""

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

psycopg = pytest.importorskip("psycopg")

from chaos_run import Case, Driver, Whole, endpoint, until  # noqa: E402
from postgres_server import PostgresServer, binaries, postgres_server  # noqa: E402
from test_chaos import SIGNIFICANT  # noqa: E402

from selftaught.errors import StoreError  # noqa: E402
from selftaught.events import kind  # noqa: E402
from selftaught.store import postgres_schema  # noqa: E402
from selftaught.store.postgres import PostgresStore  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        binaries() is None, reason="no Postgres server here; on Debian: apt-get install postgresql"
    ),
]

# In an order in which one of each is always still to come.
KINDS = (
    "run_started", "asked", "answered", "run_resumed", "unanswered", "attempted", "rejected",
    "evaluated", "requested", "budget_refused", "improved", "meta_evaluated", "round_ended",
    "candidate_tried", "run_ended",
)  # fmt: skip


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


@pytest.mark.parametrize("when", ["within", "after"])
def test_a_run_killed_at_every_kind_of_event_ends_as_an_undisturbed_one(
    when: str,
    driver: Driver,
    whole: Callable[..., Whole],
    postgres: PostgresServer,
    tmp_path: Path,
) -> None:
    with endpoint() as server:
        case = Case(driver, tmp_path, server, postgres.new_database())
        kinds = list(KINDS)
        if when == "after":
            # Of the two, what leaves a request under way comes last.
            kinds[1:3] = reversed(kinds[1:3])
        for name in kinds:
            number = Counter(map(kind, case.events()))[name] + 1
            death = {"kind": name, "number": number, "when": when}
            if case.has_run():
                case.killed(case.resume(death=death))
            else:
                case.killed(case.start(*SIGNIFICANT, death=death))
        case.check(case.resume().end().document, whole(*SIGNIFICANT))


@pytest.mark.parametrize("trouble", ["terminated", "restarted", "crashed"])
def test_a_run_whose_database_goes_away_says_so_and_loses_nothing(
    trouble: str,
    driver: Driver,
    whole: Callable[..., Whole],
    postgres: PostgresServer,
    tmp_path: Path,
) -> None:
    with endpoint() as server:
        case = Case(driver, tmp_path, server, postgres.new_database())
        running = case.start()
        until(lambda: len(case.raw()) > 25)
        if trouble == "terminated":
            with psycopg.connect(case.store, autocommit=True) as raw:
                raw.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name = 'selftaught' AND datname = current_database()"
                )
        else:
            postgres.stop(signal.SIGQUIT if trouble == "crashed" else signal.SIGINT)
            postgres.start()
        ended = running.end()
        assert ended.code == 1
        assert "is gone (" in ended.said
        assert "resume the run" in ended.said
        assert "Traceback" not in ended.said
        case.left_behind()
        case.check(case.resume().end().document, whole())


def test_a_run_without_a_database_says_so(driver: Driver, tmp_path: Path) -> None:
    with endpoint() as server:
        gone = Case(driver, tmp_path, server, f"postgresql:///gone?host={tmp_path}")
        ended = gone.resume().end()
    assert ended.code == 1
    assert "cannot be reached" in ended.said


def test_a_run_is_resumed_by_one_at_a_time(
    driver: Driver, whole: Callable[..., Whole], postgres: PostgresServer, tmp_path: Path
) -> None:
    with endpoint() as server:
        case = Case(driver, tmp_path, server, postgres.new_database())
        case.killed(case.start(death={"kind": "answered", "number": 4, "when": "before"}))
        with PostgresStore.open(case.store, writable=True) as other:
            other.take(other.resolve("latest"))
            refused = case.resume().end()
        assert refused.code == 1
        assert "is being written by another process: wait" in refused.said
        assert case.raw() == case.rows
        # The second one waits a little, and is refused or finds nothing left to do.
        both = [running.end() for running in (case.resume(), case.resume())]
        assert 0 in [one.code for one in both]
        assert all("is being written by" in one.said for one in both if one.code)
        case.check(next(one for one in both if one.code == 0).document, whole())


def test_what_another_process_recorded_meanwhile_is_not_done_again(
    driver: Driver, whole: Callable[..., Whole], postgres: PostgresServer, tmp_path: Path
) -> None:
    """The second resume begins while the first goes on, and looks at the record after that."""
    with endpoint() as server:
        case = Case(driver, tmp_path, server, postgres.new_database())
        case.killed(case.start(death={"kind": "answered", "number": 4, "when": "before"}))
        before = len(case.rows)
        first = case.resume(death={"kind": "answered", "number": 12, "when": "after"})
        until(lambda: len(case.raw()) > before)
        second = case.resume()
        case.killed(first)
        case.check(second.end().document, whole())


def test_a_database_whose_upgrade_breaks_off_is_as_it_was(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.new_database()
    with PostgresStore.open(url, writable=True) as store:
        run = store.new_run({}, "x")
    # The server ends our connection in the middle of a step, as it would where we are killed.
    dies = "CREATE TABLE half (x INT)", "SELECT pg_terminate_backend(pg_backend_pid())"
    with monkeypatch.context() as patched:
        steps = (*postgres_schema.MIGRATIONS, ("dies", dies))
        patched.setattr(postgres_schema, "MIGRATIONS", steps)
        with pytest.raises(StoreError, match="is gone"):
            PostgresStore.open(url, writable=True)
    with psycopg.connect(url) as raw:
        assert raw.execute("SELECT to_regclass('half')").fetchone() == (None,)
    with PostgresStore.open(url, writable=True) as store:
        assert [row.id for row in store.runs()] == [run]
        assert store.check() == []
