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

import msgspec

from selftaught.budget import RunAccount, Spending
from selftaught.errors import (
    Interrupted,
    ModelError,
    ModelUnreachable,
    RequestRejected,
    RunBudgetSpent,
)
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
    """A call under way, and what becomes of its requests.

    Implements `selftaught.models.lost.Listener`. Its requests may be in several threads, of which
    some go on when it has failed. What they tell then counts no more: it was counted at its end.

    Args:
        worst: the most that a request for so many responses can cost.
        extend: sets more aside for it, or raises where there is no more.
        record: records the call with what is set aside for it by then.
    """

    def __init__(
        self,
        worst: Callable[[int], Spending],
        extend: Callable[[Spending], None],
        record: Callable[[], None],
    ) -> None:
        self.lost = Spending()
        self.is_recorded = False
        self._worst = worst
        self._extend = extend
        self._record = record
        self._under_way = 0
        self._is_over = False
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Record the call, unless it is; others of its requests wait until it is."""
        with self._lock:
            self._begin()

    def note_sent(self, n_responses: int) -> None:
        """Record the call before its first request is sent."""
        with self._lock:
            if self._is_over:
                raise ModelUnreachable("The call has failed; the rest of it is not sent.")
            self._begin()
            self._under_way += n_responses

    def note_refused(self, n_responses: int) -> None:
        """Count one request less."""
        with self._lock:
            self._under_way -= n_responses

    def note_lost(self, n_responses: int) -> None:
        """Count what a failed request may have cost, and set as much aside for repeating it."""
        cost = self._worst(n_responses)
        with self._lock:
            if self._is_over:
                return
            self._under_way -= n_responses
            self.lost += cost
        self._extend(cost)
        with self._lock:
            if not self._is_over:
                self._record()

    def fail(self, *, is_rejected: bool) -> None:
        """End the call: requests that were answered in vain, or are on their way, are lost too.

        Where one of them was rejected, the others are: they ask for the same.
        """
        with self._lock:
            self._is_over = True
            if self._under_way > 0 and not is_rejected:
                self.lost += self._worst(self._under_way)

    def _begin(self) -> None:
        if not self.is_recorded:
            self._record()
            self.is_recorded = True


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
        self._asked: dict[str, Counter[str]] = {}
        self._lock = threading.Lock()
        self._looks_up = tariff.waits_for_table
        self.replayed_calls = 0
        self.calls_by_source: Counter[str] = Counter()

    @property
    def live_calls(self) -> int:
        """Requests that the model was asked in this process."""
        return self.calls_by_source["live"]

    def forget(self, job: str) -> None:
        """Forget what a job has asked: it has ended, or is run anew and counts from the first.

        Its earlier requests have all been answered by now, or it could not have ended.
        """
        with self._lock:
            self._asked.pop(job, None)

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
            asked = self._asked.setdefault(job, Counter())
            occurrence = asked[content]
            asked[content] += request.n_responses
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
        # Where money is not limited, no call waits for its price.
        in_dollars = self._account.limits.dollars is not None or not self._tariff.waits_for_table
        worst = self._worst(request, in_dollars=in_dollars)
        reservation = self._account.reserve(worst, self._check)
        call = _Call(
            worst=lambda n: self._worst(msgspec.structs.replace(request, n_responses=n)),
            extend=lambda more: self._account.extend(reservation, more, self._check),
            record=lambda: self._record_asked(job, request, occurrence, reservation.held),
        )
        self._look_prices_up()
        spent = Spending()
        started = time.monotonic()
        try:
            # What costs nothing can be asked again without a word.
            if reservation.held != Spending() and not announces_requests(self._model):
                call.begin()
            with (
                requests_told_to(call),
                self._tracing.call(job, request, self._model.name) as span,
            ):
                answer = self._tariff.priced(self._respond(job, request, seed, occurrence))
                answered(span, answer, self._model.name)
            spent = _spent(answer)
            seconds = time.monotonic() - started
            self._record(job, request, occurrence, reuse_key, answer, call.lost, seconds)
        except (ModelError, RunBudgetSpent, Interrupted) as failure:
            is_rejected = isinstance(failure, RequestRejected)
            call.fail(is_rejected=is_rejected)
            if call.lost != Spending() or (call.is_recorded and not is_rejected):
                self._record_unanswered(job, request, occurrence, failure, call.lost)
            if is_rejected:
                self._record_rejected(job, request, occurrence, str(failure))
            raise
        finally:
            # After the record: whoever finds room in the account finds the answer there too.
            self._account.settle(reservation, spent + call.lost)
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
