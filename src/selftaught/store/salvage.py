"""What of a damaged store can be believed, and what each run keeps of it.

All that is found goes into a database of its own first, since it comes in no order. There a text
counts if it is that of its hash, and an event if it reads as the event that it is entered as. Then
each run keeps all of its events that count, in their order and numbered anew: a resumed run looks
results up by key, so a lost one costs itself and nothing that came after it.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator

import msgspec

from selftaught.errors import StoreError
from selftaught.events import (
    Answered,
    AnyEvent,
    Improved,
    Rejected,
    RoundEnded,
    RunStarted,
    Unanswered,
)
from selftaught.events import kind as kind_of
from selftaught.store.event_store import bytes_hash, text_hash
from selftaught.store.record import (
    decode_config,
    decode_event,
    encode_config,
    is_time,
    referenced_texts,
    without_nul,
)
from selftaught.store.run_file import RUN_NAME
from selftaught.utility import Returned

LOST_TEXT = "[This text was lost when its store was damaged.]"
UNKNOWN = "unknown"
_KINDS = {member.__struct_config__.tag for member in AnyEvent.__args__}
_TABLES = """
CREATE TABLE runs (id PRIMARY KEY, created_at, command, config) WITHOUT ROWID;
CREATE TABLE events (run, seq, at, kind, key, body, PRIMARY KEY (run, seq));
CREATE TABLE entries (run, seq, kind, key, PRIMARY KEY (run, seq)) WITHOUT ROWID;
CREATE TABLE texts (hash PRIMARY KEY, text);
CREATE TABLE improved (run, job, PRIMARY KEY (run, job)) WITHOUT ROWID;
"""


class SavedRun(msgspec.Struct, kw_only=True):
    """What a run keeps.

    Attributes:
        run: its id.
        kept: events, those that stand for a lost answer included.
        lost: events that cannot be read, by kind.
        asked_again: lost answers that a resumed run would ask, and pay, for again: those of jobs
            that have no recorded end. Among events of unknown kind may be more.
        prompts_lost: answers that keep their responses and lost what was asked.
        rounds_again: rounds whose end is recorded anew, in order, when the run is resumed.
        is_listed: its row in the list of runs was found.
        is_resumable: its configuration was found, in the list or in its first event.
    """

    run: str
    kept: int = 0
    lost: dict[str, int] = {}
    asked_again: int = 0
    prompts_lost: int = 0
    rounds_again: int = 0
    is_listed: bool = True
    is_resumable: bool = True

    @property
    def is_whole(self) -> bool:
        """Whether nothing of it is missing."""
        return not self.lost and not self.prompts_lost and self.is_listed


class Findings:
    """What was found in a damaged store; a context manager."""

    def __init__(self, path: str = "") -> None:
        """Begin with nothing.

        Args:
            path: of a file to keep it in; a temporary one where left out.
        """
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _TABLES
        )
        self._database.execute("BEGIN")

    def __enter__(self) -> "Findings":
        return self

    def __exit__(self, *exception: object) -> None:
        self._database.close()

    def add_run(self, run: str, created_at: float, command: str, config: str) -> None:
        """Take up a row of the list of runs, if it is one."""
        if RUN_NAME.fullmatch(run) and isinstance(_config(config), dict):
            self._add("runs", run, _time(created_at), command, config)

    def add_event(self, run: str, seq: int, at: float, kind: str, key: str, body: bytes) -> None:
        """Take up an event, or that there was one where it cannot be read."""
        if not RUN_NAME.fullmatch(run) or seq < 1:
            return
        try:
            event = decode_event(body, run, seq)
        except StoreError:
            self.add_entry(run, seq, kind, key)
            return
        if kind_of(event) != kind or key not in (event.key, without_nul(event.key)):
            self.add_entry(run, seq, UNKNOWN, "")
            return
        self._add("events", run, seq, _time(at), kind, key, body)
        if isinstance(event, Improved):
            self._add("improved", run, event.job)
            if isinstance(event.outcome, Returned):
                self._add_source(event.outcome.source)
        if isinstance(event, RunStarted) and seq == 1:
            self._add_sources(event.config)

    def add_entry(self, run: str, seq: int, kind: str = UNKNOWN, key: str = "") -> None:
        """Take up that there is an event of a number, as an index tells."""
        if not RUN_NAME.fullmatch(run) or seq < 1:
            return
        known = kind if kind in _KINDS else UNKNOWN
        self._database.execute(
            "INSERT INTO entries VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE "
            f"SET kind = excluded.kind, key = excluded.key WHERE kind = '{UNKNOWN}'",
            (run, seq, known, key if known != UNKNOWN else ""),
        )

    def add_text(self, name: str, content: bytes) -> None:
        """Take up a text, if it is that of its hash."""
        if bytes_hash(content) == name:
            self._add("texts", name, content)

    def runs(self) -> list[str]:
        """All runs of which anything was found, the oldest first."""
        query = (
            "SELECT run FROM (SELECT id AS run, created_at AS at FROM runs "
            "UNION ALL SELECT run, min(at) FROM events GROUP BY run "
            "UNION ALL SELECT DISTINCT run, NULL FROM entries) "
            "GROUP BY run ORDER BY min(at) IS NULL, min(at), run"
        )
        return [run for (run,) in self._database.execute(query)]

    def listed(self, run: str) -> tuple[float, str, str, bool]:
        """When a run was made, its command, its configuration, and whether the list had it."""
        row = self._database.execute(
            "SELECT created_at, command, config FROM runs WHERE id = ?", (run,)
        ).fetchone()
        if row is not None:
            self._add_sources(_config(row[2]) or {})
            return (*row, True)
        first = self._database.execute(
            "SELECT at, body, seq FROM events WHERE run = ? AND kind = 'run_started'", (run,)
        ).fetchone()
        if first is None:
            return 0.0, "", "{}", False
        started = decode_event(first[1], run, first[2])
        assert isinstance(started, RunStarted)
        return first[0], "", encode_config(started.config), False

    def texts(self) -> Iterator[str]:
        """All texts that count."""
        for (content,) in self._database.execute("SELECT text FROM texts ORDER BY rowid"):
            yield content.decode("utf-8", "surrogatepass")

    def saved(self, run: str, told: SavedRun) -> Iterator[tuple[float, AnyEvent]]:
        """Yield what a run keeps, with its times; `told` is filled in on the way."""
        _, _, config, told.is_listed = self.listed(run)
        told.is_resumable = config != "{}"
        lost: Counter[str] = Counter()
        next_seq, next_round = 1, 0
        for seq, at, event in self._events(run):
            self._count_lost(run, next_seq, seq, lost, told)
            next_seq = seq + 1
            if isinstance(event, RoundEnded) and event.round > next_round:
                # In the order of the record a round would follow later ones, were it added anew.
                told.rounds_again += 1
                continue
            kept = self._kept(run, event, lost, told)
            if isinstance(event, RoundEnded) and kept is not None:
                next_round = max(next_round, event.round + 1)
            if kept is not None:
                told.kept += 1
                yield at, kept
        (last,) = self._database.execute(
            "SELECT coalesce(max(seq), 0) FROM entries WHERE run = ?", (run,)
        ).fetchone()
        self._count_lost(run, next_seq, last + 1, lost, told)
        told.lost = dict(sorted(lost.items()))

    def _events(self, run: str) -> Iterator[tuple[int, float, AnyEvent]]:
        rows = self._database.execute(
            "SELECT seq, at, body FROM events WHERE run = ? ORDER BY seq", (run,)
        )
        for seq, at, body in rows:
            yield seq, at, decode_event(body, run, seq)

    def _kept(
        self, run: str, event: AnyEvent, lost: Counter[str], told: SavedRun
    ) -> AnyEvent | None:
        """An event as it can be kept; None where what it refers to is gone."""
        if all(self._holds(name) for name in referenced_texts(event)):
            return event
        if isinstance(event, Answered):
            if not all(self._holds(name) for name in event.texts):
                lost[kind_of(event)] += 1
                told.asked_again += not self._has_ended(run, event.job)
                return _unanswered(event)
            told.prompts_lost += 1
            return self._without_prompts(event)
        if isinstance(event, Rejected):
            told.prompts_lost += 1
            return self._without_prompts(event)
        lost[kind_of(event)] += 1
        return None

    def _without_prompts(self, event: Answered | Rejected) -> AnyEvent:
        placeholder = text_hash(LOST_TEXT)
        self._add_source(LOST_TEXT)
        gone = {
            name: placeholder
            for name in ("expertise", "message")
            if not self._holds(getattr(event, name))
        }
        return msgspec.structs.replace(event, **gone)

    def _count_lost(
        self, run: str, first: int, end: int, lost: Counter[str], told: SavedRun
    ) -> None:
        """Count the events from `first` on, and before `end`, which were not found."""
        if first >= end:
            return
        named = 0
        for kind, key in self._database.execute(
            "SELECT kind, key FROM entries WHERE run = ? AND seq >= ? AND seq < ?",
            (run, first, end),
        ):
            named += 1
            lost[kind] += 1
            # A key is job, content and occurrence; a job's own name may hold anything else.
            told.asked_again += kind == "answered" and not self._has_ended(
                run, key.rsplit("|", 2)[0]
            )
        if end - first > named:
            lost[UNKNOWN] += end - first - named

    def _has_ended(self, run: str, job: str) -> bool:
        query = "SELECT 1 FROM improved WHERE run = ? AND job = ?"
        return self._database.execute(query, (run, job)).fetchone() is not None

    def _holds(self, name: str) -> bool:
        found = self._database.execute("SELECT 1 FROM texts WHERE hash = ?", (name,))
        return found.fetchone() is not None

    def _add_source(self, source: str) -> None:
        self._add("texts", text_hash(source), source.encode("utf-8", "surrogatepass"))

    def _add_sources(self, config: dict[str, object]) -> None:
        improvers = config.get("improvers")
        for pair in improvers if isinstance(improvers, list) else ():
            match pair:
                case [_, str(source)]:
                    self._add_source(source)
                case _:
                    pass

    def _add(self, table: str, *values: object) -> None:
        marks = ", ".join("?" * len(values))
        self._database.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", values)


def _time(at: float) -> float:
    """A time, or that of the epoch in place of one that was damaged: what it dates is kept."""
    return at if is_time(at) else 0.0


def _config(text: str) -> dict[str, object] | None:
    try:
        return decode_config(text, "")
    except StoreError:
        return None


def _unanswered(event: Answered) -> Unanswered:
    """What stands for an answer that is gone, so that what it cost still counts."""
    live = event.source == "live"
    tokens = event.prompt_tokens + event.completion_tokens if live else 0
    return Unanswered(
        job=event.job,
        # Its call has ended then, and is not counted once more as one that was under way.
        content_hash=event.content_hash,
        occurrence=event.occurrence,
        reason="The answer was lost when its store was damaged.",
        lost_tokens=event.lost_tokens + tokens,
        lost_dollars=event.lost_dollars + ((event.dollars or 0.0) if live else 0.0),
    )
