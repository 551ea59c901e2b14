"""The HTTP client of all endpoints: answers bounded in size and time, failures ours.

It returns whole successful answers only; what goes wrong leaves as `PassingTrouble` or `Refusal`,
with no key in its words.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager

import httpx2

from selftaught.errors import UsageError
from selftaught.models.failures import PassingTrouble, Target, cleaned, closed
from selftaught.models.http_status import status_trouble
from selftaught.version import __version__

CONNECT_S = 20.0
_MAX_REDIRECTS = 20
_CHECK_SERVER = "Check the address, and that the server is running."
_SLOW = "Allow more time, or fewer requests at once."


class BoundedClient:
    """Reads every answer to its end before it returns, or fails. Thread-safe.

    A server that sends nothing at all is given up after `timeout_s` twice over at the most, once
    for the first byte and once for a gap between two later ones. One that sends the head of its
    answer byte by byte is not: there, the client beneath bounds each gap and not the whole.
    Proxies are those that the process's environment names, as in HTTPS_PROXY.

    Args:
        target: whom it asks.
        headers: sent with each request, but to no server that a redirect names: a key, an
            account, or whatever else the caller thought of is among them.

    Raises:
        UsageError: the address, or what the environment says of proxies and certificates, is of
            no use.
    """

    def __init__(self, target: Target, headers: Mapping[str, str]) -> None:
        self._target = target
        self._headers = tuple(headers)
        try:
            self._home = httpx2.URL(target.base_url)
            self._client = httpx2.Client(
                headers={
                    "User-Agent": f"selftaught/{__version__}",
                    "Accept": "application/json",
                    **headers,
                },
                limits=httpx2.Limits(
                    max_connections=None, max_keepalive_connections=max(8, target.connections)
                ),
            )
        except (httpx2.InvalidURL, ValueError, ImportError, OSError) as error:
            raise UsageError(
                f"No connection to {target.url} can be made ({cleaned(str(error), target.key)}). "
                "Check the address, and the variables HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, "
                "SSL_CERT_FILE and SSL_CERT_DIR."
            ) from error

    def close(self) -> None:
        """Close the connections; requests under way fail. Safe to call twice."""
        self._client.close()

    def send(
        self,
        method: str,
        url: str,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> bytes:
        """Send a request and return the body of its successful answer.

        Args:
            method, url, content, headers: of the request.
            timeout_s: until the whole answer is here; the target's where left out.

        Raises:
            PassingTrouble: network, timeout, rate limit, server fault.
            Refusal: any other answer that is no success.
            ModelUnreachable: this client was closed.
        """
        timeout_s = timeout_s or self._target.timeout_s
        connect_s = min(CONNECT_S, timeout_s)
        timeout = httpx2.Timeout(timeout_s, connect=connect_s, pool=None)
        deadline = time.monotonic() + timeout_s
        try:
            request = self._client.build_request(
                method, url, content=content, headers=headers, timeout=timeout
            )
            with self._answer(request, deadline, timeout_s) as response:
                raw = self._read(response, deadline, timeout_s)
        except httpx2.ConnectTimeout as error:
            raise PassingTrouble(
                f"{self._target.url} did not accept a connection within {connect_s:g} s",
                _CHECK_SERVER,
                may_be_billed=False,
            ) from error
        except httpx2.TimeoutException as error:
            raise PassingTrouble(
                f"{self._target.url} did not answer within {timeout_s:g} s", _SLOW
            ) from error
        except httpx2.RequestError as error:
            raise self._broken(error) from error
        except RuntimeError as error:
            # What a client says that was closed meanwhile.
            if not self._client.is_closed:
                raise
            raise closed(self._target.url) from error
        if not response.is_success:
            raise status_trouble(self._target, response.status_code, response.headers, raw)
        return raw

    @contextmanager
    def _answer(
        self, request: httpx2.Request, deadline: float, timeout_s: float
    ) -> Iterator[httpx2.Response]:
        """Follow redirects to the answer. Their bodies are not read: they may have no end."""
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._client.send(request, stream=True)
            with closing(response):
                if response.next_request is None:
                    yield response
                    return
            request = response.next_request
            self._keep_home(request)
            self._check(deadline, timeout_s)
        raise PassingTrouble(
            f"{self._target.url} led from one redirect to the next, {_MAX_REDIRECTS} times",
            "Check the address.",
        )

    def _keep_home(self, request: httpx2.Request) -> None:
        """Take what is for this server out of a request that another is to get."""
        there, home = request.url, self._home
        is_home = (there.host, there.port) == (home.host, home.port)
        if not is_home or there.scheme not in (home.scheme, "https"):
            for name in self._headers:
                request.headers.pop(name, None)

    def _read(self, response: httpx2.Response, deadline: float, timeout_s: float) -> bytes:
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > self._target.max_answer_bytes:
                raise PassingTrouble(
                    f"{self._target.url} sent more than {self._target.max_answer_bytes:,} bytes",
                    "Limit the output tokens.",
                )
            self._check(deadline, timeout_s)
        return bytes(body)

    def _check(self, deadline: float, timeout_s: float) -> None:
        if time.monotonic() > deadline:
            raise PassingTrouble(
                f"{self._target.url} had not finished its answer after {timeout_s:g} s", _SLOW
            )

    def _broken(self, error: httpx2.RequestError) -> PassingTrouble:
        words = cleaned(str(error), self._target.key) or type(error).__name__
        if isinstance(error, httpx2.ConnectError):
            return PassingTrouble(
                f"{self._target.url} cannot be reached ({words})",
                _CHECK_SERVER,
                may_be_billed=False,
            )
        return PassingTrouble(
            f"the connection to {self._target.url} broke ({words})", _CHECK_SERVER
        )
