"""What the endpoints of all providers share: an SDK's client, made late, and checked answers."""

import importlib.util
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast
from urllib.parse import quote

import msgspec

from selftaught.errors import ModelError, ModelUnreachable, UsageError
from selftaught.models.failures import PassingTrouble, Refusal, Target, cleaned, closed

if TYPE_CHECKING:
    from selftaught.models.bounded_http import BoundedClient

NO_KEY = "no-key-needed"
LIST_S = 10.0

_Client = TypeVar("_Client")
_Body = TypeVar("_Body")


class _Listed(msgspec.Struct):
    id: str


class _ModelList(msgspec.Struct):
    data: list[_Listed]


class SdkEndpoint(ABC, Generic[_Client]):
    """The part of an `Endpoint` that is the same for all SDKs. Thread-safe.

    Args:
        model: the model's name as the endpoint knows it.
        target: where it is, and with what key.
    """

    def __init__(self, model: str, target: Target) -> None:
        self.model = model
        self.url = target.url
        self.has_key = target.key is not None
        self.key_variable = target.key_variable
        self.target = target
        self._http: BoundedClient | None = None
        self._made: _Client | None = None
        self._closed = False
        self._lock = threading.Lock()

    @abstractmethod
    def make_client(self, http: "BoundedClient") -> _Client:
        """Return the SDK's client, which sends through `http` and repeats nothing."""

    def client(self) -> _Client:
        """Return the SDK's client; the first call imports the SDK.

        Raises:
            ModelUnreachable: the endpoint was closed.
        """
        with self._lock:
            if self._closed:
                raise closed(self.url)
            if self._made is None:
                # Late: an SDK takes most of a second, which `--help` need not wait for.
                from selftaught.models.bounded_http import BoundedClient

                self._http = BoundedClient(self.target)
                self._made = self.make_client(self._http)
            return self._made

    def prepare(self) -> None:
        """Import the SDK now. A first request that comes before the end waits for it."""
        with suppress(ModelUnreachable):
            self.client()

    def close(self) -> None:
        """Close the connections; requests under way fail. Safe to call twice."""
        with self._lock:
            self._closed = True
            http, self._http, self._made = self._http, None, None
        if http is not None:
            http.close()

    def post(self, path: str, body: dict[str, Any], key: str) -> bytes:
        """Send one request by a client of the kind that OpenAI and Anthropic both generate."""
        import httpx2

        with _own_troubles():
            answer: httpx2.Response = cast("Any", self.client()).post(
                path, body=body, cast_to=httpx2.Response, options={"headers": key_header(key)}
            )
        return answer.content

    def listed(self, path: str) -> list[str] | None:
        """Return the ids in a list of models by the same kind of client, None without one."""
        import httpx2

        try:
            with _own_troubles():
                answer: httpx2.Response = cast("Any", self.client()).get(
                    path, cast_to=httpx2.Response, options={"timeout": LIST_S}
                )
            return [one.id for one in msgspec.json.decode(answer.content, type=_ModelList).data]
        except (PassingTrouble, Refusal, msgspec.DecodeError, UnicodeDecodeError):
            return None

    def decoded(self, raw: bytes, shape: type[_Body], what: str) -> _Body:
        """Return the body of an answer, or raise PassingTrouble that says how it begins."""
        try:
            return msgspec.json.decode(raw, type=shape)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            start = cleaned(raw[:200].decode("utf-8", "replace"), self.target.key)
            raise PassingTrouble(
                f"{self.url} answered with what is no {what} ({error}); it begins {start!r}",
                f"Check that the address is that of a server that sends a {what}.",
            ) from error


@contextmanager
def _own_troubles() -> Iterator[None]:
    """Raise what our client raised, also out of an SDK's wrapping, whose words may hold a key."""
    try:
        yield
    except BaseException as error:
        if isinstance(error.__cause__, (PassingTrouble, Refusal, ModelError)):
            raise error.__cause__ from None
        raise


def key_header(key: str) -> dict[str, str]:
    """Return the header that is equal for repetitions of a request.

    Header values are ASCII; what is quoted stays readable and unique.
    """
    return {"Idempotency-Key": quote(key, safe="/|:#=,;@ +").strip()}


def need_extra(module: str, extra: str, name: str) -> None:
    """Raise UsageError, with what to install, where a provider's SDK is missing."""
    try:
        found = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise UsageError(
            f"{name!r} needs a package that is not installed: pip install 'selftaught[{extra}]'"
        )
