"""Requests and tokens per minute: how long a request has to wait for its turn."""

import threading
import time
from collections.abc import Callable

from selftaught.language_model import ModelSettings, Usage
from selftaught.models.endpoint import Question

# A tenth of a minute's allowance may go at once; the rest is spread over the minute.
_BURST = 0.1
_CHARS_PER_TOKEN = 4
_FIRST_GUESS_TOKENS = 500.0
_SMOOTHING = 0.2


class TokenBucket:
    """Hands out an allowance per minute, in the order in which it is asked for. Thread-safe.

    Where single amounts are no larger than a tenth of the allowance (or 1), no more than the
    allowance is handed out within any minute.

    Args:
        per_minute: the allowance, at least 1.
        clock: seconds that only grow.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = max(1.0, per_minute * _BURST)
        self._per_s = max(per_minute - self._most, per_minute / 2) / 60
        self._left = self._most
        self._clock = clock
        self._seen = clock()
        self._lock = threading.Lock()

    def reserve(self, amount: float) -> float:
        """Take an amount and return the seconds to wait before it may be used."""
        with self._lock:
            now = self._clock()
            self._left = min(self._most, self._left + (now - self._seen) * self._per_s)
            self._seen = now
            wait_s = (min(amount, self._most) - self._left) / self._per_s
            self._left -= amount
            return max(0.0, wait_s)

    def give_back(self, amount: float) -> None:
        """Correct what was taken: more than was used, or less where `amount` is negative."""
        with self._lock:
            self._left = min(self._most, self._left + amount)


class RateLimits:
    """The two allowances of an endpoint. Thread-safe.

    Tokens are known after the answer only. Before, they are guessed: the prompt's by its length,
    the responses' by those of earlier ones; the guess is corrected afterwards.
    """

    def __init__(
        self, settings: ModelSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        requests, tokens = settings.requests_per_minute, settings.tokens_per_minute
        self._requests = TokenBucket(requests, clock) if requests else None
        self._tokens = TokenBucket(tokens, clock) if tokens else None
        self._response_tokens = min(
            _FIRST_GUESS_TOKENS, float(settings.max_output_tokens or _FIRST_GUESS_TOKENS)
        )
        self._lock = threading.Lock()

    def reserve(self, question: Question) -> tuple[float, float]:
        """Return the seconds to wait before a request may be sent, and the tokens guessed."""
        wait_s = self._requests.reserve(1.0) if self._requests else 0.0
        if self._tokens is None:
            return wait_s, 0.0
        chars = len(question.expertise) + len(question.message)
        with self._lock:
            guess = chars / _CHARS_PER_TOKEN + question.n * self._response_tokens
        return max(wait_s, self._tokens.reserve(guess)), guess

    def settle(self, guess: float, usage: Usage, responses: int) -> None:
        """Correct the guess for a request by what it used; `responses` it brought."""
        if self._tokens is None or not (usage.prompt_tokens or usage.completion_tokens):
            return
        self._tokens.give_back(guess - usage.prompt_tokens - usage.completion_tokens)
        with self._lock:
            seen = usage.completion_tokens / max(1, responses)
            self._response_tokens += _SMOOTHING * (seen - self._response_tokens)
