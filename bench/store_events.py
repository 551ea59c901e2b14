"""A run of any size, made up but in the proportions of a real one, and written in bulk.

Rounds of Algorithm 1; in each, improvers that are measured on three tasks, three repeats each; in
each of those, calls with six responses, scores of the programs in them, now and then a failure, a
refusal, an attempt. Encoding, hashes and totals are the store's own; only the transactions are
large.
"""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from selftaught.events import (
    Answered,
    AnyEvent,
    Attempted,
    BudgetRefused,
    Evaluated,
    Improved,
    MetaEvaluated,
    Requested,
    RoundEnded,
    RunEnded,
    RunStarted,
    kind,
)
from selftaught.improver import ENTRY_POINT, improver_names, load_improver
from selftaught.runs.config import RunConfig
from selftaught.solution import Solution
from selftaught.store import totals
from selftaught.store.event_store import text_hash
from selftaught.store.ledger import Ledger
from selftaught.store.opening import open_store
from selftaught.store.postgres import PostgresStore
from selftaught.store.record import encode_event, text_to_column
from selftaught.store.sqlite import SQLiteStore
from selftaught.utility import Failed, InvalidValue, Outcome, Returned, Scored, TimedOut

TASKS = ("tsp", "three_sat", "circle_packing")
DIGEST = "0123456789abcdef"
REPEATS, CALLS, RESPONSES, SCORES = 3, 4, 6, 24
ROUNDS = 12
EXPERTISE = "You are an expert computer science researcher and programmer. " * 4
PROGRAM = """import random

def algorithm(points):
    \"\"\"Order the points; attempt {n}.\"\"\"
    tour = list(range(len(points)))
    best, length = tour[:], measure(points, tour)
    for step in range({steps}):
        i, j = sorted(random.sample(range(len(tour)), 2))
        tour[i:j] = reversed(tour[i:j])
        now = measure(points, tour)
        if now < length * {factor}:
            best, length = tour[:], now
    return best
"""
BATCH = 5_000

Recorded = tuple[AnyEvent, tuple[str, ...]]


@dataclass(frozen=True)
class Made:
    """What a made run holds that one asks for: its id, a job with scores, improvers."""

    run: str
    job: str
    improver: str
    solution: str


def config() -> RunConfig:
    """Of the made run."""
    return RunConfig(
        command="run",
        tasks=TASKS,
        improvers=(("seed", load_improver("seed").source),),
        rounds=ROUNDS - 1,
        model="openai/made-up",
        digests=dict.fromkeys(TASKS, DIGEST),
    )


def events(wanted: int, seed: int = 0) -> Iterator[Recorded]:
    """The events of a run of about so many, each with the texts it comes with."""
    luck = random.Random(seed)
    numbers = itertools.count()
    sources = [load_improver(name).source for name in improver_names()]
    per_improver = len(TASKS) * REPEATS * (CALLS + 2 * SCORES + 2) + 3
    per_round = max(1, round(wanted / ROUNDS / per_improver))
    current = Solution(load_improver("seed").source, ENTRY_POINT)
    yield RunStarted(config=msgspec.to_builtins(config())), ()
    for number in range(ROUNDS):
        candidate: Solution | None = None
        for place in range(per_round):
            improver = current
            if number or place:
                text = f"{luck.choice(sources)}\n# improver {next(numbers)}\n"
                improver = candidate = Solution(text, ENTRY_POINT)
            if number:
                yield answered(f"round/{number}", place, (improver.source,) * 2, luck)
            yield from measured(improver, numbers, luck)
            if number:
                yield requested(f"round/{number}", place + 1, improver.hash, luck.random())
        if number and candidate is not None:
            yield improved(f"round/{number}", current, Returned(source=candidate.source), luck)
        accepted = number in (0, 2, 5, 9)
        if accepted and candidate is not None:
            current = candidate
        sealed = Scored(value=luck.random(), standard_error=0.1)
        yield MetaEvaluated(improver=current.hash, split="sealed", outcome=sealed), ()
        yield (
            RoundEnded(
                round=number,
                candidate=None if candidate is None else candidate.hash,
                improver=current.hash,
                accepted=accepted,
                reason="measured",
            ),
            (current.source, candidate.source if candidate else current.source),
        )
    yield RunEnded(status="done"), ()


def measured(improver: Solution, numbers: Iterator[int], luck: random.Random) -> Iterator[Recorded]:
    """An improver at work on every task."""
    for task, repeat in itertools.product(TASKS, range(REPEATS)):
        job = f"validation/{improver.hash}/{task}/{repeat}"
        calls = 0
        best = program(next(numbers), luck)
        for place in range(SCORES):
            if place % RESPONSES == 0:
                programs = [program(next(numbers), luck) for _ in range(RESPONSES)]
                yield answered(job, calls, programs, luck)
                calls += 1
            source = programs[place % RESPONSES]
            yield evaluated(task, "val", repeat, source, outcome(luck))
            yield requested(job, place + 1, text_hash(source), luck.random(), calls)
            best = source
        yield evaluated(task, "val", 500 + repeat, best, outcome(luck))
        if luck.random() < 0.02:
            yield Attempted(job=job, what="socket", detail="connect to 10.0.0.1, port 80"), ()
        if luck.random() < 0.1:
            yield BudgetRefused(job=job, limit="calls", times=3), ()
        yield improved(job, improver, Returned(source=best), luck)
    value = Scored(value=luck.random(), standard_error=0.1, values=(0.5,) * 9)
    by_task = dict.fromkeys(TASKS, 0.5)
    yield (
        MetaEvaluated(improver=improver.hash, split="validation", outcome=value, by_task=by_task),
        (),
    )


def program(number: int, luck: random.Random) -> str:
    """One of as many programs as there are numbers."""
    return PROGRAM.format(n=number, steps=luck.randrange(10_000), factor=luck.random())


def outcome(luck: random.Random) -> Outcome:
    """Mostly a score on 20 instances."""
    kind_ = luck.random()
    if kind_ < 0.05:
        return Failed(reason="ValueError: empty range for randrange() (10, 3, -7) at line 7")
    if kind_ < 0.07:
        return TimedOut(reason="more than 0.3 s of CPU time")
    if kind_ < 0.08:
        return InvalidValue(reason="a tour must visit every point once")
    values = tuple(luck.random() for _ in range(20))
    return Scored(value=sum(values) / 20, standard_error=0.06, values=values)


def answered(
    job: str, call: int, programs: "list[str] | tuple[str, ...]", luck: random.Random
) -> Recorded:
    """A call with its texts."""
    message = f"Improve this program. Call {call} of {job}.\n```python\n{programs[0]}```\n"
    texts = tuple(
        f"Here is a better one, number {n}:\n\n```python\n{source}```\n"
        for n, source in enumerate(programs)
    )
    event = Answered(
        job=job,
        content_hash=text_hash(message + EXPERTISE),
        occurrence=0,
        expertise=text_hash(EXPERTISE),
        message=text_hash(message),
        temperature=0.7,
        texts=tuple(map(text_hash, texts)),
        model="made-up-1" if call % 2 else "made-up-2",
        prompt_tokens=luck.randrange(500, 3000),
        completion_tokens=luck.randrange(300, 900),
        dollars=luck.random() / 100,
        seconds=luck.random() * 4,
        reuse_key="0" * 24,
    )
    return event, (EXPERTISE, message, *texts)


def evaluated(task: str, split: str, repeat: int, source: str, scored: Outcome) -> Recorded:
    """A score with the program."""
    event = Evaluated(
        task=f"{task}@{DIGEST}",
        solution=text_hash(source),
        split=split,
        repeat=repeat,
        outcome=scored,
        seconds=0.03,
    )
    return event, (source,)


def requested(job: str, call: int, solution: str, value: float, calls: int = 1) -> Recorded:
    """A score as an improver was told it."""
    event = Requested(
        job=job,
        call=call,
        solution=solution,
        outcome="scored",
        value=value,
        calls=calls,
        responses=calls * RESPONSES,
    )
    return event, ()


def improved(job: str, improver: Solution, ended: Outcome, luck: random.Random) -> Recorded:
    """The end of an improve job."""
    event = Improved(
        job=job,
        improver=improver.hash,
        initial=improver.hash,
        target="meta-utility" if job.startswith("round/") else job.split("/")[2],
        outcome=ended,
        calls=CALLS,
        responses=CALLS * RESPONSES,
        utility_calls=SCORES,
        seconds=luck.random(),
    )
    return event, (improver.source,)


def fill(name: str, run_config: RunConfig, made: Iterator[Recorded]) -> Made:
    """Write a run into a store in bulk; returns what may be asked for."""
    with open_store(name, writable=True) as store:
        run = store.new_run(msgspec.to_builtins(run_config), run_config.command)
        job = improver = solution = ""
        ledger = Ledger()
        known: set[str] = set()
        seq = 0
        while batch := list(itertools.islice(made, BATCH)):
            rows, texts = [], {}
            for event, said in batch:
                seq += 1
                body, stored = encode_event(event)
                ledger.add(run, seq, stored)
                rows.append((run, seq, float(seq), kind(stored), stored.key, body))
                texts.update((text_hash(text), text) for text in said)
                if isinstance(event, Requested) and not event.job.startswith("round/"):
                    job, solution = event.job, event.solution
                elif isinstance(event, RoundEnded):
                    improver = event.improver
            # Of few texts there is more than one use; those are seen again soon.
            new = {k: v for k, v in texts.items() if k not in known}
            known = set(texts) | {text_hash(EXPERTISE)}
            _write(store, rows, new)
        _write_totals(store, ledger)
    return Made(run, job, improver, solution)


def _write(store: object, rows: list[tuple[object, ...]], texts: dict[str, str]) -> None:
    if isinstance(store, SQLiteStore):
        connection = store._connection
        assert connection is not None
        connection.execute("PRAGMA cache_size = -500000")
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO texts VALUES (?, ?) ON CONFLICT (hash) DO NOTHING",
            [(key, text_to_column(text)) for key, text in sorted(texts.items())],
        )
        connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", rows)
        connection.execute("COMMIT")
    elif isinstance(store, PostgresStore):
        postgres = store._connection
        assert postgres is not None
        with postgres.transaction(), postgres.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO texts VALUES (%s, %s) ON CONFLICT (hash) DO NOTHING",
                [(key, text.encode()) for key, text in sorted(texts.items())],
            )
            with cursor.copy("COPY events FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)


def _write_totals(store: object, ledger: Ledger) -> None:
    if isinstance(store, SQLiteStore):
        connection = store._connection
        assert connection is not None
        connection.execute("BEGIN")
        for table in totals.TABLES:
            connection.executemany(totals.insert_sql(table, "?"), ledger.rows(table))
        connection.execute("COMMIT")
    elif isinstance(store, PostgresStore):
        postgres = store._connection
        assert postgres is not None
        with postgres.transaction(), postgres.cursor() as cursor:
            for table in totals.TABLES:
                with cursor.copy(f"COPY {table.name} FROM STDIN") as copy:  # type: ignore[arg-type]
                    for row in ledger.rows(table):
                        copy.write_row(row)
        postgres.execute("ANALYZE")
