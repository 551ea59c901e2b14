"""One endpoint that speaks OpenAI's chat completions, asked once at a time and never retried.

The SDK builds and sends the request; the body that comes back is bounded in size and time here
and checked here, because the SDK fills its types with whatever a server sent.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from selftaught.errors import ModelUnreachable
from selftaught.models.failures import PassingTrouble, Refusal, cleaned, shown_url, usable_key

if TYPE_CHECKING:
    import openai

_NO_KEY = "no-key-needed"
_CONNECT_S = 20.0
_LIST_S = 10.0
_PASSING_STATUS = frozenset({408, 409, 429})
_CHECK_SERVER = "Check the address, and that the server is running."
_SLOW = "Allow more time, or fewer requests at once."


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """What one request brought: at least one text.

    Attributes:
        texts: the choices in order.
        cut: for each text whether the endpoint stopped it at its output limit.
        prompt_tokens, completion_tokens: as the endpoint counted them; 0 where it does not.
    """

    texts: tuple[str, ...]
    cut: tuple[bool, ...]
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Part(msgspec.Struct):
    text: str = ""


class _Message(msgspec.Struct):
    content: str | list[_Part] | None = None


class _Choice(msgspec.Struct):
    message: _Message
    index: int | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Body(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


class _Listed(msgspec.Struct):
    id: str


class _ModelList(msgspec.Struct):
    data: list[_Listed]


class ChatEndpoint:
    """Sends one chat completion at a time to a server. Thread-safe.

    Args:
        base_url: the address up to and without `/chat/completions`.
        api_key: the key; None sends a placeholder, as servers that need no key expect.
        timeout_s: seconds from sending a request until its whole answer is here. A server that
            sends nothing at all is given up after this time twice over at the most, once for
            the first byte and once for a gap between two later ones.
        max_answer_bytes: a longer body is not read.

    Attributes:
        url: the address without any credentials in it, for messages.
        has_key: whether a key was given.

    Raises:
        UsageError: `base_url` is no address.
        ModelRefused: the key cannot be sent in a header.
    """

    def __init__(
        self, base_url: str, api_key: str | None, *, timeout_s: float, max_answer_bytes: int
    ) -> None:
        self.url = shown_url(base_url)
        self._base_url = base_url
        self._key = usable_key(api_key)
        self.has_key = self._key is not None
        self._timeout_s = timeout_s
        self._max_answer_bytes = max_answer_bytes
        self._client: openai.OpenAI | None = None
        self._closed = False
        self._lock = threading.Lock()

    def complete(self, body: dict[str, Any], idempotency_key: str) -> Completion:
        """Send one request and return what came back.

        Args:
            body: the parameters of a chat completion.
            idempotency_key: equal for repetitions of the same request; any text.

        Raises:
            PassingTrouble: network, timeout, rate limit, server fault, or an unusable body.
            Refusal: any other 4xx status.
            ModelUnreachable: the endpoint was closed.
        """
        client = self._connected()
        import httpx2
        import openai

        # Header values are ASCII; what is quoted stays readable and unique.
        headers = {"Idempotency-Key": quote(idempotency_key, safe="/|:#=,;@ +").strip()}
        deadline = time.monotonic() + self._timeout_s
        try:
            with client.chat.completions.with_streaming_response.create(
                **body, extra_headers=headers
            ) as response:
                raw = self._read(response.iter_bytes(), deadline)
        except (openai.APITimeoutError, httpx2.TimeoutException) as error:
            raise self._too_slow(error) from error
        except openai.APIStatusError as error:
            # Not chained: the SDK's words may hold the key.
            raise self._status_trouble(error) from None
        except (openai.APIConnectionError, httpx2.RequestError) as error:
            raise self._broken(error) from error
        except RuntimeError as error:
            # What a client says that was closed between the first line and this one.
            if not self._closed:
                raise
            raise self._was_closed() from error
        return self._parsed(raw)

    def model_names(self) -> list[str] | None:
        """Return the names of the models that the endpoint lists, None where it lists none."""
        client = self._connected()
        import openai

        try:
            response = client.models.with_raw_response.list(timeout=_LIST_S)
            listed = msgspec.json.decode(response.content, type=_ModelList)
        except (openai.OpenAIError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        return [model.id for model in listed.data]

    def close(self) -> None:
        """Close the connections; requests under way fail. Safe to call twice."""
        with self._lock:
            self._closed = True
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _connected(self) -> "openai.OpenAI":
        with self._lock:
            if self._closed:
                raise self._was_closed()
            if self._client is None:
                # Imported late: the SDK takes most of a second, which `--help` need not wait for.
                import openai

                connect_s = min(_CONNECT_S, self._timeout_s)
                self._client = openai.OpenAI(
                    api_key=self._key or _NO_KEY,
                    base_url=self._base_url,
                    timeout=openai.Timeout(self._timeout_s, connect=connect_s),
                    max_retries=0,
                )
            return self._client

    def _was_closed(self) -> ModelUnreachable:
        return ModelUnreachable(f"The connection to {self.url} was closed.")

    def _read(self, chunks: Iterator[bytes], deadline: float) -> bytes:
        body = bytearray()
        for chunk in chunks:
            body += chunk
            if len(body) > self._max_answer_bytes:
                raise PassingTrouble(
                    f"{self.url} sent more than {self._max_answer_bytes:,} bytes",
                    "Limit the output tokens.",
                )
            if time.monotonic() > deadline:
                raise PassingTrouble(
                    f"{self.url} had not finished its answer after {self._timeout_s:g} s", _SLOW
                )
        return bytes(body)

    def _parsed(self, raw: bytes) -> Completion:
        try:
            body = msgspec.json.decode(raw, type=_Body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            start = cleaned(raw[:200].decode("utf-8", "replace"), self._key)
            raise PassingTrouble(
                f"{self.url} answered with what is no chat completion ({error}); it begins "
                f"{start!r}",
                "Check that the address is that of an OpenAI-compatible server.",
            ) from error
        if not body.choices:
            raise PassingTrouble(
                f"{self.url} answered without a single choice", "Check the server's log."
            )
        choices = sorted(body.choices, key=lambda choice: choice.index or 0)
        usage = body.usage or _Usage()
        return Completion(
            texts=tuple(_text(choice.message) for choice in choices),
            cut=tuple(choice.finish_reason == "length" for choice in choices),
            prompt_tokens=max(0, usage.prompt_tokens or 0),
            completion_tokens=max(0, usage.completion_tokens or 0),
        )

    def _too_slow(self, error: Exception) -> PassingTrouble:
        import httpx2

        if isinstance(error, httpx2.ConnectTimeout) or isinstance(
            error.__cause__, httpx2.ConnectTimeout
        ):
            seconds = min(_CONNECT_S, self._timeout_s)
            return PassingTrouble(
                f"{self.url} did not accept a connection within {seconds:g} s",
                _CHECK_SERVER,
                may_be_billed=False,
            )
        return PassingTrouble(f"{self.url} did not answer within {self._timeout_s:g} s", _SLOW)

    def _broken(self, error: Exception) -> PassingTrouble:
        import httpx2

        cause = error.__cause__ or error
        words = cleaned(str(cause), self._key) or type(cause).__name__
        if isinstance(cause, httpx2.ConnectError):
            return PassingTrouble(
                f"{self.url} cannot be reached ({words})", _CHECK_SERVER, may_be_billed=False
            )
        return PassingTrouble(f"the connection to {self.url} broke ({words})", _CHECK_SERVER)

    def _status_trouble(self, error: "openai.APIStatusError") -> PassingTrouble | Refusal:
        status = error.status_code
        message = cleaned(_server_words(error.body), self._key)
        if error.code != "insufficient_quota" and (status in _PASSING_STATUS or status >= 500):
            words = f": {message.rstrip('.')}" if message else ""
            advice = "Ask for fewer at once." if status == 429 else "Check the server's log."
            return PassingTrouble(
                f"{self.url} answered {status}{words}",
                advice,
                retry_after_s(error.response.headers),
                may_be_billed=False,
            )
        return Refusal(status, message, error.code, error.param)


def _text(message: _Message) -> str:
    if isinstance(message.content, list):
        return "".join(part.text for part in message.content)
    return message.content or ""


def _server_words(body: object) -> str:
    """The message in an error body: OpenAI sends an object, some servers a bare string."""
    if isinstance(body, dict):
        for name in ("message", "detail", "error"):
            if isinstance(body.get(name), str):
                return str(body[name])
    return "" if body is None else str(body)


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
