"""What a language model is to this project: a Protocol, a request, an answer.

Nothing here is concrete. Providers live in `selftaught.models`, the mutation proposer, which is
not a language model, in `selftaught.mutation`.
"""

import hashlib
from typing import Literal, Protocol, runtime_checkable

import msgspec


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One call to a language model.

    Attributes:
        expertise: the system text, "You are an expert ...".
        message: the user text.
        n_responses: independent responses wanted, at least 1.
        temperature: sampling temperature, 0 to 2.
    """

    expertise: str
    message: str
    n_responses: int = 1
    temperature: float = 0.7

    @property
    def content_hash(self) -> str:
        """A hash of everything but the number of responses: what a recording is found by."""
        body = msgspec.json.encode([self.expertise, self.message, self.temperature])
        return hashlib.sha256(body).hexdigest()[:24]


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a run asks its model; the same for all its requests. None leaves it to the endpoint.

    Attributes:
        max_output_tokens: tokens of one response, at most; reasoning included.
        reasoning_effort: as the provider spells it, such as `low`.
        timeout_s: seconds that one request may take.
        concurrency: requests under way at once, at most.
        requests_per_minute, tokens_per_minute: what the endpoint allows.
        patience_s: seconds to wait for an endpoint that has answered before and then stops to.
        input_price, output_price: dollars for a million tokens, where the price table is wrong
            or silent.
    """

    max_output_tokens: int | None = None
    reasoning_effort: str | None = None
    timeout_s: float = 120.0
    concurrency: int = 8
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    patience_s: float = 1800.0
    input_price: float | None = None
    output_price: float | None = None


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer cost: tokens as the endpoint counted them, money where the price is known.

    Attributes:
        prompt_tokens: of all requests sent for it; `cached_tokens` of them were read from the
            provider's cache.
        completion_tokens: of all responses; `reasoning_tokens` of them are not in the texts.
        dollars: None where the price is not known.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    dollars: float | None = None


Source = Literal["live", "cache", "replay"]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The responses to one request, as many as were asked for, in order.

    Attributes:
        texts: one text per response.
        usage: the cost of all of them together.
        truncated: indices of responses that were cut at the output limit.
        model: who answered, where that is not the model that was asked: one of a mix.
        attempts: requests sent for it, repetitions included.
        source: `live` where the model was asked for it; `cache` or `replay` where it was recorded
            before, in which case `usage` tells what it cost then and nothing is paid now.
    """

    texts: tuple[str, ...]
    usage: Usage = Usage()
    truncated: tuple[int, ...] = ()
    model: str = ""
    attempts: int = 1
    source: Source = "live"


class ExchangeKey(msgspec.Struct, frozen=True, kw_only=True):
    """The name of one exchange, as models get it in `key`: `RUN/JOB/CONTENT/OCCURRENCE`.

    Attributes:
        run: the run's id.
        job: the improve job that asks; may hold slashes.
        content: the request's `content_hash`; of a run, a dot and the number of responses follow.
        occurrence: how many responses to this content the job has had before.
    """

    run: str
    job: str
    content: str
    occurrence: int

    def __str__(self) -> str:
        return f"{self.run}/{self.job}/{self.content}/{self.occurrence}"

    @staticmethod
    def parse(key: str) -> "ExchangeKey | None":
        """Take a key apart; None where it has another form."""
        run, _, rest = key.partition("/")
        parts = rest.rsplit("/", 2)
        if len(parts) != 3 or not parts[2].isdecimal():
            return None
        return ExchangeKey(run=run, job=parts[0], content=parts[1], occurrence=int(parts[2]))


@runtime_checkable
class LanguageModel(Protocol):
    """Answers requests.

    Thread safety: `respond` is called from many threads at once.
    Determinism: `seed` and `occurrence` are hints; an implementation that can repeat itself (the
    mutation proposer, a recording) must depend on nothing but them and the request.

    Attributes:
        name: as the user writes it after `--model`.
        is_language_model: False for the mutation proposer; the edge then says so.
    """

    name: str
    is_language_model: bool

    def respond(self, request: Request, *, seed: int, occurrence: int, key: str) -> Answer:
        """Return `request.n_responses` responses.

        Args:
            request: what is asked.
            seed: equal for improvers that are compared on the same task and repeat, so that equal
                prompts get equal answers (common random numbers).
            occurrence: how many responses to this very content the same improver has had before.
            key: a stable name of the exchange, fit as an idempotency key; a run's are those of
                `ExchangeKey`.

        Raises:
            ModelError: no answer is to be had, with what to do about it.
        """
        ...
