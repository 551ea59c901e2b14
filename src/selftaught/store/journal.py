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
    Audited,
    BudgetRefused,
    CandidateTried,
    Evaluated,
    Improved,
    MetaEvaluated,
    Rejected,
    Requested,
    RoundEnded,
    RunResumed,
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
        repeated: calls that were under way when the run ended, and have been asked again since.
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
        # By job, content, occurrence and how many responses: an improver that does not repeat
        # itself may ask for more or fewer of the same.
        self._answers: dict[tuple[str, str, int, int], Answered | Rejected] = {}
        self._outcomes: dict[str, bytes | None] = {}
        self._improved: set[str] = set()
        self._once: dict[tuple[str, str], int] = {}
        self._times: Counter[int] = Counter()
        self._under_way: dict[tuple[str, str, int], Asked] = {}
        self._interrupted: set[tuple[str, str, int]] = set()
        self.recorded = 0
        self.tokens = 0
        self.dollars = 0.0
        self.repeated = 0
        for seq, _, event in store.events(run):
            self._index(event)
            self.recorded = seq
        self._interrupted = set(self._under_way)

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

    def record_resumed(self) -> RunResumed:
        """Record that the run goes on, and what it may have to pay for calls that were under way.

        Raises:
            StoreError: it is not recorded.
        """
        with self._lock:
            under_way = list(self._under_way.values())
            resumed = RunResumed(
                recorded=self.recorded,
                answers=len(self._answers),
                scores=len(self._outcomes),
                improvements=len(self._improved),
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
                        lost_dollars=asked.worst_dollars,
                    )
                )
            return resumed

    def record_once(self, event: AnyEvent, texts: Sequence[str] = ()) -> None:
        """Record an event unless one of its kind and key is recorded.

        A resumed run comes by its old rounds and scores again. A score that was requested by an
        improver which does not repeat itself is recorded anew where it differs: the last counts.
        """
        with self._lock:
            before = self._once.get((kind_of(event), event.key))
            is_other = isinstance(event, Requested) and before != hash(event)
            if before is None or is_other:
                self.record(event, texts)

    def record_up_to(self, event: AnyEvent, times: int) -> None:
        """Record an event unless as many equal ones are recorded.

        For what a job does more than once: run again, it comes by all of it again.
        """
        with self._lock:
            if self._times[hash(event)] < times:
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
        answered = self._answers.get((job, content_hash, occurrence, n_responses))
        if not isinstance(answered, Answered):
            return None
        return answered, tuple(self._store.text(name) for name in answered.texts)

    def recorded_rejection(
        self, job: str, content_hash: str, occurrence: int, n_responses: int
    ) -> Rejected | None:
        """Return how the model rejected a request; arguments as for `recorded_answer`."""
        rejected = self._answers.get((job, content_hash, occurrence, n_responses))
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
            case Asked():
                self.repeated += _call(event) in self._interrupted
                self._interrupted.discard(_call(event))
                self._under_way[_call(event)] = event
            case Answered():
                self.tokens += event.lost_tokens
                self.dollars += event.lost_dollars
                if event.source == "live":
                    self.tokens += event.prompt_tokens + event.completion_tokens
                    self.dollars += event.dollars or 0.0
                self._end_call(event)
                self._answers[*_call(event), len(event.texts)] = event
            case Rejected():
                self._end_call(event)
                self._answers[*_call(event), event.n_responses] = event
            case Unanswered():
                self._end_call(event)
                self.tokens += event.lost_tokens
                self.dollars += event.lost_dollars
            case Evaluated():
                self._outcomes[event.key] = _packed_if_small(event.outcome)
            case Improved():
                self._improved.add(event.job)
            case Requested() | MetaEvaluated() | CandidateTried() | RoundEnded() | Audited():
                # Most of them hold what has no hash; of a request it is asked for.
                told = hash(event) if isinstance(event, Requested) else 0
                self._once[kind_of(event), event.key] = told
            case Attempted() | BudgetRefused():
                self._times[hash(event)] += 1
            case _:
                pass

    def _end_call(self, event: Answered | Rejected | Unanswered) -> None:
        self._under_way.pop(_call(event), None)


def _call(event: Asked | Answered | Rejected | Unanswered) -> tuple[str, str, int]:
    return event.job, event.content_hash, event.occurrence


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
