"""What the endpoints of all providers share: addresses, keys, one exchange, checked answers."""

import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec

from selftaught.errors import SelftaughtError
from selftaught.models.failures import PassingTrouble, Refusal, Target, cleaned, closed

if TYPE_CHECKING:
    from selftaught.models.bounded_http import BoundedClient

LIST_S = 10.0

_Body = TypeVar("_Body")


class _Listed(msgspec.Struct):
    id: str


class ModelList(msgspec.Struct):
    """A list of models, as OpenAI and Anthropic send it."""

    data: list[_Listed]


# Decoders are made when a module is loaded: msgspec crashes the process where two threads are the
# first to need the same type (seen with 0.22.0).
MODEL_LISTS = msgspec.json.Decoder(ModelList)


class HttpEndpoint:
    """The part of an `Endpoint` that is the same for all protocols. Thread-safe.

    Args:
        model: the model's name as the endpoint knows it.
        target: where it is, and with what key.
        headers: sent with each request.
    """

    # The header that carries the key, and what stands before it there.
    key_header = "Authorization"
    key_prefix = "Bearer "

    def __init__(
        self, model: str, target: Target, headers: Mapping[str, str] | None = None
    ) -> None:
        self.model = model
        self.url = target.url
        self.has_key = target.key is not None
        self.key_variable = target.key_variable
        self.target = target
        self._headers = dict(headers or {})
        if target.key is not None:
            self._headers[self.key_header] = f"{self.key_prefix}{target.key}"
        self._http: BoundedClient | None = None
        self._closed = False
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Load the HTTP client now. A first request that comes before the end waits for it."""
        with suppress(SelftaughtError):
            self._client()

    def close(self) -> None:
        """Close the connections; requests under way fail. Safe to call twice."""
        with self._lock:
            self._closed = True
            http, self._http = self._http, None
        if http is not None:
            http.close()

    def post(self, path: str, body: dict[str, Any], key: str) -> bytes:
        """Send one request and return the body of its successful answer.

        Raises:
            PassingTrouble, Refusal: see `BoundedClient.send`.
            ModelUnreachable: the endpoint was closed.
        """
        headers = {"Content-Type": "application/json", "Idempotency-Key": header_value(key)}
        return self._client().send(
            "POST", address(self.target.base_url, path), msgspec.json.encode(body), headers
        )

    def listed(self, path: str, shape: msgspec.json.Decoder[_Body]) -> _Body | None:
        """Return the list of models that the endpoint keeps at a path, None without one."""
        try:
            raw = self._client().send("GET", address(self.target.base_url, path), timeout_s=LIST_S)
            return shape.decode(raw)
        except (PassingTrouble, Refusal, msgspec.DecodeError, UnicodeDecodeError):
            return None

    def decoded(self, raw: bytes, shape: msgspec.json.Decoder[_Body], what: str) -> _Body:
        """Return the body of an answer, or raise PassingTrouble that says how it begins."""
        try:
            return shape.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            # Far more than is shown, or a key that the cut goes through would not be found.
            start = cleaned(raw[:2000].decode("utf-8", "replace"), self.target.key)
            raise PassingTrouble(
                f"{self.url} answered with what is no {what} ({error}); it begins {start!r}",
                f"Check that the address is that of a server that sends a {what}.",
            ) from error

    def _client(self) -> "BoundedClient":
        with self._lock:
            if self._closed:
                raise closed(self.url)
            if self._http is None:
                # Late: it takes a fifth of a second, which `--help` need not wait for.
                from selftaught.models.bounded_http import BoundedClient

                self._http = BoundedClient(self.target, self._headers)
            return self._http


def address(base_url: str, path: str) -> str:
    """Return the address of a path below a base URL, whose query it keeps."""
    parts = urlsplit(base_url)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + path, fragment=""))


def header_value(text: str) -> str:
    """Return any text as the value of a header.

    Header values are ASCII; what is quoted stays readable and unique.
    """
    return quote(text, safe="/|:#=,;@ +").strip()
