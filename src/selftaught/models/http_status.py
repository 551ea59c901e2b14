"""What an HTTP answer that is no success means: its words, its codes, when to come back."""

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from selftaught.models.failures import PassingTrouble, Refusal, Target, cleaned

_PASSING = frozenset({408, 409, 429})
# Overload, as OpenAI, most servers and Anthropic call it.
_OVERLOAD = frozenset({429, 503, 529})
NO_CREDIT = "insufficient_quota"


def status_trouble(
    target: Target, status: int, headers: Mapping[str, str], raw: bytes
) -> PassingTrouble | Refusal:
    """Return what an answer with a status other than 2xx amounts to."""
    error = _error_object(raw)
    message = cleaned(_words(error, raw), target.key)
    code, param = _text(error, "code"), _text(error, "param")
    if "credit balance" in message:
        # Anthropic's 400 for an account that is empty.
        code = NO_CREDIT
    elif "API_KEY_INVALID" in str(error.get("details")):
        # Google's 400 for a wrong key.
        status = 401
    if code != NO_CREDIT and (status in _PASSING or status >= 500):
        words = f": {message.rstrip('.')}" if message else ""
        return PassingTrouble(
            f"{target.url} answered {status}{words}",
            "Ask for fewer at once." if status in _OVERLOAD else "Check the server's log.",
            _told_delay_s(error) if (told := retry_after_s(headers)) is None else told,
            is_overload=status in _OVERLOAD,
            may_be_billed=False,
        )
    return Refusal(status, message, code, param)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait that the headers of a response ask for, None without them.

    Understood are both forms of Retry-After in RFC 9110, section 10.2.3, and OpenAI's header in
    milliseconds, which is the more exact one.
    """
    millis = headers.get("retry-after-ms", "")
    value = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(millis) / 1000)
    except ValueError:
        pass
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, IndexError):
        return None


def _error_object(raw: bytes) -> dict[str, Any]:
    """The object that describes an error: at the top, under `error`, or in a list of one."""
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    inner = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(inner, dict):
        return inner
    return {"message": inner} if isinstance(inner, str) else {}


def _words(error: dict[str, Any], raw: bytes) -> str:
    for name in ("message", "detail"):
        if isinstance(error.get(name), str):
            return str(error[name])
    return raw[:2000].decode("utf-8", "replace")


def _text(error: dict[str, Any], name: str) -> str | None:
    return error[name] if isinstance(error.get(name), str) else None


def _told_delay_s(error: dict[str, Any]) -> float | None:
    """Google's RetryInfo: a detail such as {"retryDelay": "18.5s"}."""
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        try:
            return max(0.0, float(str(delay).removesuffix("s")))
        except ValueError:
            continue
    return None
