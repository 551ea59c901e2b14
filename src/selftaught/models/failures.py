"""What can go wrong between here and an endpoint, in sentences that say what to do about it.

Two exceptions stay inside `selftaught.models`: `PassingTrouble`, which asking again may cure, and
`Refusal`, which it does not. Only their translations leave it, as ModelError.
"""

import re
from urllib.parse import urlsplit, urlunsplit

import msgspec

from selftaught.errors import (
    ModelError,
    ModelRefused,
    ModelUnreachable,
    RequestRejected,
    UsageError,
)

MAX_ANSWER_BYTES = 32 * 2**20

_SHOWN_CHARS = 300
_SHOWN_MODELS = 20
# Some servers echo the key that they reject, whole or with a part of it starred out.
_KEY_LIKE = re.compile(r"\b(?:(?:sk|xai)-|gsk_|AIza)[A-Za-z0-9_*.\-]{6,}")


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where an endpoint is, and how it is reached; made by `target`.

    Attributes:
        base_url: the address, which may hold credentials.
        url: the same without them, for messages.
        key: None where there is none.
        key_variable: where users set it.
        timeout_s: seconds from sending a request until its whole answer is here.
        max_answer_bytes: a longer body is not read.
        connections: kept open between requests.
    """

    base_url: str
    url: str
    key: str | None
    key_variable: str
    timeout_s: float
    max_answer_bytes: int
    connections: int


class PassingTrouble(Exception):
    """A request failed in a way that asking again may cure.

    Attributes:
        says: what happened, as a clause without a full stop.
        advice: what the user can do if it stays so.
        retry_after_s: seconds that the endpoint asked to wait, or None.
        is_overload: the endpoint is there but asked too much; fewer requests at once may do.
        may_be_billed: the request may have been computed; not so where it was refused.
    """

    def __init__(
        self,
        says: str,
        advice: str,
        retry_after_s: float | None = None,
        *,
        is_overload: bool = False,
        may_be_billed: bool = True,
    ) -> None:
        super().__init__(says)
        self.says = says
        self.advice = advice
        self.retry_after_s = retry_after_s
        self.is_overload = is_overload
        self.may_be_billed = may_be_billed


class Refusal(Exception):
    """The endpoint answered a request with a 4xx status that asking again does not cure.

    Attributes:
        status: the HTTP status.
        message: the endpoint's own words, cleaned.
        code, param: machine-readable fields in the manner of OpenAI, where given.
    """

    def __init__(
        self, status: int, message: str, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param


def cleaned(text: str, secret: str | None) -> str:
    """Return foreign text fit for a message: without keys and control characters, and short."""
    if secret:
        text = text.replace(secret, "[key]")
    text = _KEY_LIKE.sub("[key]", text)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + " [...]"


def shown_url(base_url: str) -> str:
    """Return the address of an endpoint without the credentials that it may carry.

    Raises:
        UsageError: it is no http or https address.
    """
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in ("http", "https"):
        raise UsageError(
            f"The base URL {cleaned(base_url.rpartition('@')[2], None)!r} is no address of a "
            "server: it must look like http://127.0.0.1:8000/v1."
        )
    place = f"[{host}]" if ":" in host else host
    if port is not None:
        place = f"{place}:{port}"
    return urlunsplit((parts.scheme, place, parts.path.rstrip("/"), "", ""))


def usable_key(key: str | None, variable: str) -> str | None:
    """Return a key without surrounding white space, None where there is none.

    Raises:
        ModelRefused: it holds characters that cannot be sent, with their place but not the key.
    """
    key = (key or "").strip()
    for place, character in enumerate(key):
        if not (character.isascii() and character.isprintable()) or character == " ":
            raise ModelRefused(
                f"The key in {variable} cannot be sent: its character {place + 1} is no "
                "letter, digit or sign that a key consists of. Copy it again."
            )
    return key or None


def target(
    base_url: str,
    key: str | None,
    *,
    key_variable: str,
    timeout_s: float,
    max_answer_bytes: int = MAX_ANSWER_BYTES,
    connections: int = 8,
    needs_key: bool = False,
) -> Target:
    """Return where an endpoint is.

    Args:
        needs_key: whether it is known to answer nobody without a key.

    Raises:
        UsageError: `base_url` is no address.
        ModelRefused: the key cannot be sent in a header, or is missing where it is needed.
    """
    url = shown_url(base_url)
    usable = usable_key(key, key_variable)
    if needs_key and usable is None:
        raise ModelRefused(
            f"Set {key_variable} to a key for {url}, or name another server by its base URL: "
            "a local one needs no key."
        )
    return Target(
        base_url=base_url,
        url=url,
        key=usable,
        key_variable=key_variable,
        timeout_s=timeout_s,
        max_answer_bytes=max_answer_bytes,
        connections=connections,
    )


def closed(url: str) -> ModelUnreachable:
    """The error for what is asked of a connection that was closed."""
    return ModelUnreachable(f"The connection to {url} was closed.")


def refused(
    refusal: Refusal,
    *,
    model: str,
    url: str,
    has_key: bool,
    key_variable: str,
    offered: list[str] | None,
) -> ModelError:
    """Translate a refusal; `offered` are the models that the endpoint lists, None if unknown."""
    status = refusal.status
    words = f": {refusal.message.rstrip('.')}." if refusal.message else "."
    if status == 401 and not has_key:
        return ModelRefused(f"{url} wants a key (401){words} Set {key_variable}.")
    if status == 401:
        return ModelRefused(f"{url} rejects the key (401){words} Check {key_variable}.")
    if status == 403:
        return ModelRefused(
            f"{url} forbids the request (403){words} The key may not be meant for {model!r}."
        )
    if status == 404 and offered is not None and model not in offered:
        return ModelRefused(
            f"{url} does not know the model {model!r} (404). It offers {_listed(offered)}."
        )
    if status == 404:
        return ModelRefused(
            f"{url} does not know the model {model!r} or the page (404){words} If the model is "
            "right, the address is not: those of OpenAI-compatible servers mostly end in /v1, and "
            "for anthropic/ and google/ the version is left out."
        )
    if status == 402 or refusal.code == "insufficient_quota":
        return ModelRefused(
            f"The account behind the key has nothing left to spend at {url} ({status}){words}"
        )
    if status in (400, 413, 422):
        return RequestRejected(f"{url} rejects the request to {model!r} ({status}){words}")
    return ModelRefused(f"{url} refuses to answer for {model!r} ({status}){words}")


def _listed(names: list[str]) -> str:
    if not names:
        return "no model at all"
    more = len(names) - _SHOWN_MODELS
    text = ", ".join(cleaned(name, None) for name in names[:_SHOWN_MODELS])
    return f"{text} and {more} more" if more > 0 else text
