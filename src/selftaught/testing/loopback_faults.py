"""The ways in which a LoopbackServer can go wrong on demand."""

import enum
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from selftaught.language_model import Request


class Fault(enum.Enum):
    """What happens to one request in place of, or to, its answer."""

    RATE_LIMITED = "429 with a Retry-After header"
    SERVER_ERROR = "500"
    UNAVAILABLE = "503"
    OVERLOADED = "529"
    WRONG_MODEL = "404: the model is not known"
    RESET = "the connection is reset without an answer"
    CUT_BODY = "the connection closes in the middle of the body"
    BAD_JSON = "a complete body that is no JSON"
    EMPTY_BODY = "200 with no body"
    NULL_CONTENT = "every choice has null for its content"
    NO_CHOICES = "a JSON object without choices"
    STALL = "nothing is sent for `stall_s`, then the connection closes"
    SLOW_DRIP = "the answer comes one byte every `drip_s`"
    TRUNCATED_FENCE = "every text ends before its last fence, marked as cut at the output limit"
    HUGE = "every text is followed by `huge_chars` characters"
    N_REJECTED = "400 if more than one response is asked for, else answered"
    TEMPERATURE_REJECTED = "400 if a temperature is given, else answered"


class HttpError(msgspec.Struct, frozen=True, kw_only=True):
    """An error response of any kind, sent in the form of the server's protocol.

    Attributes:
        status: the HTTP status.
        message, code, param: the fields of the error object.
        retry_after: the value of a Retry-After header, if one is sent.
    """

    status: int
    message: str = "An error that was asked for"
    code: str | None = None
    param: str | None = None
    retry_after: str | None = None


Mishap = Fault | HttpError | None
FaultPlan = Iterable[Mishap] | Callable[[int, dict[str, Any]], Mishap]


# Those that asking again cures, and that take no time to notice.
PASSING = (
    Fault.RATE_LIMITED,
    Fault.SERVER_ERROR,
    Fault.UNAVAILABLE,
    Fault.OVERLOADED,
    Fault.RESET,
    Fault.CUT_BODY,
    Fault.BAD_JSON,
    Fault.EMPTY_BODY,
    Fault.NO_CHOICES,
)


def mixed_faults(
    share: float, *, seed: int, kinds: Sequence[Fault] = PASSING
) -> Callable[[int, dict[str, Any]], Mishap]:
    """Return a plan in which a share of the requests meets a fault of a random kind.

    A request's fate follows from the seed and its number alone.
    """

    def plan(number: int, body: dict[str, Any]) -> Mishap:
        luck = random.Random(f"{seed}|{number}")
        return luck.choice(kinds) if luck.random() < share else None

    return plan


def as_http_error(
    fault: Fault, asked: Request, sampling: dict[str, Any], retry_after: str
) -> HttpError | None:
    """Return the error response that a fault amounts to for a request, None if it is none."""
    if fault is Fault.RATE_LIMITED:
        return HttpError(status=429, message="Rate limit reached", retry_after=retry_after)
    if fault is Fault.SERVER_ERROR:
        return HttpError(status=500, message="Internal error")
    if fault in (Fault.UNAVAILABLE, Fault.OVERLOADED):
        return HttpError(status=int(fault.value), message="Overloaded")
    if fault is Fault.WRONG_MODEL:
        return HttpError(status=404, message="The model does not exist", code="model_not_found")
    if fault is Fault.N_REJECTED and asked.n_responses > 1:
        return HttpError(status=400, message="n must be 1 for this model", param="n")
    if fault is Fault.TEMPERATURE_REJECTED and "temperature" in sampling:
        return HttpError(
            status=400,
            message="Unsupported value: 'temperature' must be left at its default",
            param="temperature",
        )
    return None


def spoilt(texts: list[str], mishap: Mishap, huge_chars: int) -> list[str | None]:
    """Return the texts of an answer, spoilt by those faults that leave it well-formed."""
    if mishap is Fault.TRUNCATED_FENCE:
        return [text[: text.rfind("```")] if "```" in text else text for text in texts]
    if mishap is Fault.HUGE:
        return [text + "x" * huge_chars for text in texts]
    if mishap is Fault.NULL_CONTENT:
        return [None for _ in texts]
    return list(texts)
