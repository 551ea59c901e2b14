"""Resumes that meet what has changed meanwhile: luck, clock, address, version, another resume."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from chaos_run import Case, Driver, Whole, answers, endpoint, exchange_of, result, until
from test_store_migrations import VERSION_1

from selftaught.events import Answered, Improved, RunResumed, Unanswered, kind
from selftaught.store.migrations import MIGRATIONS, schema_version
from selftaught.store.sqlite import SQLiteStore

AT_SEVENTH = {"kind": "answered", "number": 7, "when": "before"}
CALLS, RESPONSES, UTILITY_CALLS = 3, 3, 4


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [None, 4000])
def test_an_improver_that_never_does_the_same_twice_stays_within_its_limits(
    tokens: int | None, driver: Driver, tmp_path: Path
) -> None:
    limits = () if tokens is None else ("--tokens", str(tokens), "--max-output-tokens", "20")
    with endpoint(busy=False) as server:
        case = Case(driver, tmp_path, server)
        ended = case.start(*limits, improver="fickle.py", death=_answered(4)).end()
        for number in (8, 12, 16):
            if not ended.was_killed:
                break
            case.left_behind()
            ended = case.resume(death=_answered(number)).end()
        if ended.was_killed:
            case.left_behind()
            ended = case.resume().end()
        assert ended.document["status"] == ("done" if tokens is None else "budget")
        case.check_requests()
    events = case.events()
    # Each is there once: none that was recorded was asked for again.
    assert answers(events)
    for event in events:
        if isinstance(event, Improved):
            assert event.calls <= CALLS
            assert event.responses <= CALLS * RESPONSES
            assert event.utility_calls <= UTILITY_CALLS
    spent = sum(e.prompt_tokens + e.completion_tokens for e in events if isinstance(e, Answered))
    lost = sum(e.lost_tokens for e in events if isinstance(e, Unanswered))
    assert ended.document["spent"]["tokens"] == spent + lost
    assert tokens is None or spent + lost <= tokens
    assert case.under_way, "nothing was tested"


def test_what_is_lost_at_a_kill_counts_in_dollars_though_none_were_limited(
    driver: Driver, tmp_path: Path
) -> None:
    with endpoint() as server:
        case = Case(driver, tmp_path, server)
        case.killed(case.start("--price", "2,2", death=AT_SEVENTH))
        document = case.resume().end().document
    lost = [one for one in case.events() if isinstance(one, Unanswered)]
    assert lost
    for one in lost:
        assert one.lost_dollars == pytest.approx(2e-6 * one.lost_tokens)
    spent = document["spent"]
    assert spent["dollars"] == pytest.approx(2e-6 * spent["tokens"])


@pytest.mark.slow
def test_a_repeated_request_of_another_size_has_another_key(driver: Driver, tmp_path: Path) -> None:
    with endpoint(busy=False) as server:
        case = Case(driver, tmp_path, server)
        case.killed(case.start(improver="fickle.py", death=_answered(3)))
        case.killed(case.resume(death=_answered(6)))
        assert case.resume().end().code == 0
        sizes: dict[str, set[int]] = {}
        for one in server.log:
            sizes.setdefault(one.idempotency_key, set()).add(one.asked.n_responses)
        assert all(len(found) == 1 for found in sizes.values())


def test_of_two_resumes_at_once_one_is_refused(driver: Driver, tmp_path: Path) -> None:
    with endpoint() as server:
        case = Case(driver, tmp_path, server)
        case.killed(case.start(death=AT_SEVENTH))
        first = case.resume()
        until(lambda: len(case.raw()) > len(case.rows))
        # Else it might end before the other one begins.
        os.kill(first.pid, signal.SIGSTOP)
        refused = case.resume().end()
        os.kill(first.pid, signal.SIGCONT)
        assert first.end().code == 0
        case.check_requests()
    assert refused.code == 1
    assert "is being written by" in refused.said
    assert "Traceback" not in refused.said


@pytest.mark.parametrize("clock_s", [-86400.0 * 30, 86400.0 * 400])
def test_a_clock_that_jumped_changes_nothing(
    clock_s: float, driver: Driver, tmp_path: Path, whole: Callable[..., Whole]
) -> None:
    with endpoint() as server:
        case = Case(driver, tmp_path, server)
        case.killed(case.start(death=AT_SEVENTH))
        case.killed(case.resume(clock_s=clock_s, death={**AT_SEVENTH, "number": 12}))
        case.check(case.resume().end().document, whole())


def test_a_model_that_moved_is_asked_at_its_new_address(
    driver: Driver, tmp_path: Path, whole: Callable[..., Whole]
) -> None:
    expected = whole()
    with endpoint() as old:
        case = Case(driver, tmp_path, old)
        case.killed(case.start(death=AT_SEVENTH))
    had = {key[:3] for key in answers(case.events())}
    with endpoint() as new:
        document = case.resume("--base-url", new.url).end().document
        asked = {exchange_of(one.idempotency_key) for one in new.log}
    assert result(document) == expected.result
    assert had
    assert asked
    assert not had & asked


def test_a_run_killed_before_anything_of_it_is_recorded(
    driver: Driver, tmp_path: Path, whole: Callable[..., Whole]
) -> None:
    with endpoint() as server:
        case = Case(driver, tmp_path, server)
        for when in ("before", "within"):
            death = {"kind": "run_started", "number": 1, "when": when}
            case.killed(case.resume(death=death) if case.has_run() else case.start(death=death))
        assert case.rows == []
        document = case.resume().end().document
        assert document["resumed"] is None
        case.check(document, whole())


def test_a_resumed_run_tells_what_it_did_not_do_again(driver: Driver, tmp_path: Path) -> None:
    with endpoint() as server:
        case = Case(driver, tmp_path, server)
        case.killed(case.start(death=AT_SEVENTH))
        counts = {name: sum(kind(one) == name for one in case.events()) for name in _COUNTED}
        document = case.resume().end().document
    (event,) = (one for one in case.events() if isinstance(one, RunResumed))
    told = document["resumed"]
    assert told["answers"] == event.answers == counts["answered"] + counts["rejected"]
    assert told["scores"] == event.scores == counts["evaluated"]
    assert told["improvements"] == event.improvements == counts["improved"]
    assert told["recorded"] == event.recorded == len(case.rows)
    assert told["under_way"] == event.under_way == len(case.under_way[0]) > 0
    # It repeats itself, so all of it was wanted again.
    assert told["repeated"] == event.under_way
    shown = driver.start(tmp_path, "resume", "--store", "runs.db").end()
    assert f"Not done again: {len(answers(case.events()))}" not in shown.err
    assert "Not done again:" in shown.out


@pytest.mark.parametrize("step", range(len(MIGRATIONS)))
def test_a_store_killed_while_it_is_brought_up_to_date_is_whole(step: int, tmp_path: Path) -> None:
    """The first step makes a new store, the others change an older one."""
    path = tmp_path / "runs.db"
    if step:
        with closing(sqlite3.connect(path)) as old:
            old.executescript(VERSION_1)
    program = (
        "import os, signal, sys\n"
        "from selftaught.store.migrations import MIGRATIONS\n"
        "from selftaught.store.sqlite import SQLiteStore\n"
        "step, number = MIGRATIONS[int(sys.argv[2])], int(sys.argv[2])\n"
        "def dying(connection):\n"
        "    step(connection)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "MIGRATIONS[number] = dying\n"
        "SQLiteStore.open(sys.argv[1], writable=True)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program, str(path), str(step)], timeout=60, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as raw:
        assert schema_version(raw) == step
    with SQLiteStore.open(path, writable=True) as store:
        assert store.check() == []
        assert len(store.runs()) == (step > 0)
        if step:
            assert len(list(store.events("r-20261124-001"))) == 4
        run = store.new_run({}, "x")
        assert store.append(run, RunResumed(recorded=0)) == 1
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as raw:
        assert schema_version(raw) == len(MIGRATIONS)


_COUNTED = ("answered", "rejected", "evaluated", "improved")


def _answered(number: int) -> dict[str, object]:
    return {"kind": "answered", "number": number, "when": "before"}
