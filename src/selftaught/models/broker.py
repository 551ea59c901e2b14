"""The broker: every request to the language model passes here, and is recorded before it counts.

It holds the model (and with it the key), spends the run's account, and answers from the record
what was answered before: a resumed run pays for no answer twice. Before a call it sets aside the
most that the call can cost.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable

import msgspec

from selftaught.budget import Reservation, RunAccount, Spending
from selftaught.errors import Interrupted, ModelError, RequestRejected, RunBudgetSpent
from selftaught.events import Answered, Paused, Unanswered
from selftaught.language_model import Answer, LanguageModel, Request, Usage
from selftaught.models.lost import lost_requests_told_to
from selftaught.models.tariff import Tariff
from selftaught.models.tracing import Tracing, answered
from selftaught.store.event_store import text_hash
from selftaught.store.journal import Journal


class _Call:
    """A call under way: what is set aside for it, and what its failed requests may have cost."""

    def __init__(self, reservation: Reservation) -> None:
        self.reservation = reservation
        self.lost = Spending()
        self._lock = threading.Lock()

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
    """

    def __init__(
        self,
        model: LanguageModel,
        journal: Journal,
        account: RunAccount,
        check: Callable[[], None],
        tariff: Tariff,
        tracing: Tracing | None = None,
    ) -> None:
        self._model = model
        self._journal = journal
        self._account = account
        self._check = check
        self._tariff = tariff
        self._tracing = tracing or Tracing()
        self._asked: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self.live_calls = 0
        self.replayed_calls = 0

    def __call__(self, job: str, request: Request, seed: int) -> Answer:
        """Answer a request of a job, from the record or from the model.

        Raises:
            RequestRejected: the model does not take this prompt; the improver is told.
            ModelError: the model cannot answer at all.
            RunBudgetSpent, Interrupted: nothing new may be asked.
        """
        content = request.content_hash
        with self._lock:
            # The job is in the key, so its own requests alone decide what is asked when.
            occurrence = self._asked[job, content]
            self._asked[job, content] += request.n_responses
        recorded = self._journal.recorded_answer(job, content, occurrence)
        if recorded is not None and len(recorded[1]) == request.n_responses:
            event, texts = recorded
            with self._lock:
                self.replayed_calls += 1
            return Answer(
                texts=texts,
                usage=_usage(event),
                truncated=event.truncated,
                model=event.model,
                attempts=event.attempts,
            )
        return self._ask(job, request, seed, occurrence)

    def _ask(self, job: str, request: Request, seed: int, occurrence: int) -> Answer:
        call = _Call(self._account.reserve(self._worst(request), self._check))
        usage = Usage()
        started = time.monotonic()

        def lose(n_responses: int) -> None:
            lost = self._worst(msgspec.structs.replace(request, n_responses=n_responses))
            call.lose(lost)
            self._account.extend(call.reservation, lost, self._check)

        try:
            with (
                lost_requests_told_to(lose),
                self._tracing.call(job, request, self._model.name) as span,
            ):
                answer = self._model.respond(
                    request,
                    seed=seed,
                    occurrence=occurrence,
                    key=f"{self._journal.run}/{job}/{request.content_hash}/{occurrence}",
                )
                answer = self._tariff.priced(answer)
                answered(span, answer, self._model.name)
            usage = answer.usage
            self._record(job, request, occurrence, answer, call.lost, time.monotonic() - started)
        except (ModelError, RunBudgetSpent, Interrupted) as failure:
            if isinstance(failure, RequestRejected):
                self._journal.record(Paused(what="rejected", detail=str(failure)))
            self._record_lost(job, failure, call.lost)
            raise
        finally:
            # After the record: whoever finds room in the account finds the answer there too.
            self._account.settle(call.reservation, _spent(usage) + call.lost)
        return answer

    def _worst(self, request: Request) -> Spending:
        return self._tariff.worst(request) if self._model.is_language_model else Spending()

    def _record_lost(self, job: str, failure: Exception, lost: Spending) -> None:
        if lost != Spending():
            self._journal.record(
                Unanswered(
                    job=job,
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
        answer: Answer,
        lost: Spending,
        seconds: float,
    ) -> None:
        usage = answer.usage
        self._journal.record(
            Answered(
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
                dollars=usage.dollars,
                lost_tokens=lost.tokens,
                lost_dollars=lost.dollars,
                truncated=answer.truncated,
                seconds=seconds,
            ),
            texts=(request.expertise, request.message, *answer.texts),
        )
        with self._lock:
            self.live_calls += 1


def _spent(usage: Usage) -> Spending:
    return Spending(
        tokens=usage.prompt_tokens + usage.completion_tokens, dollars=usage.dollars or 0.0
    )


def _usage(event: Answered) -> Usage:
    return Usage(
        prompt_tokens=event.prompt_tokens,
        completion_tokens=event.completion_tokens,
        cached_tokens=event.cached_tokens,
        reasoning_tokens=event.reasoning_tokens,
        dollars=event.dollars,
    )
