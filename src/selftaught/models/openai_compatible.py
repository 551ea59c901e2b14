"""A language model behind any endpoint that speaks OpenAI's chat completions.

OpenAI itself, OpenRouter, vLLM, Ollama, llama.cpp and others differ in what they take: some
ignore `n`, some reject it, some take no temperature. What an endpoint refuses is learned once
and then left out. This module is the only one that retries.
"""

import hashlib
import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from selftaught.errors import ModelUnreachable, RequestRejected, UsageError
from selftaught.language_model import Answer, Request, Usage
from selftaught.models.chat_endpoint import ChatEndpoint, Completion
from selftaught.models.endpoint_limits import EndpointLimits, may_be_about_n
from selftaught.models.failures import PassingTrouble, Refusal, no_key, refused
from selftaught.models.lost import note_lost_request
from selftaught.models.side_by_side import side_by_side

OPENAI_URL = "https://api.openai.com/v1"
MAX_WAIT_S = 300.0
_MAX_BACKOFF_S = 30.0

OnWait = Callable[[str, str, float], None]


def say_nothing(what: str, detail: str, seconds: float) -> None:
    """The `on_wait` of those who do not want to know."""


class _Exchange(msgspec.Struct, frozen=True):
    request: Request
    seed: int
    occurrence: int
    key: str


class _AskOneByOne(Exception):
    """A request for several responses was rejected, perhaps because it asked for several."""


class OpenAICompatibleModel:
    """Answers by chat completions; implements `selftaught.language_model.LanguageModel`.

    The n responses come from one request where the endpoint honours `n`, else from n concurrent
    ones, whose prompts are then paid for n times. Each request carries an `Idempotency-Key`
    header, the exchange's key and the index of the first response that it is for, which stays
    the same when it is sent again.

    Thread safety: `respond` may be called from any number of threads.
    Determinism: only as far as the endpoint honours a seed, which it is sent if `send_seed`.

    Args:
        model: the model's name as the endpoint knows it.
        base_url: the endpoint's address up to and without `/chat/completions`; None is OpenAI's.
        api_key: the key; may be missing where `base_url` is given.
        timeout_s: seconds that one request may take.
        max_concurrency: requests under way at once, at most.
        max_retries: repetitions of one request after its first failure.
        max_output_tokens: tokens per response, at most; None leaves it to the endpoint.
        send_seed: whether to send a seed, which some servers reject.
        backoff_s: seconds before the first repetition, doubled for each later one.
        max_answer_bytes: a longer body counts as a failure.
        on_wait: told `model_retry` before each repetition with the reason and the seconds to
            wait, and `model_adapted` when a parameter is left out from now on. Called from the
            thread that waits.

    Raises:
        UsageError: `base_url` is no address, or a number is out of range.
        ModelRefused: no key is given for OpenAI's own endpoint, or the key cannot be sent.
    """

    is_language_model = True

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        max_concurrency: int = 8,
        max_retries: int = 5,
        max_output_tokens: int | None = None,
        send_seed: bool = False,
        backoff_s: float = 0.5,
        max_answer_bytes: int = 32 * 2**20,
        on_wait: OnWait = say_nothing,
    ) -> None:
        if timeout_s <= 0 or max_concurrency < 1 or max_retries < 0 or backoff_s < 0:
            raise UsageError(
                "A model needs a time limit above 0 s, at least one request at once and no "
                f"negative number of retries or seconds; given: {timeout_s=}, "
                f"{max_concurrency=}, {max_retries=}, {backoff_s=}."
            )
        self.name = f"openai/{model}"
        self._model = model
        self._endpoint = ChatEndpoint(
            base_url or OPENAI_URL, api_key, timeout_s=timeout_s, max_answer_bytes=max_answer_bytes
        )
        if base_url is None and not self._endpoint.has_key:
            raise no_key(self._endpoint.url)
        self._limits = EndpointLimits()
        self._max_retries = max_retries
        self._max_output_tokens = max_output_tokens
        self._send_seed = send_seed
        self._backoff_s = backoff_s
        self._on_wait = on_wait
        self._under_way = threading.BoundedSemaphore(max_concurrency)
        self._max_concurrency = max_concurrency
        self._closing = threading.Event()

    def __enter__(self) -> "OpenAICompatibleModel":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up what is under way and close the connections. Safe to call twice."""
        self._closing.set()
        self._endpoint.close()

    def respond(self, request: Request, *, seed: int, occurrence: int, key: str) -> Answer:
        """Return `request.n_responses` texts, an empty or missing content as "".

        `key` may be any text; without a fresh one per exchange an endpoint that honours
        idempotency keys would repeat itself.

        Raises:
            RequestRejected: the endpoint rejects this request, as too long for instance.
            ModelRefused: it refuses them all: wrong key, unknown model, no credit.
            ModelUnreachable: no usable answer within the retries, or the model was closed.
        """
        if request.n_responses < 1:
            raise RequestRejected(
                f"At least 1 response must be asked for, not {request.n_responses}."
            )
        try:
            (request.expertise + request.message).encode()
        except UnicodeEncodeError as error:
            raise RequestRejected(f"The prompt is not valid Unicode: {error}.") from error
        exchange = _Exchange(request, seed, occurrence, key)
        wanted = request.n_responses
        parts: list[Completion] = []
        have = 0
        if wanted == 1 or not self._limits.one_at_a_time:
            parts.append(self._ask_together(exchange, wanted))
            have = len(parts[0].texts)
            if have < wanted:
                self._note_one_at_a_time()
        if have < wanted:
            parts += self._ask_one_by_one(exchange, range(have, wanted))
        return _joined(parts, wanted)

    def _ask_together(self, exchange: _Exchange, wanted: int) -> Completion:
        try:
            return self._ask(exchange, 0, wanted)
        except _AskOneByOne:
            # If it is not `n` that is wrong, this one fails too and says what is.
            return self._ask(exchange, 0, 1)

    def _ask_one_by_one(self, exchange: _Exchange, indices: range) -> list[Completion]:
        calls = [partial(self._ask, exchange, index, 1) for index in indices]
        return [_first_only(part) for part in side_by_side(calls, self._max_concurrency)]

    def _ask(self, exchange: _Exchange, first: int, n: int) -> Completion:
        """Ask for the responses from index `first` on until there is an answer."""
        key = f"{exchange.key}/{first}"
        attempt = 1
        while True:
            try:
                return self._ask_adapting(exchange, first, n, key)
            except PassingTrouble as trouble:
                if trouble.may_be_billed:
                    note_lost_request(n)
                if self._closing.is_set():
                    raise self._closed() from trouble
                if attempt > self._max_retries:
                    raise self._unreachable(trouble, attempt) from trouble
                self._wait(trouble, attempt, key)
            attempt += 1

    def _ask_adapting(self, exchange: _Exchange, first: int, n: int, key: str) -> Completion:
        """Send a request, without what the endpoint turns out to refuse of it."""
        while True:
            body = self._body(exchange, first, n)
            try:
                with self._under_way:
                    if self._closing.is_set():
                        raise self._closed()
                    return self._endpoint.complete(body, key)
            except Refusal as refusal:
                if may_be_about_n(refusal, body):
                    raise _AskOneByOne from refusal
                change = self._limits.learn(refusal, body)
                if change is None:
                    offered = self._endpoint.model_names() if refusal.status == 404 else None
                    raise refused(
                        refusal,
                        model=self._model,
                        url=self._endpoint.url,
                        has_key=self._endpoint.has_key,
                        offered=offered,
                    ) from None
                self._on_wait("model_adapted", f"{self.name}: {change}.", 0.0)

    def _body(self, exchange: _Exchange, first: int, n: int) -> dict[str, Any]:
        request = exchange.request
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [
                {"role": "system", "content": request.expertise},
                {"role": "user", "content": request.message},
            ],
        }
        if n > 1:
            body["n"] = n
        # Its own seed for every response, or n requests would bring the same text n times.
        seed = _seed(exchange, first) if self._send_seed else None
        return body | self._limits.sampling(
            temperature=request.temperature,
            max_output_tokens=self._max_output_tokens,
            seed=seed,
        )

    def _note_one_at_a_time(self) -> None:
        if self._limits.note_one_at_a_time():
            self._on_wait(
                "model_adapted",
                f"{self.name}: the endpoint gives fewer responses than one request asks for; "
                "from now on each is asked for by itself, and its prompt paid for each time.",
                0.0,
            )

    def _wait(self, trouble: PassingTrouble, attempt: int, key: str) -> None:
        seconds = trouble.retry_after_s
        if seconds is not None and seconds > MAX_WAIT_S:
            raise ModelUnreachable(
                f"{trouble.says}, and asks to wait {seconds:,.0f} s before the next request, "
                f"more than {MAX_WAIT_S:g} s. Go on with the run later."
            ) from trouble
        if not seconds:
            # Jitter keeps requests that failed together from coming back together; drawn from
            # the key, it is the same however threads take turns.
            jitter = random.Random(f"{key}|{attempt}").uniform(0.5, 1.0)
            seconds = jitter * min(_MAX_BACKOFF_S, self._backoff_s * 2.0 ** (attempt - 1))
        self._on_wait(
            "model_retry",
            f"{trouble.says}; request {attempt + 1} of {self._max_retries + 1} follows.",
            seconds,
        )
        if self._closing.wait(seconds):
            raise self._closed()

    def _unreachable(self, trouble: PassingTrouble, requests: int) -> ModelUnreachable:
        times = "1 request" if requests == 1 else f"{requests} requests"
        return ModelUnreachable(
            f"{self._model!r} gave no answer in {times}; the last one failed because "
            f"{trouble.says}. {trouble.advice}"
        )

    def _closed(self) -> ModelUnreachable:
        return ModelUnreachable(f"The connection to {self._endpoint.url} was closed.")


def _seed(exchange: _Exchange, first: int) -> int:
    text = f"{exchange.seed}|{exchange.occurrence + first}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) >> 1


def _first_only(completion: Completion) -> Completion:
    return msgspec.structs.replace(completion, texts=completion.texts[:1], cut=completion.cut[:1])


def _joined(parts: list[Completion], wanted: int) -> Answer:
    texts = [text for part in parts for text in part.texts][:wanted]
    cut = [cut for part in parts for cut in part.cut][:wanted]
    return Answer(
        texts=tuple(texts),
        usage=Usage(
            prompt_tokens=sum(part.prompt_tokens for part in parts),
            completion_tokens=sum(part.completion_tokens for part in parts),
        ),
        truncated=tuple(index for index, is_cut in enumerate(cut) if is_cut),
    )
