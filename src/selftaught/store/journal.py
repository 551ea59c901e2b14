"""The journal of a run: what it writes to, and what a resumed run looks up instead of asking."""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence

import msgspec

from selftaught.events import (
    Answered,
    AnyEvent,
    Evaluated,
    Improved,
    Rejected,
    RoundEnded,
    evaluation_key,
    exchange_key,
)
from selftaught.events import kind as kind_of
from selftaught.redaction import redacted
from selftaught.store import queries
from selftaught.store.event_store import Store
from selftaught.store.record import without_secrets
from selftaught.utility import Outcome

_as_json = msgspec.json.Encoder().encode


class Journal:
    """Records the events of one run and finds recorded answers, scores and improvements again.

    It holds nothing of the run: each look-up goes to the store, through an index. So a run takes
    no more memory the longer it is, and a resumed one goes on at once. Where a key was recorded
    more than once, the latest counts.

    Thread safety: every method may be called from any thread.

    Attributes:
        run: the id of the run.
        recorded: how many events the run held at construction; 0 for a new one.
        tokens, dollars: what all live calls had cost by then, with what lost ones may have cost.
    """

    def __init__(
        self, store: Store, run: str, *, on_event: Callable[[AnyEvent], None] | None = None
    ) -> None:
        """Open the journal of a run.

        Args:
            store: open for writing where anything is to be recorded.
            run: its id.
            on_event: told of each event after it is recorded, in the order of the run and one at
                a time; it must return soon and not wait for another thread that records.

        Raises:
            StoreError: no such run.
        """
        self.run = run
        self._store = store
        self._on_event = on_event
        # Reentrant: a progress display may itself record that it was told.
        self._lock = threading.RLock()
        self.recorded = store.run(run).events
        self.tokens = 0
        self.dollars = 0.0
        for total in queries.totals_of(store, run):
            self.tokens += total.lost_tokens
            self.dollars += total.lost_dollars
            if (total.kind, total.label) == ("answered", "live"):
                self.tokens += total.prompt_tokens + total.completion_tokens
                self.dollars += total.dollars

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
            if self._on_event is not None:
                self._on_event(event)

    def record_once(self, event: AnyEvent, texts: Sequence[str] = ()) -> None:
        """Record an event unless one of its kind and key is recorded.

        A resumed run comes by its old rounds and scores again.
        """
        with self._lock:
            if self._store.find(self.run, kind_of(event), event.key) is None:
                self.record(event, texts)

    def recorded_answer(
        self, job: str, content_hash: str, occurrence: int
    ) -> tuple[Answered, tuple[str, ...]] | None:
        """Return a language model's answer with its texts, or None where none is recorded.

        Args:
            job: the improve job that asked.
            content_hash: of the request.
            occurrence: how many responses to it the job had had before.
        """
        key = exchange_key(job, content_hash, occurrence)
        answered = self._store.find(self.run, "answered", key)
        if not isinstance(answered, Answered):
            return None
        return answered, self._store.texts(answered.texts)

    def recorded_rejection(self, job: str, content_hash: str, occurrence: int) -> Rejected | None:
        """Return how the model rejected a request; arguments as for `recorded_answer`."""
        key = exchange_key(job, content_hash, occurrence)
        rejected = self._store.find(self.run, "rejected", key)
        return rejected if isinstance(rejected, Rejected) else None

    def recorded_evaluation(
        self, task: str, split: str, repeat: int, solution_hash: str
    ) -> Outcome | None:
        """Return the outcome of scoring a program on a block of instances, or None."""
        key = evaluation_key(task, split, repeat, solution_hash)
        event = self._store.find(self.run, "evaluated", key)
        return event.outcome if isinstance(event, Evaluated) else None

    def recorded_improvement(self, job: str) -> Improved | None:
        """Return how an improve job ended, its new program inside, or None."""
        event = self._store.find(self.run, "improved", job)
        return event if isinstance(event, Improved) else None

    def text(self, name: str) -> str:
        """Return a recorded text by its hash.

        Raises:
            StoreError: there is none.
        """
        return self._store.text(name)

    def rounds(self) -> list[RoundEnded]:
        """Return the rounds that have ended so far."""
        return queries.rounds(self._store, self.run)

    def applications(self) -> list[queries.Application]:
        """Return what improve jobs spent so far, by round and phase."""
        return queries.applications(self._store, self.run)

    def events(self, kinds: Collection[str]) -> Iterator[AnyEvent]:
        """Iterate over the run's events of some kinds so far, in order."""
        return (event for _, _, event in self._store.events(self.run, kinds))


def _holds_secret(event: AnyEvent) -> bool:
    try:
        body = _as_json(event).decode()
    except UnicodeEncodeError:
        return True
    except TypeError:
        # No JSON at all: the store says so, in a sentence.
        return False
    return redacted(body) != body
