"""A language model behind an endpoint: the one place that repeats requests and waits.

What is common to all providers is here. An `Endpoint` makes single exchanges; this module asks
until there are as many responses as are wanted, learns what the endpoint refuses, keeps to its
limits, and waits for it where it is down.
"""

import hashlib
import random
from collections.abc import Callable
from functools import partial
from typing import Self

import msgspec

from selftaught.errors import ModelUnreachable, RequestRejected, UsageError
from selftaught.language_model import Answer, ModelSettings, Request, Usage
from selftaught.models.endpoint import Completion, Endpoint, Parameter, Question
from selftaught.models.endpoint_limits import Chosen, EndpointLimits
from selftaught.models.failures import PassingTrouble, Refusal, closed, refused
from selftaught.models.gate import Failed, Gate, GateClosed, Ticket
from selftaught.models.lost import note_lost_request, note_refused_request, note_request
from selftaught.models.rate_limits import RateLimits
from selftaught.models.side_by_side import side_by_side

_MAX_BACKOFF_S = 30.0

OnWait = Callable[[str, str, float], None]


def say_nothing(what: str, detail: str, seconds: float) -> None:
    """The `on_wait` of those who do not want to know."""


def never_stop() -> None:
    """The `check` of those who wait to the end."""


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """How a hosted model repeats and waits.

    Attributes:
        max_retries: repetitions of one request after its first failure.
        backoff_s: seconds before the first repetition, doubled for each later one.
        on_wait: told before each repetition why, with the seconds to wait: `model_retry` where
            it counts against `max_retries`, `model_paused` where the endpoint is taken to be
            down, `model_adapted` where a refused parameter is sent otherwise or left out. Told
            besides: `model_resumed` at the end of a pause, with its length, and `model_slowed`
            where fewer requests are under way from now on. Called from the thread that waits.
        check: raises where waiting is to end; called several times a second while one waits.
    """

    max_retries: int = 5
    backoff_s: float = 0.5
    on_wait: OnWait = say_nothing
    check: Callable[[], None] = never_stop


class _Exchange(msgspec.Struct, frozen=True):
    request: Request
    seed: int
    occurrence: int
    key: str
    sent: list[str]


class _AskOneByOne(Exception):
    """A request for several responses was rejected, perhaps because it asked for several."""


class HostedModel:
    """Answers by an endpoint; implements `selftaught.language_model.LanguageModel`.

    The n responses come from one request where the endpoint can do that, else from n concurrent
    ones, whose prompts are then paid for n times. Each request has a key, the exchange's and the
    index of the first response that it is for, which stays the same when it is sent again.

    Thread safety: `respond` may be called from any number of threads.
    Determinism: only as far as the endpoint honours a seed, which it is sent if `send_seed`.

    Args:
        name: as the user writes it after `--model`.
        endpoint: makes the exchanges; closed with the model.
        settings: how it is asked.
        waiting: how it repeats and waits.
        send_seed: whether to send a seed with each request.

    Raises:
        UsageError: a number is out of range.
    """

    is_language_model = True
    announces_requests = True

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        settings: ModelSettings,
        waiting: Waiting,
        *,
        send_seed: bool = False,
    ) -> None:
        _check_numbers(settings, waiting)
        self.name = name
        self._endpoint = endpoint
        self._settings = settings
        self._waiting = waiting
        self._send_seed = send_seed
        self._limits = EndpointLimits(one_at_a_time=not endpoint.takes_n)
        self._rates = RateLimits(settings)
        self._gate = Gate(
            width=settings.concurrency,
            patience_s=settings.patience_s,
            first_wait_s=2 * waiting.backoff_s,
            check=waiting.check,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def prepare(self) -> None:
        """Load what the first request would wait for; may be called from any thread."""
        self._endpoint.prepare()

    def close(self) -> None:
        """Give up what is under way and close the connections. Safe to call twice."""
        self._gate.close()
        self._endpoint.close()

    def respond(self, request: Request, *, seed: int, occurrence: int, key: str) -> Answer:
        """Return `request.n_responses` texts, an empty or missing content as "".

        `key` may be any text; without a fresh one per exchange an endpoint that honours
        idempotency keys would repeat itself.

        Raises:
            RequestRejected: the endpoint rejects this request, as too long for instance.
            ModelRefused: it refuses them all: wrong key, unknown model, no credit.
            ModelUnreachable: no usable answer within the retries or, from an endpoint that has
                answered before, within patience; or the model was closed.
        """
        if request.n_responses < 1:
            raise RequestRejected(
                f"At least 1 response must be asked for, not {request.n_responses}."
            )
        try:
            (request.expertise + request.message).encode()
        except UnicodeEncodeError as error:
            raise RequestRejected(f"The prompt is not valid Unicode: {error}.") from error
        exchange = _Exchange(request, seed, occurrence, key, [])
        try:
            parts = self._parts(exchange, request.n_responses)
        except GateClosed:
            raise closed(self._endpoint.url) from None
        return _joined(parts, request.n_responses, len(exchange.sent))

    def _parts(self, exchange: _Exchange, wanted: int) -> list[Completion]:
        parts: list[Completion] = []
        have = 0
        if wanted == 1 or not self._limits.one_at_a_time:
            parts.append(self._ask_together(exchange, wanted))
            have = len(parts[0].texts)
            if have < wanted:
                self._note_one_at_a_time()
        if have < wanted:
            calls = [partial(self._ask, exchange, index, 1) for index in range(have, wanted)]
            parts += map(_first_only, side_by_side(calls, self._settings.concurrency))
        return parts

    def _ask_together(self, exchange: _Exchange, wanted: int) -> Completion:
        try:
            return self._ask(exchange, 0, wanted)
        except _AskOneByOne:
            # If it is not `n` that is wrong, this one fails too and says what is.
            return self._ask(exchange, 0, 1)

    def _ask(self, exchange: _Exchange, first: int, n: int) -> Completion:
        """Ask for the responses from index `first` on until there is an answer."""
        question = self._question(exchange, first, n)
        parameters = self._endpoint.parameters(question)
        key = f"{exchange.key}/{first}"
        failures = 0
        while True:
            guess = self._await_rates(question)
            ticket = self._gate.enter(key)
            # Chosen as late as this: another request may have taught something meanwhile.
            chosen = self._limits.chosen(parameters)
            exchange.sent.append(key)
            try:
                note_request(n)
                completion = self._endpoint.send(question, chosen.fields, key)
            except PassingTrouble as trouble:
                failed = self._gate.failed(ticket, trouble)
                if trouble.may_be_billed:
                    note_lost_request(n)
                else:
                    note_refused_request(n)
                if self._gate.is_closed:
                    raise GateClosed from trouble
                failures += failed.held_s is None
                self._after_failure(trouble, failed, failures, key)
            except Refusal as refusal:
                self._note_answer(ticket)
                note_refused_request(n)
                self._adapt(refusal, n, parameters, chosen)
            except BaseException:
                self._gate.abandoned(ticket)
                raise
            else:
                self._note_answer(ticket)
                self._rates.settle(guess, completion.usage, len(completion.texts))
                note_refused_request(max(0, n - len(completion.texts)))
                return completion

    def _question(self, exchange: _Exchange, first: int, n: int) -> Question:
        request = exchange.request
        return Question(
            expertise=request.expertise,
            message=request.message,
            n=n,
            temperature=request.temperature,
            # Its own for every response, or n requests would bring the same text n times.
            seed=_seed(exchange, first) if self._send_seed else None,
            max_output_tokens=self._settings.max_output_tokens,
            reasoning_effort=self._settings.reasoning_effort,
        )

    def _await_rates(self, question: Question) -> float:
        wait_s, guess = self._rates.reserve(question)
        if wait_s > 0:
            self._gate.sleep(wait_s)
        return guess

    def _note_answer(self, ticket: Ticket) -> None:
        paused_s = self._gate.answered(ticket)
        if paused_s is not None:
            self._say("model_resumed", f"answers again after {paused_s:,.0f} s", paused_s)

    def _note_one_at_a_time(self) -> None:
        if self._limits.note_one_at_a_time():
            self._say(
                "model_adapted",
                "the endpoint gives fewer responses than one request asks for; "
                "from now on each is asked for by itself, and its prompt paid for each time",
            )

    def _adapt(self, refusal: Refusal, n: int, parameters: list[Parameter], sent: Chosen) -> None:
        """Learn from a refusal what to send instead, or say what it means."""
        if self._limits.may_be_about_n(refusal, n, parameters):
            words = refusal.message.rstrip(".")
            self._say(
                "model_adapted", f"a request for {n} responses is refused ({words}); one is tried"
            )
            raise _AskOneByOne from refusal
        change = self._limits.learn(refusal, parameters, sent)
        if change is None:
            endpoint = self._endpoint
            raise refused(
                refusal,
                model=endpoint.model,
                url=endpoint.url,
                has_key=endpoint.has_key,
                key_variable=endpoint.key_variable,
                offered=endpoint.model_names() if refusal.status == 404 else None,
            ) from None
        self._say("model_adapted", change or "what was refused is sent as learned meanwhile")

    def _after_failure(
        self, trouble: PassingTrouble, failed: Failed, failures: int, key: str
    ) -> None:
        """Wait before a request is repeated, or raise where it is not."""
        asked_s = trouble.retry_after_s or 0.0
        if asked_s > self._settings.patience_s:
            raise ModelUnreachable(
                f"{trouble.says}, and asks to wait {asked_s:,.0f} s before the next request, "
                f"more than the {self._settings.patience_s:,.0f} s of patience. "
                "Go on with the run later: `selftaught resume`."
            ) from trouble
        if failed.narrowed_to is not None:
            self._say(
                "model_slowed", f"overloaded; from now on at most {failed.narrowed_to} at once"
            )
        if failed.held_s is not None:
            self._say(
                "model_paused",
                f"{trouble.says}; requests wait until it answers, for up to "
                f"{self._settings.patience_s:,.0f} s, and one tries in {failed.held_s:.1f} s",
                failed.held_s,
            )
            return
        if failures > self._waiting.max_retries:
            raise self._unreachable(trouble, failures) from trouble
        # Jitter keeps requests that failed together from coming back together; drawn from
        # the key, it is the same however threads take turns.
        jitter = random.Random(f"{key}|{failures}").uniform(0.5, 1.0)
        backoff_s = min(_MAX_BACKOFF_S, self._waiting.backoff_s * 2.0 ** (failures - 1))
        seconds = asked_s or jitter * backoff_s
        self._waiting.on_wait(
            "model_retry",
            f"{trouble.says}; request {failures + 1} of {self._waiting.max_retries + 1} follows.",
            seconds,
        )
        self._gate.sleep(seconds)

    def _unreachable(self, trouble: PassingTrouble, requests: int) -> ModelUnreachable:
        times = "1 request" if requests == 1 else f"{requests} requests"
        return ModelUnreachable(
            f"{self._endpoint.model!r} gave no answer in {times}; the last one failed because "
            f"{trouble.says}. {trouble.advice}"
        )

    def _say(self, what: str, detail: str, seconds: float = 0.0) -> None:
        self._waiting.on_wait(what, f"{self.name}: {detail}.", seconds)


def _check_numbers(settings: ModelSettings, waiting: Waiting) -> None:
    least = {
        "concurrency": 1,
        "requests_per_minute": 1,
        "tokens_per_minute": 1,
        "max_output_tokens": 1,
        "patience_s": 0,
        "max_retries": 0,
        "backoff_s": 0,
    }
    given = msgspec.structs.asdict(settings) | msgspec.structs.asdict(waiting)
    for name, at_least in least.items():
        if given[name] is not None and given[name] < at_least:
            raise UsageError(f"{name} of a model must be at least {at_least}, not {given[name]:g}.")
    if settings.timeout_s <= 0:
        raise UsageError(f"timeout_s of a model must be above 0, not {settings.timeout_s:g}.")


def _seed(exchange: _Exchange, first: int) -> int:
    text = f"{exchange.seed}|{exchange.occurrence + first}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) >> 1


def _first_only(completion: Completion) -> Completion:
    return msgspec.structs.replace(completion, texts=completion.texts[:1], cut=completion.cut[:1])


def _joined(parts: list[Completion], wanted: int, attempts: int) -> Answer:
    texts = [text for part in parts for text in part.texts][:wanted]
    cut = [cut for part in parts for cut in part.cut][:wanted]
    used = [part.usage for part in parts]
    return Answer(
        texts=tuple(texts),
        usage=Usage(
            prompt_tokens=sum(usage.prompt_tokens for usage in used),
            completion_tokens=sum(usage.completion_tokens for usage in used),
            cached_tokens=sum(usage.cached_tokens for usage in used),
            reasoning_tokens=sum(usage.reasoning_tokens for usage in used),
        ),
        truncated=tuple(index for index, is_cut in enumerate(cut) if is_cut),
        attempts=attempts,
    )
