"""The journal of a run: what it writes to, and what a resumed run looks up instead of asking."""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence

import msgspec

from selftaught.errors import StoreError
from selftaught.events import (
    Answered,
    AnyEvent,
    Asked,
    Attempted,
    BudgetRefused,
    Evaluated,
    Improved,
    Rejected,
    Requested,
    RoundEnded,
    RunResumed,
    Unanswered,
    evaluation_key,
    exchange_key,
)
from selftaught.events import kind as kind_of
from selftaught.redaction import redacted
from selftaught.store import queries
from selftaught.store.event_store import Store
from selftaught.store.record import without_secrets
from selftaught.store.room import RESERVE_BYTES
from selftaught.utility import Outcome

_as_json = msgspec.json.Encoder().encode


class Journal:
    """Records the events of one run and finds recorded answers, scores and improvements again.

    It holds what may still change, and nothing else of the run: each look-up goes to the store,
    through an index. So a run takes no more memory the longer it is, and a resumed one goes on at
    once. Where a key was recorded more than once, the latest counts.

    Thread safety: every method may be called from any thread.

    Attributes:
        run: the id of the run.
        recorded: how many events the run held at construction; 0 for a new one.
        tokens, dollars: what all live calls cost, with what lost ones may have cost.
        repeated: calls that were under way when the run ended, and have been asked again since.
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
        self.repeated = 0
        self._totals = queries.totals_of(store, run)
        for total in self._totals:
            self.tokens += total.lost_tokens
            self.dollars += total.lost_dollars
            if (total.kind, total.label) == ("answered", "live"):
                self.tokens += total.prompt_tokens + total.completion_tokens
                self.dollars += total.dollars
        # What may still change: of calls under way, and of improve jobs that have not ended.
        self._under_way = {_call(event): event for event in queries.under_way(store, run)}
        self._interrupted = set(self._under_way)
        self._times = self._times_of_open_jobs()

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

    def record_resumed(self, dollars_at_most: Callable[[int], float]) -> RunResumed:
        """Record that the run goes on, and what it may have to pay for calls that were under way.

        Args:
            dollars_at_most: what so many tokens can cost, for calls that were recorded before
                their price was known.

        Raises:
            StoreError: it is not recorded.
        """
        with self._lock:
            under_way = list(self._under_way.values())
            resumed = RunResumed(
                recorded=self.recorded,
                answers=self._count("answered", "rejected"),
                scores=self._count("evaluated"),
                improvements=self._count("improved"),
                under_way=len(under_way),
            )
            self.record(resumed)
            for asked in under_way:
                self.record(
                    Unanswered(
                        job=asked.job,
                        content_hash=asked.content_hash,
                        occurrence=asked.occurrence,
                        reason="The run ended while this was under way; it may have been answered.",
                        lost_tokens=asked.worst_tokens,
                        lost_dollars=asked.worst_dollars or dollars_at_most(asked.worst_tokens),
                    )
                )
            return resumed

    def record_once(self, event: AnyEvent, texts: Sequence[str] = ()) -> None:
        """Record an event unless one of its kind and key is recorded.

        A resumed run comes by its old rounds and scores again. A score that was requested by an
        improver which does not repeat itself is recorded anew where it differs: the last counts.
        """
        with self._lock:
            before = self._store.find(self.run, kind_of(event), event.key)
            if before is None or (isinstance(event, Requested) and before != event):
                self.record(event, texts)

    def record_up_to(self, event: Attempted | BudgetRefused, times: int) -> None:
        """Record an event unless as many equal ones are recorded.

        For what a job does more than once: run again, it comes by all of it again.
        """
        with self._lock:
            of_job = self._times.setdefault(event.job, Counter())
            if of_job[event] < times:
                of_job[event] += 1
                self.record(event)

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
        self, job: str, content_hash: str, occurrence: int, n_responses: int
    ) -> tuple[Answered, tuple[str, ...]] | None:
        """Return a language model's answer with its texts, or None where none is recorded.

        Args:
            job: the improve job that asked.
            content_hash: of the request.
            occurrence: how many responses to it the job had had before.
            n_responses: how many are wanted.
        """
        key = exchange_key(job, content_hash, occurrence)
        answered = self._store.find(self.run, "answered", key)
        if isinstance(answered, Answered) and len(answered.texts) != n_responses:
            # Seldom: an improver that does not repeat itself asked for more or fewer of the same.
            answered = next(
                (
                    event
                    for _, event in reversed(self._store.keyed(self.run, "answered", key))
                    if isinstance(event, Answered)
                    and event.key == key
                    and len(event.texts) == n_responses
                ),
                None,
            )
        if not isinstance(answered, Answered):
            return None
        return answered, self._store.texts(answered.texts)

    def recorded_rejection(
        self, job: str, content_hash: str, occurrence: int, n_responses: int
    ) -> Rejected | None:
        """Return how the model rejected a request; arguments as for `recorded_answer`."""
        key = exchange_key(job, content_hash, occurrence)
        rejected = self._store.find(self.run, "rejected", key)
        if isinstance(rejected, Rejected) and rejected.n_responses != n_responses:
            rejected = next(
                (
                    event
                    for _, event in reversed(self._store.keyed(self.run, "rejected", key))
                    if isinstance(event, Rejected)
                    and event.key == key
                    and event.n_responses == n_responses
                ),
                None,
            )
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

    def _count(self, *kinds: str) -> int:
        return sum(total.events for total in self._totals if total.kind in kinds)

    def _index(self, event: AnyEvent) -> None:
        match event:
            case Asked():
                self.repeated += _call(event) in self._interrupted
                self._interrupted.discard(_call(event))
                self._under_way[_call(event)] = event
            case Answered():
                self._under_way.pop(_call(event), None)
                self.tokens += event.lost_tokens
                self.dollars += event.lost_dollars
                if event.source == "live":
                    self.tokens += event.prompt_tokens + event.completion_tokens
                    self.dollars += event.dollars or 0.0
            case Rejected():
                self._under_way.pop(_call(event), None)
            case Unanswered():
                self._under_way.pop(_call(event), None)
                self.tokens += event.lost_tokens
                self.dollars += event.lost_dollars
            case Improved():
                self._times.pop(event.job, None)
            case _:
                pass

    def _times_of_open_jobs(self) -> dict[str, Counter[Attempted | BudgetRefused]]:
        times: dict[str, Counter[Attempted | BudgetRefused]] = {}
        for _, _, event in self._store.events(self.run, ("attempted", "budget_refused")):
            if isinstance(event, (Attempted, BudgetRefused)):
                times.setdefault(event.job, Counter())[event] += 1
        return {
            job: of_it for job, of_it in times.items() if self.recorded_improvement(job) is None
        }


def _call(event: Asked | Answered | Rejected | Unanswered) -> tuple[str, str, int]:
    return event.job, event.content_hash, event.occurrence


def _holds_secret(event: AnyEvent) -> bool:
    try:
        body = _as_json(event).decode()
    except UnicodeEncodeError:
        return True
    except TypeError:
        # No JSON at all: the store says so, in a sentence.
        return False
    return redacted(body) != body
