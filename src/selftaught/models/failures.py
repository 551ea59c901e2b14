"""What can go wrong between here and an endpoint, in sentences that say what to do about it.

Two exceptions stay inside `selftaught.models`: `PassingTrouble`, which asking again may cure, and
`Refusal`, which it does not. Only their translations leave it, as ModelError.
"""

import re
from urllib.parse import urlsplit, urlunsplit

from selftaught.errors import ModelError, ModelRefused, RequestRejected, UsageError

KEY_VARIABLE = "OPENAI_API_KEY"

_SHOWN_CHARS = 300
_SHOWN_MODELS = 20
# Some servers echo the key that they reject, whole or with a part of it starred out.
_KEY_LIKE = re.compile(r"\b(?:sk|gsk|xai)-[A-Za-z0-9_*.\-]{6,}")


class PassingTrouble(Exception):
    """A request failed in a way that asking again may cure.

    Attributes:
        says: what happened, as a clause without a full stop.
        advice: what the user can do if it stays so.
        retry_after_s: seconds that the endpoint asked to wait, or None.
        may_be_billed: the request may have been computed; not so where it was refused.
    """

    def __init__(
        self,
        says: str,
        advice: str,
        retry_after_s: float | None = None,
        *,
        may_be_billed: bool = True,
    ) -> None:
        super().__init__(says)
        self.says = says
        self.advice = advice
        self.retry_after_s = retry_after_s
        self.may_be_billed = may_be_billed


class Refusal(Exception):
    """The endpoint answered a request with a 4xx status that asking again does not cure.

    Attributes:
        status: the HTTP status.
        message: the endpoint's own words, cleaned.
        code, param: OpenAI's machine-readable fields, where given.
    """

    def __init__(self, status: int, message: str, code: str | None, param: str | None) -> None:
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


def usable_key(key: str | None) -> str | None:
    """Return a key without surrounding white space, None where there is none.

    Raises:
        ModelRefused: it holds characters that cannot be sent, with their place but not the key.
    """
    key = (key or "").strip()
    for place, character in enumerate(key):
        if not (character.isascii() and character.isprintable()) or character == " ":
            raise ModelRefused(
                f"The key in {KEY_VARIABLE} cannot be sent: its character {place + 1} is no "
                "letter, digit or sign that a key consists of. Copy it again."
            )
    return key or None


def no_key(url: str) -> ModelRefused:
    """The error for an endpoint that needs a key where none is set."""
    return ModelRefused(
        f"Set {KEY_VARIABLE} to a key for {url}, or name another server by its base URL: "
        "a local one needs no key."
    )


def refused(
    refusal: Refusal, *, model: str, url: str, has_key: bool, offered: list[str] | None
) -> ModelError:
    """Translate a refusal; `offered` are the models that the endpoint lists, None if unknown."""
    status = refusal.status
    words = f": {refusal.message.rstrip('.')}." if refusal.message else "."
    if status == 401 and not has_key:
        return ModelRefused(f"{url} wants a key (401){words} Set {KEY_VARIABLE}.")
    if status == 401:
        return ModelRefused(f"{url} rejects the key (401){words} Check {KEY_VARIABLE}.")
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
            "right, the address is not: most end in /v1."
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
