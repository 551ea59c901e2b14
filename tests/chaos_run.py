"""What the chaos tests share: a run that can be killed anywhere, and what must hold afterwards."""

import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from conftest import write_toy

from selftaught.errors import StoreError
from selftaught.events import Answered, AnyEvent, Asked, Evaluated, Unanswered, kind
from selftaught.history import read_history
from selftaught.language_model import ExchangeKey
from selftaught.models.resolve import resolve_model
from selftaught.store.opening import open_store
from selftaught.testing import HttpError, LoopbackServer
from selftaught.testing.loopback_server import MutationAnswers

PROGRAMS = Path(__file__).parent / "programs" / "chaos"
TESTS = str(Path(__file__).parent)
# No case takes a tenth of it on a quiet machine.
PATIENCE_S = 120.0
LATENCY_S = 0.02
CONCURRENCY = 4
REJECTED = HttpError(status=400, message="this is too long for me")
BUSY = HttpError(status=503, message="busy", retry_after="0.01")
TIMES = frozenset(
    {"created_at", "ended_at", "model_seconds", "seconds", "speculated", "events", "command",
     "strategies"}
)  # fmt: skip


class Driver:
    """Starts command lines of selftaught as processes; see `chaos_driver`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, f"{TESTS}/chaos_driver.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._numbers = itertools.count()

    def start(self, folder: Path, *arguments: str, **options: Any) -> "Running":
        name = f"command{next(self._numbers)}"
        command = {"id": name, "folder": str(folder), "arguments": arguments, **options}
        return Running(self, self._say(command), folder / name)

    def wait(self, pid: int) -> int:
        alarm = threading.Timer(PATIENCE_S, os.kill, (pid, signal.SIGKILL))
        alarm.start()
        try:
            return self._say({"wait": pid})
        finally:
            alarm.cancel()

    def _say(self, command: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=PATIENCE_S)
        self._process.stdout.close()


class Running:
    """A process that the driver started; `end` waits for it."""

    def __init__(self, driver: Driver, pid: int, files: Path) -> None:
        self.pid = pid
        self._driver = driver
        self._files = files

    def end(self) -> "Ended":
        code = self._driver.wait(self.pid)
        out, err = (self._files.with_suffix(f".{name}").read_text() for name in ("out", "err"))
        return Ended(code, out, err)


class Ended(msgspec.Struct, frozen=True):
    """How a process ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def was_killed(self) -> bool:
        return self.code == -signal.SIGKILL

    @property
    def said(self) -> str:
        """What it said on stderr, in one line."""
        return " ".join(self.err.split())

    @property
    def document(self) -> dict[str, Any]:
        assert self.code == 0, self.err
        found: dict[str, Any] = json.loads(self.out)
        return found


@contextmanager
def endpoint(*, port: int = 0, busy: bool = True) -> Iterator[LoopbackServer]:
    """A model whose answers follow from the request alone; some requests are refused at first."""
    seen: set[str] = set()

    def mishap(number: int, body: dict[str, Any]) -> HttpError | None:
        text = json.dumps(body, sort_keys=True)
        if body["messages"][0]["content"] == "you are picky":
            return REJECTED
        if busy and text not in seen and sum(text.encode()) % 3 == 0:
            seen.add(text)
            return BUSY
        return None

    answers = MutationAnswers(resolve_model("mutation", base_url=None, environment={}))
    with LoopbackServer(answers, latency_s=LATENCY_S, faults=mishap, port=port) as server:
        yield server


class Case:
    """One run in a folder of its own, with its own model and, where not given, a SQLite store."""

    def __init__(
        self, driver: Driver, folder: Path, server: LoopbackServer, store: str = "runs.db"
    ) -> None:
        self.driver, self.folder, self.server = driver, folder, server
        self.store = store
        # What was under way at each kill, and how many events were recorded then.
        self.under_way: list[set[tuple[str, str, int]]] = []
        self.rows: list[tuple[Any, ...]] = []
        write_toy(folder / "toy")

    def start(
        self, *options: str, improver: str = "curious.py", command: str = "run", **how: Any
    ) -> Running:
        fixed = (
            command, "./toy", "--improver", str(PROGRAMS / improver), "--model", "openai/x",
            "--base-url", self.server.url, "--rounds", "2", "--calls", "3", "--responses", "3",
            "--utility-calls", "4", "--repeats", "2", "--sealed-repeats", "1", "--slots", "2",
            "--held-out", "none", "--concurrency", str(CONCURRENCY), "--json",
            "--store", self.store,
        )  # fmt: skip
        return self.driver.start(self.folder, *fixed, *options, **how)

    def resume(self, *options: str, **how: Any) -> Running:
        arguments = "resume", "latest", "--json", "--store", self.store
        return self.driver.start(self.folder, *arguments, *options, **how)

    def killed(self, running: Running) -> None:
        """Wait for the end of a process that is to be killed, and look what it left behind."""
        ended = running.end()
        assert ended.was_killed, f"it ended by itself: {ended.err}"
        self.left_behind()

    def left_behind(self) -> None:
        """Everything recorded before is there unchanged; note what is there now."""
        rows = self.raw()
        assert rows[: len(self.rows)] == self.rows, "what was recorded has changed"
        self.rows = rows
        self.under_way.append(under_way(self.events()))

    @property
    def store_path(self) -> str:
        return self.store if "://" in self.store else str(self.folder / self.store)

    def raw(self) -> list[tuple[Any, ...]]:
        """The rows of all events as the database has them."""
        query = "SELECT run, seq, at, kind, key, body FROM events ORDER BY run, seq"
        if "://" in self.store:
            import psycopg

            with psycopg.connect(self.store, autocommit=True) as connection:
                row = connection.execute("SELECT to_regclass('events')").fetchone()
                query = query.replace("body", "body::text")
                if row is None or row[0] is None:
                    return []
                return connection.execute(query).fetchall()  # type: ignore[call-overload]
        path = Path(self.store_path)
        if not path.exists():
            return []
        # Not for reading only, which is refused where the kill came while the store was made.
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as database:
            tables = "SELECT count(*) FROM sqlite_master WHERE name = 'events'"
            is_made = database.execute(tables).fetchone()[0]
            return database.execute(query).fetchall() if is_made else []

    def has_run(self) -> bool:
        """Whether a run is entered in the store, be it without an event."""
        try:
            with open_store(self.store_path, writable=False) as store:
                return bool(store.runs())
        except StoreError:
            return False

    def events(self) -> list[AnyEvent]:
        if not self.raw():
            return []
        with open_store(self.store_path, writable=False) as store:
            (row,) = store.runs()
            return [event for _, _, event in store.events(row.id)]

    def facts(self) -> dict[str, Any]:
        """What `show --json` tells, without times and without what depends on them."""
        with open_store(self.store_path, writable=False) as store:
            assert store.check() == []
            told = msgspec.to_builtins(read_history(store, "latest"))
        found: dict[str, Any] = _timeless(told)
        for name in ("id", "base_url"):
            found["row"].pop(name, None)
        found["row"].pop("config")
        for name in ("tasks", "base_url", "permits"):
            found["config"].pop(name)
        # Scores that were computed ahead and never asked for.
        return {k: v for k, v in found.items() if k not in ("scored", "outcomes")}

    def check_requests(self) -> None:
        """No request was repeated but those that were under way at a kill, or refused."""
        sent = Counter(one.idempotency_key for one in self.server.log if one.status != BUSY.status)
        for key, times in sent.items():
            exchange = exchange_of(key)
            kills = sum(exchange in at_kill for at_kill in self.under_way)
            assert times <= 1 + kills, f"{key} was asked {times} times, under way at {kills} kills"
        waiting = {
            exchange_of(one.idempotency_key) for one in self.server.log if one.status == BUSY.status
        }
        assert all(len(at_kill - waiting) <= CONCURRENCY for at_kill in self.under_way)

    def lost_tokens(self) -> int:
        """What was under way at the kills may have cost; each is told once."""
        events = self.events()
        lost = [one for one in events if isinstance(one, Unanswered)]
        told = Counter((one.job, one.content_hash, one.occurrence) for one in lost)
        at_kills = Counter(itertools.chain(*self.under_way))
        assert told.keys() == at_kills.keys()
        # A resumed process that was killed at once may have left it to the next one.
        assert all(told[key] <= at_kills[key] for key in told)
        worst = {(a.job, a.content_hash, a.occurrence): a for a in events if isinstance(a, Asked)}
        for one in lost:
            assert one.lost_tokens == worst[one.job, one.content_hash, one.occurrence].worst_tokens
        return sum(one.lost_tokens for one in lost)

    def check(self, document: dict[str, Any], whole: "Whole") -> None:
        """All that must hold once a run that was killed has been resumed to its end."""
        assert self.raw()[: len(self.rows)] == self.rows, "what was recorded has changed"
        assert result(document) == whole.result
        assert self.facts() == whole.facts
        assert answers(self.events()) == whole.answers
        found = scores(self.events())
        asked_for = whole.scores.keys() & found.keys()
        assert {k: found[k] for k in asked_for} == {k: whole.scores[k] for k in asked_for}
        self.check_requests()
        assert document["spent"]["tokens"] == whole.tokens + self.lost_tokens()


class Whole(msgspec.Struct, frozen=True):
    """What a run comes to that nobody disturbs."""

    result: dict[str, Any]
    facts: dict[str, Any]
    answers: dict[tuple[str, str, int, int], tuple[str, ...]]
    scores: dict[str, Any]
    tokens: int
    counts: dict[str, int]

    @classmethod
    def of(cls, driver: Driver, folder: Path, *options: str, **how: Any) -> "Whole":
        with endpoint() as server:
            case = Case(driver, folder, server)
            document = case.start(*options, **how).end().document
            events = case.events()
            case.check_requests()
            return cls(
                result(document),
                case.facts(),
                answers(events),
                scores(events),
                document["spent"]["tokens"],
                dict(Counter(map(kind, events))),
            )


def exchange_of(idempotency_key: str) -> tuple[str, str, int]:
    found = ExchangeKey.parse(idempotency_key.rpartition("/")[0])
    assert found is not None
    return found.job, found.content.partition(".")[0], found.occurrence


def under_way(events: Sequence[AnyEvent]) -> set[tuple[str, str, int]]:
    """The calls that were begun and whose end is not recorded."""
    found = set()
    for event in events:
        if isinstance(event, Asked):
            found.add((event.job, event.content_hash, event.occurrence))
        elif kind(event) in ("answered", "rejected", "unanswered"):
            found.discard((event.job, event.content_hash, event.occurrence))  # type: ignore[union-attr]
    return found


def answers(events: Sequence[AnyEvent]) -> dict[tuple[str, str, int, int], tuple[str, ...]]:
    """Every answer by what it is found by; each is recorded once."""
    found: dict[tuple[str, str, int, int], tuple[str, ...]] = {}
    for event in events:
        if isinstance(event, Answered):
            key = event.job, event.content_hash, event.occurrence, len(event.texts)
            assert key not in found, f"{key} was answered twice"
            found[key] = event.texts
    return found


def scores(events: Sequence[AnyEvent]) -> dict[str, Any]:
    """Every score by its key; each is recorded once."""
    found: dict[str, Any] = {}
    for event in events:
        if isinstance(event, Evaluated):
            assert event.key not in found, f"{event.key} was scored twice"
            found[event.key] = event.outcome
    return found


def result(document: dict[str, Any]) -> dict[str, Any]:
    """What a run came to, without times and without what a process did of it."""
    found: dict[str, Any] = _timeless(document)
    for name in ("run", "config", "spent", "resumed"):
        found.pop(name)
    return found


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in TIMES}
    return [_timeless(one) for one in value] if isinstance(value, list) else value


def until(condition: Any, patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)
