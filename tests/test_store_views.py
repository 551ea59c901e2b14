"""The views and the documented queries give the numbers that a run's events hold."""

import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_store_contract import answered

from selftaught.events import (
    AnyEvent,
    Attempted,
    BudgetRefused,
    Evaluated,
    Improved,
    MetaEvaluated,
    Paused,
    Requested,
    RoundEnded,
    RunEnded,
    RunResumed,
    RunStarted,
)
from selftaught.store.event_store import text_hash
from selftaught.store.sqlite import SQLiteStore
from selftaught.utility import Failed, OutOfMemory, Returned, Scored, TimedOut

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "store.md"
SEED, FIRST, SECOND = (f"def improve_algorithm(): return {i}" for i in range(3))


def ended(number: int, candidate: str | None, improver: str, accepted: bool = True) -> RoundEnded:
    return RoundEnded(
        round=number,
        candidate=None if candidate is None else text_hash(candidate),
        improver=text_hash(improver),
        accepted=accepted,
        reason="measured",
    )


def scored(solution: str, value: float, repeat: int = 0, **failures: int) -> Evaluated:
    outcome = Scored(value=value, standard_error=0.1, values=(value,) * 4, failures=failures)
    return Evaluated(
        task="maxcut", solution=solution, split="val", repeat=repeat, outcome=outcome, seconds=0.5
    )


def requested(call: int, solution: str, value: float, calls: int, job: str = "j1") -> Requested:
    outcome = "scored" if value else "failed"
    return Requested(
        job=job,
        call=call,
        solution=solution,
        outcome=outcome,
        value=value,
        calls=calls,
        responses=6 * calls,
    )


def call(job: str, n_responses: int, dollars: float | None) -> tuple[AnyEvent, list[str]]:
    texts = [f"{job} says {i}" for i in range(n_responses)]
    event = answered(
        job,
        texts=tuple(map(text_hash, texts)),
        prompt_tokens=100,
        completion_tokens=10 * n_responses,
        dollars=dollars,
        truncated=(0,),
        seconds=2.0,
    )
    return event, ["expert", "improve this", *texts]


def meta(improver: str, value: float, split: str = "val") -> MetaEvaluated:
    outcome = Scored(value=value, standard_error=0.05, values=(value, value))
    return MetaEvaluated(improver=improver, split=split, outcome=outcome, by_task={"maxcut": value})


def improved(job: str, **fields: Any) -> Improved:
    return Improved(job=job, improver="i0", initial="i0", target="meta-utility", **fields)


# Three rounds; the second brings nothing. A kill after request 2 made the job ask it again.
RUN: list[tuple[AnyEvent, list[str]]] = [
    (RunStarted(config={}), []),
    (ended(0, None, SEED), [SEED]),
    call("j1", 6, 0.25),
    (scored("s1", 0.4), []),
    (scored("s1", 0.6, repeat=1, failed=1, timed_out=2), []),
    (requested(1, "s1", 0.4, 1), []),
    (requested(2, "lost", 0.7, 1), []),
    (RunResumed(recorded=7), []),
    (requested(1, "s1", 0.4, 1), []),
    (
        Evaluated(
            task="maxcut", solution="s2", split="val", repeat=0, outcome=Failed(reason="raised")
        ),
        [],
    ),
    (requested(2, "s2", 0.0, 1), []),
    call("j1", 2, None),
    (scored("s3", 0.9, failed=1), []),
    (requested(3, "s3", 0.9, 2), []),
    (requested(4, "s1", 0.4, 2), []),
    (improved("j1", outcome=Returned(source=FIRST), calls=2, responses=8, utility_calls=4), []),
    (meta("i1", 0.3), []),
    (ended(1, FIRST, FIRST), [FIRST]),
    call("j2", 1, 0.5),
    (improved("j2", outcome=TimedOut(reason="cpu")), []),
    (BudgetRefused(job="j2", limit="calls", times=3), []),
    (Attempted(job="j2", what="socket", detail="connect"), []),
    (Paused(what="rate limit", detail="429", seconds=3.0), []),
    (ended(2, None, FIRST, accepted=False), []),
    (meta("i3", 0.5), []),
    (ended(3, SECOND, SECOND), [SECOND]),
    (ended(1, FIRST, FIRST), []),
    (
        MetaEvaluated(improver="i3", split="test", outcome=OutOfMemory(reason="512 MB")),
        [],
    ),
    (RunEnded(status="budget", reason="2 dollars are spent"), []),
]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """A store with the run above, and another run of the same names that must not mix with it."""
    path = tmp_path_factory.mktemp("views") / "runs.db"
    with SQLiteStore.open(path, writable=True, clock=lambda: 1795521600.0) as store:
        one, two = store.new_run({"rounds": 3}, "run maxcut"), store.new_run({}, "run other")
        for event, texts in RUN:
            store.append_with_texts(one, event, texts)
            store.append_with_texts(two, event, texts)
        store.append(two, RunResumed(recorded=29))
        store.append(two, requested(5, "s9", 5.0, 3))
        store.append(two, scored("s1", 5.0, repeat=2))
        assert store.check() == []
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    yield connection
    connection.close()


RUN_ID = "r-20261124-001"


def test_runs_have_the_status_of_their_last_end(database: sqlite3.Connection) -> None:
    rows = database.execute("SELECT run, status, reason, ended_at, events FROM v_runs").fetchall()
    assert rows == [
        (RUN_ID, "budget", "2 dollars are spent", 1795521600.0, 29),
        ("r-20261124-002", "unfinished", "", None, 32),
    ]


def test_rounds_know_their_parent_and_their_window_of_events(database: sqlite3.Connection) -> None:
    rows = database.execute(
        "SELECT round, parent, improver, accepted, first_seq, last_seq FROM v_rounds "
        "WHERE run = ? ORDER BY round",
        (RUN_ID,),
    ).fetchall()
    seed, first, second = map(text_hash, (SEED, FIRST, SECOND))
    assert rows == [
        (0, None, seed, 1, 1, 2),
        (1, seed, first, 1, 3, 18),
        (2, first, first, 0, 19, 24),
        (3, first, second, 1, 25, 26),
    ]


@pytest.mark.parametrize(
    ("view", "columns", "expected"),
    [
        (
            "v_answers",
            "seq, job, responses, truncated, prompt_tokens, completion_tokens, dollars, seconds",
            [
                (3, "j1", 6, 1, 100, 60, 0.25, 2.0),
                (12, "j1", 2, 1, 100, 20, None, 2.0),
                (19, "j2", 1, 1, 100, 10, 0.5, 2.0),
            ],
        ),
        (
            "v_scores",
            "solution, repeat, outcome, value, reason, instances, failed_instances",
            [
                ("s1", 0, "scored", 0.4, None, 4, 0),
                ("s1", 1, "scored", 0.6, None, 4, 3),
                ("s2", 0, "failed", None, "raised", 0, 0),
                ("s3", 0, "scored", 0.9, None, 4, 1),
            ],
        ),
        (
            "v_improvements",
            "job, target, outcome, reason, source, unchanged, calls, responses, utility_calls",
            [
                ("j1", "meta-utility", "returned", None, FIRST, 0, 2, 8, 4),
                ("j2", "meta-utility", "timed_out", "cpu", None, 0, 0, 0, 0),
            ],
        ),
        (
            "v_meta_scores",
            "improver, split, outcome, value, standard_error, by_task",
            [
                ("i1", "val", "scored", 0.3, 0.05, '{"maxcut":0.3}'),
                ("i3", "val", "scored", 0.5, 0.05, '{"maxcut":0.5}'),
                ("i3", "test", "out_of_memory", None, None, "{}"),
            ],
        ),
        (
            "v_failures",
            "during, outcome, reason, program",
            [
                ("evaluated", "failed", "raised", "s2"),
                ("improved", "timed_out", "cpu", "i0"),
                ("meta_evaluated", "out_of_memory", "512 MB", "i3"),
            ],
        ),
        ("v_refusals", 'job, times, "limit"', [("j2", 3, "calls")]),
        ("v_attempts", "job, what, detail", [("j2", "socket", "connect")]),
        ("v_pauses", "what, detail, seconds", [("rate limit", "429", 3.0)]),
    ],
)
def test_a_view_has_the_fields_of_its_events(
    database: sqlite3.Connection, view: str, columns: str, expected: list[tuple[object, ...]]
) -> None:
    query = f"SELECT {columns} FROM {view} WHERE run = ? ORDER BY seq"
    assert database.execute(query, (RUN_ID,)).fetchall() == expected


# --- the page -------------------------------------------------------------------------------------

QUERIES = {
    "Scores of every candidate": [
        [
            ("maxcut", "s3", "val", 1, 0.9, 0),
            ("maxcut", "s1", "val", 2, 0.5, 0),
            ("maxcut", "s2", "val", 1, None, 1),
        ]
    ],
    "Anytime curve of an improve job": [
        [(1, 1, 6, 0.4, 0.4), (2, 1, 6, 0.0, 0.4), (3, 2, 12, 0.9, 0.9), (4, 2, 12, 0.4, 0.9)]
    ],
    "Language model calls, tokens and money by round": [
        [(1, 2, 8, 200, 0, 80, 0, 0.25, 1), (2, 1, 1, 100, 0, 10, 0, 0.5, 0)]
    ],
    "Tokens and money by improver": [[("j2", "", 1, 100, 10, 0.5), ("j1", "", 2, 200, 80, 0.25)]],
    "What counts against the limits of a run": [[(390, 0.75)]],
    "What was paid for": [[("live", 3, 300, 90)]],
    "Failures by kind": [
        [
            ("evaluated", "failed", 1),
            ("meta_evaluated", "out_of_memory", 1),
            ("improved", "timed_out", 1),
        ],
        [("failed", 2), ("timed_out", 2)],
    ],
    "Lineage of an improver": [
        [
            (3, text_hash(SECOND), text_hash(FIRST), SECOND),
            (1, text_hash(FIRST), text_hash(SEED), FIRST),
            (0, text_hash(SEED), None, SEED),
        ]
    ],
    "Meta-utility by round": [[(1, 1, "val", 0.3, 0.05), (3, 1, "val", 0.5, 0.05)]],
    "What the language model was asked and said": [
        [(3, i, "improve this", f"j1 says {i}") for i in range(6)]
        + [(12, i, "improve this", f"j1 says {i}") for i in range(2)]
    ],
}


def documented_queries() -> dict[str, list[str]]:
    """The SQL blocks of the page, by the heading above them."""
    sections = re.split(r"^### (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    pairs = zip(sections[1::2], sections[2::2], strict=True)
    return {name: re.findall(r"```sql\n(.*?)```", text, re.DOTALL) for name, text in pairs}


@pytest.mark.parametrize("name", list(QUERIES))
def test_a_documented_query_gives_what_its_heading_says(
    database: sqlite3.Connection, name: str
) -> None:
    values = {"run": RUN_ID, "job": "j1", "improver": text_hash(SECOND)}
    found = [database.execute(query, values).fetchall() for query in documented_queries()[name]]
    assert found == QUERIES[name]


def test_every_documented_query_is_tested() -> None:
    assert list(documented_queries()) == list(QUERIES)


def test_the_page_names_every_table_and_view_with_its_columns(
    database: sqlite3.Connection,
) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    documented = {name: re.findall(r"`(\w+)`", columns) for name, columns in rows}
    names = database.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
    actual = {
        name: [column[1] for column in database.execute(f"PRAGMA table_info({name})")]
        for (name,) in names
    }
    assert documented == actual


def test_the_events_of_a_run_can_be_read_with_the_json_functions_of_sqlite(
    database: sqlite3.Connection,
) -> None:
    rows = database.execute("SELECT body, json_valid(body) FROM events").fetchall()
    assert all(valid for _, valid in rows)
    assert json.loads(rows[0][0]) == {"type": "run_started", "config": {}}
