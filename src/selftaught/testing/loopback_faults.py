"""The ways in which a LoopbackServer can go wrong on demand."""

import enum
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec


class Fault(enum.Enum):
    """What happens to one request in place of, or to, its answer."""

    RATE_LIMITED = "429 with a Retry-After header"
    SERVER_ERROR = "500"
    UNAVAILABLE = "503"
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
    """An error response of any kind, in OpenAI's form.

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


def as_http_error(fault: Fault, body: dict[str, Any], retry_after: str) -> HttpError | None:
    """Return the error response that a fault amounts to for a request, None if it is none."""
    if fault is Fault.RATE_LIMITED:
        return HttpError(status=429, message="Rate limit reached", retry_after=retry_after)
    if fault is Fault.SERVER_ERROR:
        return HttpError(status=500, message="Internal error")
    if fault is Fault.UNAVAILABLE:
        return HttpError(status=503, message="Overloaded")
    if fault is Fault.N_REJECTED and body.get("n", 1) > 1:
        return HttpError(status=400, message="n must be 1 for this model", param="n")
    if fault is Fault.TEMPERATURE_REJECTED and "temperature" in body:
        return HttpError(
            status=400,
            message="Unsupported value: 'temperature' must be left at its default",
            param="temperature",
        )
    return None


def completion_body(
    number: int, asked: dict[str, Any], texts: list[str], mishap: Mishap, huge_chars: int
) -> dict[str, Any]:
    """Return the body of an answer, spoilt by those faults that leave it well-formed.

    Tokens are counted as words.
    """
    cut = mishap is Fault.TRUNCATED_FENCE
    contents: list[str | None] = list(texts)
    if cut:
        contents = [text[: text.rfind("```")] if "```" in text else text for text in texts]
    elif mishap is Fault.HUGE:
        contents = [text + "x" * huge_chars for text in texts]
    elif mishap is Fault.NULL_CONTENT:
        contents = [None for _ in texts]
    prompt = sum(len(str(message["content"]).split()) for message in asked["messages"])
    written = sum(len((content or "").split()) for content in contents)
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": asked.get("model"),
        "choices": [
            {
                "index": place,
                "message": {"role": "assistant", "content": content},
                "finish_reason": "length" if cut else "stop",
            }
            for place, content in enumerate(contents)
        ],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
        },
    }
