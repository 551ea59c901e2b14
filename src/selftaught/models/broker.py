"""The broker: every request to the language model passes here, and is recorded before it counts.

It holds the model (and with it the key), spends the run's account, and answers from the record
what was answered before: a resumed run pays for no answer twice. Secrets are taken out of prompts
and answers here, before anything is hashed, sent, recorded or handed on.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable

import msgspec

from selftaught.budget import RunAccount
from selftaught.errors import RequestRejected
from selftaught.events import Answered, Rejected
from selftaught.language_model import Answer, ExchangeKey, LanguageModel, Request, Usage
from selftaught.models.answer_cache import NO_CACHE, AnswerCache
from selftaught.redaction import redacted
from selftaught.store.event_store import text_hash
from selftaught.store.journal import Journal


class Broker:
    """Implements `selftaught.meta_utility.Ask`. Thread-safe.

    Args:
        model: answers what the record does not hold.
        journal: where answers are found and recorded.
        account: the run's spending; of a resumed run it holds what was recorded as paid.
        check: raises where the run is told to stop; asked before anything new is.
        cache: finds the answers of earlier runs, and names those of this one for later ones.
    """

    def __init__(
        self,
        model: LanguageModel,
        journal: Journal,
        account: RunAccount,
        check: Callable[[], None],
        cache: AnswerCache = NO_CACHE,
    ) -> None:
        self._model = model
        self._journal = journal
        self._account = account
        self._check = check
        self._cache = cache
        self._asked: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self.replayed_calls = 0
        self.calls_by_source: Counter[str] = Counter()

    @property
    def live_calls(self) -> int:
        """Requests that the model was asked in this process."""
        return self.calls_by_source["live"]

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
        recorded = self._journal.recorded_answer(job, content, occurrence)
        if recorded is not None and len(recorded[1]) == request.n_responses:
            with self._lock:
                self.replayed_calls += 1
            return answer_of(*recorded)
        rejected = self._journal.recorded_rejection(job, content, occurrence)
        if rejected is not None:
            raise RequestRejected(rejected.reason)
        self._check()
        reuse_key = self._cache.key(request, seed, occurrence)
        with self._cache.claimed(reuse_key) as cached:
            started = time.monotonic()
            if cached is not None:
                answer = msgspec.structs.replace(answer_of(*cached), source="cache")
            else:
                self._account.check()
                answer = self._ask(job, request, seed, occurrence)
            self._record(job, request, occurrence, reuse_key, answer, time.monotonic() - started)
        return answer

    def _ask(self, job: str, request: Request, seed: int, occurrence: int) -> Answer:
        content = request.content_hash
        key = ExchangeKey(run=self._journal.run, job=job, content=content, occurrence=occurrence)
        try:
            answer = self._model.respond(request, seed=seed, occurrence=occurrence, key=str(key))
        except RequestRejected as rejection:
            self._journal.record(
                Rejected(
                    job=job,
                    content_hash=content,
                    occurrence=occurrence,
                    expertise=text_hash(request.expertise),
                    message=text_hash(request.message),
                    temperature=request.temperature,
                    n_responses=request.n_responses,
                    model=self._model.name,
                    reason=str(rejection),
                ),
                texts=(request.expertise, request.message),
            )
            raise
        return msgspec.structs.replace(answer, texts=tuple(map(redacted, answer.texts)))

    def _record(
        self,
        job: str,
        request: Request,
        occurrence: int,
        reuse_key: str,
        answer: Answer,
        seconds: float,
    ) -> None:
        usage = answer.usage
        dollars = usage.dollars
        if answer.source == "live":
            self._account.record(usage.prompt_tokens + usage.completion_tokens, dollars or 0.0)
        else:
            dollars = 0.0
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
            dollars=dollars,
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
