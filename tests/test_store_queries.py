"""Every query gives what a look at all events gives, in both stores, new and upgraded alike."""

import itertools
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import msgspec
import pytest
from postgres_server import PostgresServer, binaries, postgres_server
from test_store_contract import EVERY_KIND, answered
from test_store_views import RUN as WITH_REPETITIONS

from selftaught.budget import Budget, Spent
from selftaught.events import (
    Answered,
    AnyEvent,
    Attempted,
    Audited,
    BudgetRefused,
    CandidateTried,
    Evaluated,
    Improved,
    MetaEvaluated,
    Rejected,
    Requested,
    RoundEnded,
    RunEnded,
    Unanswered,
    kind,
)
from selftaught.history import RoundView, read_history
from selftaught.improver import load_improver
from selftaught.runs.config import RunConfig
from selftaught.runs.costs import Call, read_costs
from selftaught.runs.launch import start
from selftaught.store import migrations, postgres_schema, queries
from selftaught.store.event_store import RunRow, Store, text_hash
from selftaught.store.opening import open_store
from selftaught.store.postgres_text import column_bytes
from selftaught.store.record import encode_config, encode_event, text_to_column, without_nul
from selftaught.strategies.trace import Exchange, strategies_of
from selftaught.strategies_used import strategies_seen
from selftaught.utility import Outcome, Returned, Scored
from selftaught.utility import kind as outcome_kind

Recorded = tuple[AnyEvent, Sequence[str]]
CONFIG = RunConfig(command="run", tasks=("toy",), improvers=(("seed", "x"),), model="m")


@pytest.fixture(scope="module")
def real(toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Recorded]:
    """The events of a real run with the texts they refer to."""
    path = str(tmp_path_factory.mktemp("real") / "s.db")
    budget = Budget(calls=2, responses=2, utility_calls=3)
    config = RunConfig(
        command="run",
        tasks=(str(toy_folder),),
        improvers=(("seed", load_improver("seed").source),),
        rounds=2,
        repeats=2,
        sealed_repeats=1,
        budget=budget,
        meta_budget=budget,
        model="mutation",
        slots=1,
    )
    run = start(config, path)
    with open_store(path, writable=False) as store:
        return [(event, _texts(store, event)) for _, _, event in store.events(run.id)]


def _texts(store: Store, event: AnyEvent) -> list[str]:
    match event:
        case Answered():
            return list(store.texts((event.expertise, event.message, *event.texts)))
        case Evaluated():
            return [store.text(event.solution)]
        case Improved():
            return [store.text(event.improver), store.text(event.initial)]
        case RoundEnded():
            return [store.text(event.improver)]
        case _:
            return []


def twice() -> list[Recorded]:
    """Every kind of event, twice, and what a hostile program may put into one."""
    texts = ["expert", "improve this", "answer one", "answer two", "s0", "i0"]
    odd = Attempted(job="r1", what="a\ud800\0b", detail="\0")
    same_job = answered(job="r10", dollars=0.1, lost_tokens=3, lost_dollars=0.5)
    return [(one, texts) for one in (*EVERY_KIND, odd, same_job, *EVERY_KIND)]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer | None]:
    with postgres_server() if binaries() else nullcontext() as running:
        yield running


RUNS = ["real", "repetitions", "twice"]
STORES = ["sqlite", "postgres"]


@pytest.fixture(params=RUNS)
def recorded(request: pytest.FixtureRequest, real: list[Recorded]) -> list[Recorded]:
    if request.param == "real":
        return real
    return twice() if request.param == "twice" else WITH_REPETITIONS


@pytest.fixture(params=STORES)
def name(request: pytest.FixtureRequest, server: PostgresServer | None, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "s.db")
    if server is None:
        pytest.skip("no Postgres server here; on Debian: apt-get install postgresql")
    return server.new_database()


@pytest.fixture
def written(name: str, recorded: list[Recorded]) -> Iterator[tuple[Store, str]]:
    """A store with the run, beside another one that must not mix with it."""
    with open_store(name, writable=True) as store:
        run = store.new_run(msgspec.to_builtins(CONFIG), "x")
        other = store.new_run(msgspec.to_builtins(CONFIG), "y")
        for event, texts in recorded:
            store.append_with_texts(run, event, texts)
            if not isinstance(event, Improved):
                store.append_with_texts(other, event, texts)
        yield store, run


def test_what_show_tells_is_what_all_events_tell(written: tuple[Store, str]) -> None:
    store, run = written
    assert told(store, run) == plain_history(store, run)
    assert wrong_totals(store) == []


def wrong_totals(store: Store) -> list[str]:
    # Texts of made-up events are missing.
    return [one for one in store.check() if "refers to text" not in one]


def told(store: Store, run: str) -> dict[str, object]:
    history = read_history(store, run)
    return msgspec.to_builtins(history) | {"row": None, "config": None}  # type: ignore[no-any-return]


def plain_history(store: Store, run: str) -> dict[str, object]:
    """What `show --json` is made of, by one pass over all events."""
    events = [event for _, _, event in store.events(run)]
    live = [e for e in events if isinstance(e, Answered) and e.source == "live"]
    ended = {e.round: e for e in reversed(events) if isinstance(e, RoundEnded)}
    measured = {(e.improver, e.split): e.outcome for e in events if isinstance(e, MetaEvaluated)}
    trials = {e.round: e for e in events if isinstance(e, CandidateTried)}
    spent = plain_searches(events)
    speculated = [e.speculated for e in events if isinstance(e, RunEnded)]

    def counted(values: Iterator[str]) -> dict[str, int]:
        return {without_nul(value): n for value, n in Counter(values).items()}

    refusals, audited = Counter[str](), Counter[str]()
    for event in events:
        if isinstance(event, BudgetRefused):
            refusals[event.limit] += event.times
        elif isinstance(event, Audited):
            for found in event.kinds:
                audited[found] += sum(event.generations.values())
    history = {
        "row": None,
        "config": None,
        "rounds": [
            RoundView(
                number=one.round,
                candidate=one.candidate,
                improver=one.improver,
                accepted=one.accepted,
                reason=one.reason,
                validation=measured.get((one.improver, "validation")),
                sealed=measured.get((one.improver, "sealed")),
                search=spent[one.round],
                trial=trials.get(one.round),
            )
            for _, one in sorted(ended.items())
        ],
        "improvements": [
            e for e in events if isinstance(e, Improved) and e.job.startswith("improve/")
        ],
        "calls": len(live),
        "responses": sum(len(e.texts) for e in live),
        "prompt_tokens": sum(e.prompt_tokens for e in live),
        "completion_tokens": sum(e.completion_tokens for e in live),
        "cached_tokens": sum(e.cached_tokens for e in live),
        "reasoning_tokens": sum(e.reasoning_tokens for e in live),
        "dollars": one_by_one(e.dollars or 0.0 for e in live),
        "unpriced_calls": sum(e.dollars is None for e in live),
        "model_seconds": one_by_one(e.seconds for e in live),
        "sources": counted(e.source for e in events if isinstance(e, Answered)),
        "rejections": sum(isinstance(e, Rejected) for e in events),
        "scored": sum(isinstance(e, Evaluated) for e in events),
        "outcomes": counted(outcome_kind(e.outcome) for e in events if isinstance(e, Evaluated)),
        "endings": counted(
            "unchanged" if e.unchanged else outcome_kind(e.outcome)
            for e in events
            if isinstance(e, Improved)
        ),
        "attempts": attempts(events, store),
        "refusals": dict(refusals),
        "speculated": {
            field: sum(getattr(one, field) for one in speculated)
            for field in ("begun", "used", "used_s", "wasted_s")
        },
        "audited": dict(audited),
    }
    return msgspec.to_builtins(history)  # type: ignore[no-any-return]


def attempts(events: list[AnyEvent], store: Store) -> dict[str, int]:
    # A label is a column, and Postgres has no NUL there.
    clean = without_nul if store.path.startswith("postgresql") else str
    return dict(Counter(clean(e.what) for e in events if isinstance(e, Attempted)))


def one_by_one(values: Iterator[float]) -> float:
    """The sum as one adds up in the order of events: equal to the last digit."""
    return list(itertools.accumulate(values, initial=0.0))[-1]


def plain_searches(events: Sequence[AnyEvent]) -> dict[int, Spent]:
    """What each round spent to find its candidate: a job counts where it ended first."""
    found: dict[int, Spent] = {}
    seen: set[str] = set()
    now = Spent()
    for event in events:
        if isinstance(event, Improved) and event.job not in seen:
            seen.add(event.job)
            phase = event.job.partition("/")[0]
            if phase in ("round", "validation"):
                now += Spent(
                    calls=event.calls,
                    responses=event.responses,
                    utility_calls=event.utility_calls if phase == "validation" else 0,
                )
        elif isinstance(event, RoundEnded) and event.round not in found:
            found[event.round], now = now, Spent()
    return found


def test_costs_are_the_sums_of_calls(written: tuple[Store, str]) -> None:
    store, run = written
    costs = read_costs(store, run)
    asked = [e for _, _, e in store.events(run) if isinstance(e, (Answered, Unanswered))]
    assert len(costs.calls) == len(asked)
    keys: dict[str, Callable[[Call], object]] = {
        "by_model": lambda call: call.model or None,
        "by_phase": lambda call: call.phase,
        "by_round": lambda call: call.round,
        "by_improver": lambda call: call.improver,
    }
    for name, key in keys.items():
        groups: dict[object, list[Call]] = {}
        for call in costs.calls:
            if name != "by_model" or call.answered:
                groups.setdefault(key(call), []).append(call)
        sums = getattr(costs, name)
        assert len(sums) == len(groups)
        for total, calls in zip(sums, groups.values(), strict=True):
            assert total.calls == sum(call.answered for call in calls)
            assert total.unpriced_calls == sum(c.answered and c.dollars is None for c in calls)
            for field in (
                "responses", "prompt_tokens", "cached_tokens", "completion_tokens",
                "reasoning_tokens", "lost_tokens",
            ):  # fmt: skip
                assert getattr(total, field) == sum(getattr(call, field) for call in calls)
            for field in ("dollars", "lost_dollars", "seconds"):
                summed = sum(getattr(call, field) or 0.0 for call in calls)
                assert getattr(total, field) == pytest.approx(summed)
    short = read_costs(store, run, with_calls=False)
    assert short == msgspec.structs.replace(costs, calls=())


def test_the_list_of_runs_has_their_counts(written: tuple[Store, str]) -> None:
    store, _ = written
    assert len(store.runs()) == 2
    for summary, row in zip(queries.run_list(store), store.runs(), strict=True):
        assert summary.row == row == store.run(row.id)
        events = [event for _, _, event in store.events(row.id)]
        live = [e for e in events if isinstance(e, Answered) and e.source == "live"]
        scores = [e for e in events if isinstance(e, Evaluated)]
        assert summary.calls == len(live)
        assert summary.tokens == sum(e.prompt_tokens + e.completion_tokens for e in live)
        assert summary.dollars == one_by_one(e.dollars or 0.0 for e in live)
        assert summary.scores == len(scores)
        assert summary.failures == sum(not isinstance(e.outcome, Scored) for e in scores)
        assert summary.attempts == sum(isinstance(e, Attempted) for e in events)


def test_failures_are_those_of_all_events(written: tuple[Store, str]) -> None:
    store, run = written
    expected: Counter[tuple[str, str]] = Counter()
    for _, _, event in store.events(run):
        if isinstance(event, (Evaluated, Improved, MetaEvaluated)) and not isinstance(
            event.outcome, (Scored, Returned)
        ):
            expected[kind(event), outcome_kind(event.outcome)] += 1
    found = queries.failures_by_kind(store, run)
    assert {(during, outcome): n for during, outcome, n in found} == dict(expected)
    assert [n for _, _, n in found] == sorted((n for _, _, n in found), reverse=True)


def test_curves_and_exchanges_are_those_of_the_job(written: tuple[Store, str]) -> None:
    store, run = written
    events = [event for _, _, event in store.events(run)]
    jobs = {e.job for e in events if isinstance(e, (Requested, Answered))}
    for job in jobs:
        asked = {e.call: e for e in events if isinstance(e, Requested) and e.job == job}
        assert queries.anytime(store, run, job) == [asked[call] for call in sorted(asked)]
        said = [e for e in events if isinstance(e, Answered) and e.job == job]
        assert queries.exchanges(store, run, job) == said
        assert queries.exchanges(store, run, job, 2) == said[:2]
    assert jobs
    assert queries.anytime(store, run, "no/such/job") == []


def test_candidates_come_in_the_order_of_their_means_page_by_page(
    written: tuple[Store, str],
) -> None:
    store, run = written
    blocks: dict[tuple[str, str], dict[str, list[Outcome]]] = {}
    for _, _, event in store.events(run):
        if isinstance(event, Evaluated):
            of_split = blocks.setdefault((event.task, event.split), {})
            of_split.setdefault(event.solution, []).append(event.outcome)
    assert blocks
    for (task, split), outcomes in blocks.items():
        expected = {}
        for solution, several in outcomes.items():
            values = [one.value for one in several if isinstance(one, Scored)]
            if values:
                mean = pytest.approx(sum(values) / len(values))
                expected[solution] = (len(several), len(values), mean)
        found: list[queries.Candidate] = []
        while page := queries.best_candidates(
            store, run, task, split, after=found[-1] if found else None, limit=2
        ):
            assert len(page) <= 2
            found += page
        assert {one.solution: (one.blocks, one.scored, one.mean) for one in found} == expected
        means = [one.mean or 0.0 for one in found]
        assert means == sorted(means, reverse=True)


def test_pages_of_events_and_attempts_follow_each_other(written: tuple[Store, str]) -> None:
    store, run = written
    everything = list(store.events(run))
    followed: list[tuple[int, float, AnyEvent]] = []
    while page := queries.tail(store, run, after=followed[-1][0] if followed else 0, limit=7):
        assert len(page) <= 7
        followed += page
    assert followed == everything
    tried = [one for one in everything if isinstance(one[2], Attempted)]
    first = queries.attempts(store, run, limit=1)
    assert first == tried[:1]
    assert queries.attempts(store, run, after=first[0][0] if first else 0) == tried[1:]


def test_kinds_are_merged_in_order_whatever_they_are(written: tuple[Store, str]) -> None:
    store, run = written
    everything = list(store.events(run))
    kinds = sorted({kind(event) for _, _, event in everything})
    for wanted in (kinds, kinds[:2], kinds[1::3], [*kinds[:2], kinds[0]], ["no such"]):
        for after in (0, 5, 10_000):
            expected = [o for o in everything if kind(o[2]) in wanted and o[0] > after]
            assert list(store.events(run, wanted, after=after)) == expected


def test_strategies_are_those_of_the_first_jobs(written: tuple[Store, str]) -> None:
    store, run = written
    events = [event for _, _, event in store.events(run)]
    improvers = {e.improver for e in events if isinstance(e, Improved)}
    jobs: dict[str, dict[str, Improved]] = {}
    for event in events:
        if isinstance(event, Improved):
            of_it = jobs.setdefault(event.improver, {})
            if len(of_it) < 8:
                of_it[event.job] = event
    if not any(isinstance(e, RoundEnded) for e in events) or "i0" in improvers:
        # Made up: the improvers of its rounds are not those that its jobs name.
        return
    seen = strategies_seen(store, run, improvers)
    assert any(seen.values())
    for improver, found in seen.items():
        expected: dict[str, str] = {}
        for job, ended in jobs[improver].items():
            asked = [
                Exchange(
                    expertise=e.expertise,
                    message=store.text(e.message),
                    temperature=e.temperature,
                    answers=store.texts(e.texts),
                )
                for e in events
                if isinstance(e, Answered) and e.job == job
            ]
            for strategy, evidence in strategies_of(asked, store.text(ended.initial)).items():
                expected.setdefault(strategy, evidence)
        if "refinement" in expected:
            expected.pop("best_of_n", None)
        assert found == expected


# --- stores of the version before ---------------------------------------------------------------


def write_old(name: str, recorded: list[Recorded], monkeypatch: pytest.MonkeyPatch) -> None:
    """A store as schema 3 left it, with one run."""
    rows, texts = [], {}
    for seq, (event, said) in enumerate(recorded, start=1):
        body, stored = encode_event(event)
        rows.append(("r-20261124-001", seq, float(seq), kind(event), stored.key, body))
        texts.update({text_hash(text): text for text in said})
    run = ("r-20261124-001", 1.0, "x", encode_config(msgspec.to_builtins(CONFIG)))
    if name.startswith("postgresql"):
        import psycopg

        with psycopg.connect(name, autocommit=True) as old, monkeypatch.context() as patched:
            patched.setattr(postgres_schema, "MIGRATIONS", postgres_schema.MIGRATIONS[:3])
            postgres_schema.migrate(old, 0.0)
            with old.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO runs (id, created_at, command, config) VALUES (%s, %s, %s, %s)",
                    run,
                )
                cursor.executemany(
                    "INSERT INTO texts VALUES (%s, %s)",
                    [(key, column_bytes(text)) for key, text in texts.items()],
                )
                cursor.executemany(
                    "INSERT INTO events VALUES (%s, %s, %s, %s, %s, %s)",
                    [(*row[:4], without_nul(row[4]), row[5]) for row in rows],
                )
        return
    old_file = sqlite3.connect(name, isolation_level=None)
    migrations.migrate(old_file, 0.0, migrations.MIGRATIONS[:3])
    old_file.execute("INSERT INTO runs VALUES (?, ?, ?, ?)", run)
    old_file.executemany(
        "INSERT INTO texts VALUES (?, ?)",
        [(key, text_to_column(text)) for key, text in texts.items()],
    )
    old_file.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", rows)
    old_file.close()


def everything_told(store: Store) -> tuple[object, ...]:
    run = store.resolve("latest")
    of_task = ("three_sat", "val")
    return (
        told(store, run),
        read_costs(store, run),
        queries.best_candidates(store, run, *of_task),
        [msgspec.structs.replace(one, row=blank(one.row)) for one in queries.run_list(store)],
    )


def blank(row: RunRow) -> RunRow:
    return msgspec.structs.replace(row, id="", created_at=0.0, command="", ended_at=None)


def test_a_store_of_the_version_before_tells_the_same(
    name: str, recorded: list[Recorded], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with open_store(str(tmp_path / "new.db"), writable=True) as new:
        run = new.new_run(msgspec.to_builtins(CONFIG), "x")
        for event, texts in recorded:
            new.append_with_texts(run, event, texts)
    write_old(name, recorded, monkeypatch)
    with open_store(name, writable=False) as old:
        as_it_is = everything_told(old)
        assert as_it_is[0] == plain_history(old, "r-20261124-001")
        assert wrong_totals(old) == []
    with open_store(name, writable=True) as upgraded:
        assert everything_told(upgraded) == as_it_is
        assert wrong_totals(upgraded) == []
        upgraded.append_with_texts("r-20261124-001", answered(), ["expert", "improve this"])
        assert told(upgraded, "r-20261124-001") == plain_history(upgraded, "r-20261124-001")
    if not name.startswith("postgresql"):
        with open_store(str(tmp_path / "new.db"), writable=False) as new:
            costs = read_costs(new, "latest")
            expected = (
                everything_told(new)[0],
                msgspec.structs.replace(costs, run="r-20261124-001"),
            )
            assert as_it_is[:2] == expected


def test_an_event_that_cannot_be_read_does_not_keep_a_store_from_being_upgraded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "s.db")
    write_old(path, twice(), monkeypatch)
    old = sqlite3.connect(path, isolation_level=None)
    number = len(twice()) + 1
    old.execute(
        "INSERT INTO events VALUES ('r-20261124-001', ?, 0, 'future', '', '{\"type\":\"future\"}')",
        (number,),
    )
    old.close()
    with open_store(path, writable=True) as store:
        assert queries.totals_of(store, "r-20261124-001")
        assert len(wrong_totals(store)) == 1


def test_totals_that_do_not_agree_with_the_events_are_found(name: str) -> None:
    with open_store(name, writable=True) as store:
        run = store.new_run({}, "x")
        for event, texts in twice():
            store.append_with_texts(run, event, texts)
    statements = (
        "UPDATE totals SET events = events + 1 WHERE kind = 'evaluated'",
        "DELETE FROM candidates WHERE split = 'val'",
    )
    if name.startswith("postgresql"):
        import psycopg

        with psycopg.connect(name, autocommit=True) as raw:
            for statement in statements:
                raw.execute(statement)
    else:
        shell = sqlite3.connect(name, isolation_level=None)
        for statement in statements:
            shell.execute(statement)
        shell.close()
    with open_store(name, writable=False) as store:
        assert wrong_totals(store) == [
            f"The table {table!r} does not agree with the events of run {run!r}."
            for table in ("totals", "candidates")
        ]
