"""The journal of a run: what it writes to, and what a resumed run looks up instead of asking."""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence

import msgspec

from selftaught.errors import StoreError
from selftaught.events import (
    Answered,
    AnyEvent,
    Audited,
    CandidateTried,
    Evaluated,
    Improved,
    MetaEvaluated,
    Rejected,
    Requested,
    RoundEnded,
    Unanswered,
    evaluation_key,
)
from selftaught.events import kind as kind_of
from selftaught.redaction import redacted
from selftaught.store.event_store import Store
from selftaught.store.record import without_secrets
from selftaught.store.room import RESERVE_BYTES
from selftaught.utility import Outcome

# A score on 20 instances takes about 300 bytes; those with long feedback are left in the store.
MAX_OUTCOME_BYTES = 2_000

_as_json = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Outcome).decode


class Journal:
    """Records the events of one run and finds recorded answers, scores and improvements again.

    One pass over the run at construction fills an index, `record` keeps it up to date. It holds
    hashes and small records only; long texts are fetched from the store when they are asked for.
    Where a key was recorded more than once, the latest counts.

    Thread safety: every method may be called from any thread.

    Attributes:
        run: the id of the run.
        recorded: how many events the run held at construction; 0 for a new one.
        tokens, dollars: what all live calls cost, with what lost ones may have cost.
    """

    def __init__(
        self, store: Store, run: str, *, on_event: Callable[[AnyEvent], None] | None = None
    ) -> None:
        """Index a run.

        Args:
            store: open for writing where anything is to be recorded.
            run: its id.
            on_event: told of each event after it is recorded, in the order of the run and one at
                a time; it must return soon and not wait for another thread that records.

        Raises:
            StoreError: no such run, or an event of it cannot be read.
        """
        self.run = run
        self._store = store
        self._on_event = on_event
        # Reentrant: a progress display may itself record that it was told.
        self._lock = threading.RLock()
        self._answers: dict[tuple[str, str, int], Answered | Rejected] = {}
        self._outcomes: dict[str, bytes | None] = {}
        self._improved: set[str] = set()
        self._once: set[tuple[str, str]] = set()
        self.recorded = 0
        self.tokens = 0
        self.dollars = 0.0
        for seq, _, event in store.events(run):
            self._index(event)
            self.recorded = seq

    def record(self, event: AnyEvent, texts: Sequence[str] = ()) -> None:
        """Record an event with the texts it refers to, then tell `on_event`.

        Raises:
            StoreError: it is not recorded, and neither are the texts.
        """
        with self._lock:
            if _holds_secret(event):
                # Watchers write too: they get what the store gets.
                event = without_secrets(event)
            self._store.append_with_texts(self.run, event, texts)
            self._index(event)
            if self._on_event is not None:
                self._on_event(event)

    def record_once(self, event: AnyEvent, texts: Sequence[str] = ()) -> None:
        """Record an event unless one of its kind and key is recorded.

        A resumed run comes by its old rounds and scores again.
        """
        with self._lock:
            if (kind_of(event), event.key) not in self._once:
                self.record(event, texts)

    def require_room(self) -> None:
        """Raise StoreError where the store has no room left for what is about to be paid for."""
        free = self._store.free_bytes()
        if free is not None and free < RESERVE_BYTES:
            raise StoreError(
                f"The store {self._store.path!r} may grow by {free:,} bytes only, and a run goes "
                f"on while {RESERVE_BYTES:,} are free, so that no answer is paid for and lost: "
                f"make room, then `selftaught resume {self.run}` goes on."
            )

    def recorded_answer(
        self, job: str, content_hash: str, occurrence: int
    ) -> tuple[Answered, tuple[str, ...]] | None:
        """Return a language model's answer with its texts, or None where none is recorded.

        Args:
            job: the improve job that asked.
            content_hash: of the request.
            occurrence: how many responses to it the job had had before.
        """
        answered = self._answers.get((job, content_hash, occurrence))
        if not isinstance(answered, Answered):
            return None
        return answered, tuple(self._store.text(name) for name in answered.texts)

    def recorded_rejection(self, job: str, content_hash: str, occurrence: int) -> Rejected | None:
        """Return how the model rejected a request; arguments as for `recorded_answer`."""
        rejected = self._answers.get((job, content_hash, occurrence))
        return rejected if isinstance(rejected, Rejected) else None

    def recorded_evaluation(
        self, task: str, split: str, repeat: int, solution_hash: str
    ) -> Outcome | None:
        """Return the outcome of scoring a program on a block of instances, or None."""
        key = evaluation_key(task, split, repeat, solution_hash)
        if key not in self._outcomes:
            return None
        packed = self._outcomes[key]
        if packed is not None:
            outcome: Outcome = _unpack(packed)
            return outcome
        event = self._store.find(self.run, "evaluated", key)
        return event.outcome if isinstance(event, Evaluated) else None

    def recorded_improvement(self, job: str) -> Improved | None:
        """Return how an improve job ended, its new program inside, or None."""
        if job not in self._improved:
            return None
        event = self._store.find(self.run, "improved", job)
        return event if isinstance(event, Improved) else None

    def text(self, name: str) -> str:
        """Return a recorded text by its hash.

        Raises:
            StoreError: there is none.
        """
        return self._store.text(name)

    def events(self, kinds: Collection[str]) -> Iterator[AnyEvent]:
        """Iterate over the run's events of some kinds so far, in order."""
        return (event for _, _, event in self._store.events(self.run, kinds))

    def _index(self, event: AnyEvent) -> None:
        match event:
            case Answered():
                self.tokens += event.lost_tokens
                self.dollars += event.lost_dollars
                if event.source == "live":
                    self.tokens += event.prompt_tokens + event.completion_tokens
                    self.dollars += event.dollars or 0.0
                self._answers[event.job, event.content_hash, event.occurrence] = event
            case Rejected():
                self._answers[event.job, event.content_hash, event.occurrence] = event
            case Unanswered():
                self.tokens += event.lost_tokens
                self.dollars += event.lost_dollars
            case Evaluated():
                self._outcomes[event.key] = _packed_if_small(event.outcome)
            case Improved():
                self._improved.add(event.job)
            case Requested() | MetaEvaluated() | CandidateTried() | RoundEnded() | Audited():
                self._once.add((kind_of(event), event.key))
            case _:
                pass


def _packed_if_small(outcome: Outcome) -> bytes | None:
    try:
        packed = _pack(outcome)
    except UnicodeEncodeError:
        # A message with lone surrogates. The store has written them out.
        return None
    return packed if len(packed) <= MAX_OUTCOME_BYTES else None


def _holds_secret(event: AnyEvent) -> bool:
    try:
        body = _as_json(event).decode()
    except UnicodeEncodeError:
        return True
    except TypeError:
        # No JSON at all: the store says so, in a sentence.
        return False
    return redacted(body) != body
