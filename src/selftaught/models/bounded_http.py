"""The HTTP client that all SDKs send through: answers bounded in size and time, failures ours.

An SDK fills its types with whatever a server sent and wraps failures in its own. Given this
client, it sees whole successful answers only; what goes wrong leaves as `PassingTrouble` or
`Refusal`, with no key in its words.
"""

import time
from typing import Any

import httpx2

from selftaught.models.failures import PassingTrouble, Target, cleaned, closed
from selftaught.models.http_status import status_trouble

CONNECT_S = 20.0
_CHECK_SERVER = "Check the address, and that the server is running."
_SLOW = "Allow more time, or fewer requests at once."


class BoundedClient(httpx2.Client):
    """Reads every answer to its end before it returns, or fails. Thread-safe.

    A server that sends nothing at all is given up after `timeout_s` twice over at the most, once
    for the first byte and once for a gap between two later ones.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        super().__init__(
            timeout=httpx2.Timeout(
                target.timeout_s, connect=min(CONNECT_S, target.timeout_s), pool=None
            ),
            limits=httpx2.Limits(
                max_connections=None, max_keepalive_connections=max(8, target.connections)
            ),
            follow_redirects=True,
        )

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request and return its successful answer, read.

        Raises:
            PassingTrouble: network, timeout, rate limit, server fault.
            Refusal: any other answer that is no success.
            ModelUnreachable: this client was closed.
        """
        if request.extensions.get("timeout", {}).get("read") is None:
            # Google's SDK asks for no limit where it was given none in its own way.
            request.extensions["timeout"] = self.timeout.as_dict()
        deadline = time.monotonic() + self._target.timeout_s
        try:
            response = super().send(request, **(options | {"stream": True}))
            try:
                raw = self._read(response, deadline)
            finally:
                response.close()
        except httpx2.ConnectTimeout as error:
            seconds = min(CONNECT_S, self._target.timeout_s)
            raise PassingTrouble(
                f"{self._target.url} did not accept a connection within {seconds:g} s",
                _CHECK_SERVER,
                may_be_billed=False,
            ) from error
        except httpx2.TimeoutException as error:
            raise PassingTrouble(
                f"{self._target.url} did not answer within {self._target.timeout_s:g} s", _SLOW
            ) from error
        except httpx2.RequestError as error:
            raise self._broken(error) from error
        except RuntimeError as error:
            # What a client says that was closed meanwhile.
            if not self.is_closed:
                raise
            raise closed(self._target.url) from error
        if not response.is_success:
            raise status_trouble(self._target, response.status_code, response.headers, raw)
        headers = [
            (name, value)
            for name, value in response.headers.items()
            if name not in ("content-encoding", "content-length", "transfer-encoding")
        ]
        return httpx2.Response(
            response.status_code, headers=headers, content=raw, request=response.request
        )

    def _read(self, response: httpx2.Response, deadline: float) -> bytes:
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > self._target.max_answer_bytes:
                raise PassingTrouble(
                    f"{self._target.url} sent more than {self._target.max_answer_bytes:,} bytes",
                    "Limit the output tokens.",
                )
            if time.monotonic() > deadline:
                raise PassingTrouble(
                    f"{self._target.url} had not finished its answer after "
                    f"{self._target.timeout_s:g} s",
                    _SLOW,
                )
        return bytes(body)

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
