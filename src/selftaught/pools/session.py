"""One improver at work: its guest asks, the host charges, serves and answers.

The session knows nothing of where the guest runs; any pool can use it.
"""

import functools
from collections.abc import Callable
from typing import Any

from selftaught.errors import BudgetSpent, RequestRejected, SolutionError
from selftaught.language_model import Request
from selftaught.plain_text import shortened, visible
from selftaught.pool import MAX_REQUESTS, Attempt, ImproveJob, run_all
from selftaught.sandbox.candidate import without_addresses
from selftaught.solution import MAX_SOURCE_CHARS, Solution
from selftaught.utility import (
    FAILURES,
    FEEDBACK_CHARS,
    InvalidValue,
    Outcome,
    OutOfBudget,
    Scored,
    kind,
    number,
)

# Of expertise and message together; the first may take a quarter of it.
MAX_PROMPT_CHARS = 400_000
MAX_EXPERTISE_CHARS = MAX_PROMPT_CHARS // 4
MAX_ANSWER_CHARS = 1_800_000
MAX_TEMPERATURE = 100.0
MAX_TEXTS = 1_000


class RequestRefused(Exception):
    """The guest sent what no improver can mean, or too much of it; it is ended."""


class Session:
    """Serves the requests of one improve job.

    Args:
        job: what the improver may ask for.
    """

    def __init__(self, job: ImproveJob) -> None:
        self.job = job
        self.requests = 0

    def opening(self) -> dict[str, Any]:
        """The message that starts the improver."""
        job = self.job
        return {
            "op": "improve",
            "entry_point": job.improver.entry_point,
            "initial": job.initial.source,
            "utility_text": job.utility_text,
            "utility_calls": job.account.budget.utility_calls,
            "calls": job.account.budget.calls,
            "responses": job.account.budget.responses,
            "seed": job.seed,
        }

    def serve(self, message: dict[str, Any]) -> dict[str, Any]:
        """Answer one request.

        Raises:
            RequestRefused: it is malformed, or one too many.
            ModelError: the language model cannot answer, which ends the run, not the improver.
        """
        self.requests += 1
        if self.requests > MAX_REQUESTS:
            raise RequestRefused(f"more than {MAX_REQUESTS:,} requests to the host")
        method, params = message.get("method"), message.get("params")
        serving = _SERVED.get(method) if isinstance(method, str) else None
        if serving is None or not isinstance(params, dict):
            raise RequestRefused(f"a request that the host does not know: {method!r:.60}")
        try:
            return {"ask": message["ask"], "value": serving(self, params)}
        except BudgetSpent as refusal:
            return {"ask": message["ask"], "refused": str(refusal)}
        except RequestRejected as rejection:
            return {"ask": message["ask"], "rejected": str(rejection)}

    def _score(self, params: dict[str, Any]) -> dict[str, Any]:
        texts = params.get("solutions")
        if not isinstance(texts, list) or len(texts) > MAX_TEXTS:
            raise RequestRefused(f"up to {MAX_TEXTS:,} solutions can be scored at once")
        outcomes = run_all([self._scoring(text) for text in texts])
        scores = [self._told(outcome) for outcome in outcomes]
        return {"scores": scores, "uses": self.job.account.utility_calls}

    def _scoring(self, text: object) -> Callable[[], Outcome]:
        """Charge for one score now, in the order asked, and return how to compute it."""
        try:
            call = self.job.account.charge_utility_call()
        except BudgetSpent as refusal:
            spent = OutOfBudget(reason=str(refusal))
            return lambda: spent
        try:
            told = without_addresses(text) if isinstance(text, str) else text
            initial = self.job.initial
            solution = Solution.admit(told, initial.entry_point, initial.language)
        except SolutionError as error:
            invalid = InvalidValue(reason=str(error))
            return lambda: invalid

        def scored() -> Outcome:
            outcome = self.job.utility(solution)
            self.job.on_score(call, solution, outcome)
            return outcome

        return scored

    def _told(self, outcome: Outcome) -> dict[str, Any]:
        told = {
            "value": number(outcome, self.job.worst),
            "outcome": kind(outcome),
            "standard_error": 0.0,
            "feedback": "",
        }
        if isinstance(outcome, Scored):
            told.update(standard_error=outcome.standard_error, feedback=_as_data(outcome.feedback))
        elif isinstance(outcome, FAILURES):
            told.update(feedback=_as_data(outcome.reason))
        return told

    def _initial(self, params: dict[str, Any]) -> float:
        return number(self.job.initial_outcome(), self.job.worst)

    def _ask(self, params: dict[str, Any]) -> dict[str, Any]:
        messages, expertise = params.get("messages"), params.get("expertise")
        temperature = params.get("temperature")
        if (
            not isinstance(expertise, str)
            or not isinstance(messages, list)
            or not 1 <= len(messages) <= MAX_TEXTS
            or not all(isinstance(text, str) for text in messages)
            or not isinstance(temperature, (int, float))
            or not abs(temperature) <= MAX_TEMPERATURE
        ):
            raise RequestRefused("a prompt must be a text, with a number as temperature")
        try:
            "".join([expertise, *messages]).encode()
        except UnicodeEncodeError as error:
            raise RequestRefused(f"a prompt must be valid Unicode: {error}") from error
        # What matters stands at the beginning or at the end of most prompts.
        expertise = shortened(expertise, MAX_EXPERTISE_CHARS, keep_end=True)
        most_chars = MAX_PROMPT_CHARS - len(expertise)
        messages = [
            shortened(without_addresses(message), most_chars, keep_end=True) for message in messages
        ]
        self.job.account.charge_call(len(messages))
        texts = self._ask_grouped(expertise, messages, min(2.0, max(0.0, float(temperature))))
        return {"texts": texts, "uses": self.job.account.calls}

    def _ask_grouped(self, expertise: str, messages: list[str], temperature: float) -> list[str]:
        """Ask each distinct message once, with as many responses as it occurs."""
        places: dict[str, list[int]] = {}
        for i, message in enumerate(messages):
            places.setdefault(message, []).append(i)
        requests = [
            Request(
                expertise=expertise,
                message=message,
                n_responses=len(indices),
                temperature=temperature,
            )
            for message, indices in places.items()
        ]
        answers = run_all([functools.partial(self.job.ask, request) for request in requests])
        texts = [""] * len(messages)
        # All of them go back in one frame.
        most_chars = min(2 * MAX_SOURCE_CHARS, MAX_ANSWER_CHARS // len(messages))
        for indices, answer in zip(places.values(), answers, strict=True):
            for i, text in zip(indices, answer.texts, strict=True):
                texts[i] = shortened(text, most_chars)
        return texts

    def note(self, attempt: Attempt) -> None:
        """Hand on what the guest tried."""
        self.job.on_attempt(attempt)


def _as_data(feedback: str) -> str:
    """Feedback, much of it a program's own words, as an improver gets it: short and visible."""
    return shortened(visible(feedback), FEEDBACK_CHARS)


_SERVED: dict[str, Callable[[Session, dict[str, Any]], Any]] = {
    "score": Session._score,
    "initial": Session._initial,
    "ask": Session._ask,
}
