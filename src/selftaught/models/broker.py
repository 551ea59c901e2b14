"""The broker: every request to the language model passes here, recorded before and after.

It holds the model (and with it the key), spends the run's account, and answers from the record
what was answered before: a resumed run pays for no answer twice. Secrets are taken out of prompts
and answers here, before anything is hashed, sent, recorded or handed on. Before a call it sets
aside the most that the call can cost.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import msgspec

from selftaught.budget import Reservation, RunAccount, Spending
from selftaught.errors import Interrupted, ModelError, RequestRejected, RunBudgetSpent
from selftaught.events import Answered, Asked, Rejected, Unanswered
from selftaught.language_model import Answer, ExchangeKey, LanguageModel, Request, Usage
from selftaught.models.answer_cache import NO_CACHE, AnswerCache
from selftaught.models.lost import announces_requests, requests_told_to
from selftaught.models.tariff import Tariff
from selftaught.models.tracing import Tracing, answered
from selftaught.redaction import redacted
from selftaught.store.event_store import text_hash
from selftaught.store.journal import Journal

# When prices are looked up that no limit needed before: the first requests are under way by then,
# and this process has nothing else to do.
_PRICES_AFTER_S = 0.25


class _Call:
    """A call under way: what is set aside for it, and what its failed requests may have cost."""

    def __init__(self, reservation: Reservation) -> None:
        self.reservation = reservation
        self.lost = Spending()
        self.is_sent = False
        self._lock = threading.Lock()

    def send(self, record: Callable[[], None]) -> None:
        """Record the call before its first request is sent; others of it wait until it is."""
        with self._lock:
            if not self.is_sent:
                record()
                self.is_sent = True

    def lose(self, amount: Spending) -> None:
        """Count what a failed request may have cost."""
        with self._lock:
            self.lost += amount


class Broker:
    """Implements `selftaught.meta_utility.Ask`. Thread-safe.

    Args:
        model: answers what the record does not hold.
        journal: where answers are found and recorded.
        account: the run's spending; of a resumed run it holds what was recorded as paid.
        check: raises where the run is told to stop; asked before anything new is.
        tariff: what calls may cost and did cost.
        tracing: makes a span of each call.
        cache: finds the answers of earlier runs, and names those of this one for later ones.
    """

    def __init__(
        self,
        model: LanguageModel,
        journal: Journal,
        account: RunAccount,
        check: Callable[[], None],
        tariff: Tariff,
        tracing: Tracing | None = None,
        cache: AnswerCache = NO_CACHE,
    ) -> None:
        self._model = model
        self._journal = journal
        self._account = account
        self._check = check
        self._tariff = tariff
        self._tracing = tracing or Tracing()
        self._cache = cache
        self._asked: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._looks_up = tariff.waits_for_table
        self.replayed_calls = 0
        self.calls_by_source: Counter[str] = Counter()

    @property
    def live_calls(self) -> int:
        """Requests that the model was asked in this process."""
        return self.calls_by_source["live"]

    def begin_again(self, job: str) -> None:
        """Count a job's requests from the first again: it is run anew, and its answers are found.

        Its earlier requests have all been answered by now, or it could not have ended.
        """
        with self._lock:
            for asked in [key for key in self._asked if key[0] == job]:
                del self._asked[asked]

    def __call__(self, job: str, request: Request, seed: int) -> Answer:
        """Answer a request of a job, from the record or from the model.

        Raises:
            RequestRejected: the model does not take this prompt; the improver is told.
            ModelError: the model cannot answer at all.
            RunBudgetSpent, Interrupted: nothing new may be asked.
        """
        request = msgspec.structs.replace(
            request, expertise=redacted(request.expertise), message=redacted(request.message)
        )
        content = request.content_hash
        with self._lock:
            # The job is in the key, so its own requests alone decide what is asked when.
            occurrence = self._asked[job, content]
            self._asked[job, content] += request.n_responses
        recorded = self._journal.recorded_answer(job, content, occurrence, request.n_responses)
        if recorded is not None:
            with self._lock:
                self.replayed_calls += 1
            return answer_of(*recorded)
        rejected = self._journal.recorded_rejection(job, content, occurrence, request.n_responses)
        if rejected is not None:
            raise RequestRejected(rejected.reason)
        self._check()
        reuse_key = self._cache.key(request, seed, occurrence)
        with self._cache.claimed(reuse_key) as cached:
            if cached is None:
                return self._ask(job, request, seed, occurrence, reuse_key)
            answer = msgspec.structs.replace(answer_of(*cached), source="cache")
            self._record(job, request, occurrence, reuse_key, answer, Spending(), 0.0)
        return answer

    def _ask(
        self, job: str, request: Request, seed: int, occurrence: int, reuse_key: str
    ) -> Answer:
        in_dollars = self._account.limits.dollars is not None
        worst = self._worst(request, in_dollars=in_dollars)
        call = _Call(self._account.reserve(worst, self._check))
        self._look_prices_up()
        spent = Spending()
        started = time.monotonic()

        def lose(n_responses: int) -> None:
            lost = self._worst(msgspec.structs.replace(request, n_responses=n_responses))
            call.lose(lost)
            self._account.extend(call.reservation, lost, self._check)
            record_asked()

        def record_asked() -> None:
            self._record_asked(job, request, occurrence, call.reservation.held)

        try:
            # What costs nothing can be asked again without a word.
            if call.reservation.held != Spending() and not announces_requests(self._model):
                call.send(record_asked)
            with (
                requests_told_to(partial(call.send, record_asked), lose),
                self._tracing.call(job, request, self._model.name) as span,
            ):
                answer = self._tariff.priced(self._respond(job, request, seed, occurrence))
                answered(span, answer, self._model.name)
            spent = _spent(answer)
            seconds = time.monotonic() - started
            self._record(job, request, occurrence, reuse_key, answer, call.lost, seconds)
        except (ModelError, RunBudgetSpent, Interrupted) as failure:
            is_rejected = isinstance(failure, RequestRejected)
            if call.lost != Spending() or (call.is_sent and not is_rejected):
                self._record_unanswered(job, request, occurrence, failure, call.lost)
            if is_rejected:
                self._record_rejected(job, request, occurrence, str(failure))
            raise
        finally:
            # After the record: whoever finds room in the account finds the answer there too.
            self._account.settle(call.reservation, spent + call.lost)
        return answer

    def _respond(self, job: str, request: Request, seed: int, occurrence: int) -> Answer:
        # One that asks for more or fewer responses is another request, for an endpoint too.
        content = f"{request.content_hash}.{request.n_responses}"
        key = ExchangeKey(run=self._journal.run, job=job, content=content, occurrence=occurrence)
        answer = self._model.respond(request, seed=seed, occurrence=occurrence, key=str(key))
        return msgspec.structs.replace(answer, texts=tuple(map(redacted, answer.texts)))

    def _worst(self, request: Request, *, in_dollars: bool = True) -> Spending:
        if not self._model.is_language_model:
            return Spending()
        return self._tariff.worst(request, in_dollars=in_dollars)

    def _look_prices_up(self) -> None:
        """Once, and in a while, so that the first answer does not wait for it."""
        with self._lock:
            is_first, self._looks_up = self._looks_up, False
        if is_first:
            later = threading.Timer(_PRICES_AFTER_S, dict, (self._tariff.prices,))
            later.daemon = True
            later.start()

    def _record_rejected(self, job: str, request: Request, occurrence: int, reason: str) -> None:
        self._journal.record(
            Rejected(
                job=job,
                content_hash=request.content_hash,
                occurrence=occurrence,
                expertise=text_hash(request.expertise),
                message=text_hash(request.message),
                temperature=request.temperature,
                n_responses=request.n_responses,
                model=self._model.name,
                reason=reason,
            ),
            texts=(request.expertise, request.message),
        )

    def _record_asked(self, job: str, request: Request, occurrence: int, worst: Spending) -> None:
        self._journal.record(
            Asked(
                job=job,
                content_hash=request.content_hash,
                occurrence=occurrence,
                worst_tokens=worst.tokens,
                worst_dollars=worst.dollars,
            )
        )

    def _record_unanswered(
        self, job: str, request: Request, occurrence: int, failure: Exception, lost: Spending
    ) -> None:
        self._journal.record(
            Unanswered(
                job=job,
                content_hash=request.content_hash,
                occurrence=occurrence,
                reason=str(failure),
                lost_tokens=lost.tokens,
                lost_dollars=lost.dollars,
            )
        )

    def _record(
        self,
        job: str,
        request: Request,
        occurrence: int,
        reuse_key: str,
        answer: Answer,
        lost: Spending,
        seconds: float,
    ) -> None:
        usage = answer.usage
        event = Answered(
            job=job,
            content_hash=request.content_hash,
            occurrence=occurrence,
            expertise=text_hash(request.expertise),
            message=text_hash(request.message),
            temperature=request.temperature,
            texts=tuple(map(text_hash, answer.texts)),
            model=answer.model or self._model.name,
            attempts=answer.attempts,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            # What was paid for at another time is not paid for again.
            dollars=usage.dollars if answer.source == "live" else 0.0,
            lost_tokens=lost.tokens,
            lost_dollars=lost.dollars,
            truncated=answer.truncated,
            seconds=seconds,
            source=answer.source,
            reuse_key=reuse_key,
        )
        self._journal.record(event, texts=(request.expertise, request.message, *answer.texts))
        self._cache.add(event)
        with self._lock:
            self.calls_by_source[answer.source] += 1


def answer_of(event: Answered, texts: tuple[str, ...]) -> Answer:
    """The answer that an event and its texts record."""
    return Answer(
        texts=texts,
        usage=Usage(
            prompt_tokens=event.prompt_tokens,
            completion_tokens=event.completion_tokens,
            cached_tokens=event.cached_tokens,
            reasoning_tokens=event.reasoning_tokens,
            dollars=event.dollars,
        ),
        truncated=event.truncated,
        model=event.model,
        attempts=event.attempts,
        source=event.source,
    )


def _spent(answer: Answer) -> Spending:
    usage = answer.usage
    if answer.source != "live":
        return Spending()
    return Spending(
        tokens=usage.prompt_tokens + usage.completion_tokens, dollars=usage.dollars or 0.0
    )
