"""The broker: every request to the language model passes here, and is recorded before it counts.

It holds the model (and with it the key), spends the run's account, and answers from the record
what was answered before: a resumed run pays for no answer twice.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable

from selftaught.budget import RunAccount
from selftaught.errors import RequestRejected
from selftaught.events import Answered, Paused
from selftaught.language_model import Answer, LanguageModel, Request, Usage
from selftaught.store.event_store import text_hash
from selftaught.store.journal import Journal


class Broker:
    """Implements `selftaught.meta_utility.Ask`. Thread-safe.

    Args:
        model: answers what the record does not hold.
        journal: where answers are found and recorded.
        account: the run's spending; of a resumed run it holds what was recorded as paid.
        check: raises where the run is told to stop; asked before anything new is.
    """

    def __init__(
        self,
        model: LanguageModel,
        journal: Journal,
        account: RunAccount,
        check: Callable[[], None],
    ) -> None:
        self._model = model
        self._journal = journal
        self._account = account
        self._check = check
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
        self._check()
        self._account.check()
        started = time.monotonic()
        try:
            answer = self._model.respond(
                request,
                seed=seed,
                occurrence=occurrence,
                key=f"{self._journal.run}/{job}/{content}/{occurrence}",
            )
        except RequestRejected as rejection:
            self._journal.record(Paused(what="rejected", detail=str(rejection)))
            raise
        self._record(job, request, occurrence, answer, time.monotonic() - started)
        return answer

    def _record(
        self, job: str, request: Request, occurrence: int, answer: Answer, seconds: float
    ) -> None:
        usage = answer.usage
        self._account.record(usage.prompt_tokens + usage.completion_tokens, usage.dollars or 0.0)
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
                truncated=answer.truncated,
                seconds=seconds,
            ),
            texts=(request.expertise, request.message, *answer.texts),
        )
        with self._lock:
            self.live_calls += 1


def _usage(event: Answered) -> Usage:
    return Usage(
        prompt_tokens=event.prompt_tokens,
        completion_tokens=event.completion_tokens,
        cached_tokens=event.cached_tokens,
        reasoning_tokens=event.reasoning_tokens,
        dollars=event.dollars,
    )
