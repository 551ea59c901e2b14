"""A server on 127.0.0.1 that answers as hosted models do and can fail on demand.

It speaks OpenAI's chat completions, Anthropic's messages or Google's generateContent.
"""

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler
from typing import Any

import msgspec

from selftaught.language_model import Request
from selftaught.testing.loopback_connections import TrackingServer
from selftaught.testing.loopback_dialects import OPENAI, Dialect
from selftaught.testing.loopback_faults import (
    Fault,
    FaultPlan,
    HttpError,
    Mishap,
    as_http_error,
    spoilt,
)

_PART = re.compile(r"(.*)/(\d+)", re.DOTALL)


class ReceivedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request to the model, as it arrived.

    Attributes:
        number: counts such requests from 1.
        received_at: seconds since the epoch.
        body: the parameters.
        headers: by lower-case name.
        idempotency_key: the header of that name; empty where there is none.
        answered: whether choices were sent for it; not so where the client had gone by then.
        status: the HTTP status that was sent; 0 while none was.
        model: whom it asks.
        dialect: the protocol.
    """

    number: int
    received_at: float
    body: dict[str, Any]
    headers: dict[str, str]
    idempotency_key: str
    answered: bool = False
    status: int = 0
    model: str = ""
    dialect: Dialect = OPENAI

    @property
    def asked(self) -> Request:
        """What is asked, whatever the protocol."""
        return self.dialect.asked(self.body)

    @property
    def exchange(self) -> str:
        """The idempotency key without the index of a part: `a/b` of `a/b/3`."""
        part = _PART.fullmatch(self.idempotency_key)
        return part.group(1) if part else self.idempotency_key

    @property
    def first_index(self) -> int:
        """The index of the first response that is asked for: 3 of the key `a/b/3`, else 0."""
        part = _PART.fullmatch(self.idempotency_key)
        return int(part.group(2)) if part else 0


Answering = Callable[[ReceivedRequest, int], str]


def echo(received: ReceivedRequest, index: int) -> str:
    """Answer with the text of the last message."""
    return received.asked.message


class LoopbackServer:
    """Answers requests to a model, and lists models, on a port of the system's choice.

    Use it as a context manager; leaving it ends every connection.

    Args:
        answer: the text of one response, from the request and the index of the response within
            its exchange; called from several threads.
        honours_n: whether one request may bring several choices; else it brings one.
        latency_s: seconds before each answer.
        require_key: the only key that is let in; None lets everybody in. Others get a 401 that
            repeats their key, as some servers do.
        models: the names served, which are then listed; None serves any and lists none.
        faults: what goes wrong: one item per request in order of arrival, after which nothing
            does, or a function of the request's number (from 1) and body.
        retry_after: the header's value in Fault.RATE_LIMITED.
        stall_s, drip_s, huge_chars: see Fault.
        on_request: called with each request before anything else; True drops it unanswered.
        on_answer: called with each request just before its answer is sent, by one thread at a
            time.
        dialect: the protocol to speak.
        port: 0 leaves the choice to the system.

    Attributes:
        url: the base URL, as clients of the protocol want it; for OpenAI's with `/v1`.
        port: the port that it listens on.
    """

    def __init__(
        self,
        answer: Answering = echo,
        *,
        honours_n: bool = True,
        latency_s: float = 0.0,
        require_key: str | None = None,
        models: Sequence[str] | None = None,
        faults: FaultPlan = (),
        retry_after: str = "1",
        stall_s: float = 60.0,
        drip_s: float = 0.05,
        huge_chars: int = 5_000_000,
        on_request: Callable[[ReceivedRequest], bool] = lambda received: False,
        on_answer: Callable[[ReceivedRequest], None] = lambda received: None,
        dialect: Dialect = OPENAI,
        port: int = 0,
    ) -> None:
        self.dialect = dialect
        self.answer = answer
        self.honours_n = honours_n
        self.latency_s = latency_s
        self.require_key = require_key
        self.models = models
        self.retry_after = retry_after
        self.stall_s = stall_s
        self.drip_s = drip_s
        self.huge_chars = huge_chars
        self.on_request = on_request
        self._on_answer = on_answer
        self._fault_function = faults if callable(faults) else None
        self._fault_items = iter(()) if callable(faults) else iter(faults)
        self._log: list[ReceivedRequest] = []
        self._in_flight: set[int] = set()
        self._peak = 0
        self._frozen = False
        self._doomed: set[int] = set()
        self._lock = threading.Lock()
        self._answer_lock = threading.Lock()
        self._closing = threading.Event()
        self._server = TrackingServer(("127.0.0.1", port), _Handler, self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}{dialect.base_path}"

    def __enter__(self) -> "LoopbackServer":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.end_connections()
        self._server.server_close()

    @property
    def log(self) -> tuple[ReceivedRequest, ...]:
        """The requests to the model so far, in order of arrival; safe at any time."""
        with self._lock:
            return tuple(self._log)

    @property
    def peak_in_flight(self) -> int:
        """The most requests that were being worked on at the same time."""
        with self._lock:
            return self._peak

    def wait(self, seconds: float) -> bool:
        """Wait, but no longer than the server lives; return whether it has ended."""
        return self._closing.wait(seconds)

    def begin(
        self, path: str, body: dict[str, Any], headers: dict[str, str]
    ) -> tuple[ReceivedRequest, Mishap]:
        """Log a request and decide what goes wrong with it."""
        with self._lock:
            received = ReceivedRequest(
                number=len(self._log) + 1,
                received_at=time.time(),
                body=body,
                headers=headers,
                idempotency_key=headers.get("idempotency-key", ""),
                model=self.dialect.model(path, body),
                dialect=self.dialect,
            )
            self._log.append(received)
            self._in_flight.add(received.number)
            if self._frozen:
                self._doomed.add(received.number)
            self._peak = max(self._peak, len(self._in_flight))
            if self._fault_function is not None:
                return received, self._fault_function(received.number, body)
            return received, next(self._fault_items, None)

    def freeze(self) -> None:
        """Answer nothing that is under way or comes in, until `thaw`: it is dropped."""
        with self._lock:
            self._frozen = True
            self._doomed |= self._in_flight

    def thaw(self) -> None:
        """Answer again what comes in from now on."""
        with self._lock:
            self._frozen = False

    def settle(self, received: ReceivedRequest, *, status: int, answered: bool = False) -> bool:
        """Log what is about to be sent, so that nobody has an answer that is not yet logged.

        Returns whether it may be sent: a request that was under way at `freeze` may not.
        """
        with self._lock:
            if received.number in self._doomed:
                return False
            done = msgspec.structs.replace(received, status=status, answered=answered)
            self._log[received.number - 1] = done
            self._in_flight.discard(received.number)
        if answered:
            with self._answer_lock:
                self._on_answer(done)
        return True

    def drop(self, received: ReceivedRequest) -> None:
        """A request gets no answer, or has had it."""
        with self._lock:
            self._in_flight.discard(received.number)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # One packet per answer: two small ones would meet delayed acknowledgement, 40 ms each time.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: TrackingServer

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is inherited
        """Say nothing: the log is `LoopbackServer.log`."""

    def do_GET(self) -> None:
        """List the models."""
        owner: LoopbackServer = self.server.owner
        path = self.path.partition("?")[0].rstrip("/")
        if path == owner.dialect.list_path and owner.models is not None:
            self._send(200, owner.dialect.listed(list(owner.models)))
        else:
            self._send_error(HttpError(status=404, message=f"No such page: {self.path}"))

    def do_POST(self) -> None:
        """Answer a request to the model, or fail as planned."""
        raw = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        owner: LoopbackServer = self.server.owner
        if not owner.dialect.is_ask(self.path):
            self._send_error(HttpError(status=404, message=f"No such page: {self.path}"))
            return
        try:
            body = json.loads(raw)
        except ValueError:
            self._send_error(HttpError(status=400, message="The body is no JSON"))
            return
        received, mishap = owner.begin(
            self.path, body, {k.lower(): v for k, v in self.headers.items()}
        )
        try:
            if owner.on_request(received):
                self.close_connection = True
            else:
                self._serve(received, mishap)
        finally:
            owner.drop(received)

    def _serve(self, received: ReceivedRequest, mishap: Mishap) -> None:
        owner: LoopbackServer = self.server.owner
        error = self._not_let_in(received)
        if error is None and isinstance(mishap, HttpError):
            error = mishap
        elif error is None and isinstance(mishap, Fault):
            sampling = owner.dialect.sampling(received.body)
            error = as_http_error(mishap, received.asked, sampling, owner.retry_after)
        owner.wait(owner.latency_s)
        if error is not None:
            owner.settle(received, status=error.status)
            self._send_error(error)
        elif mishap is Fault.RESET:
            self.server.reset(self.connection)
            self.close_connection = True
        elif mishap is Fault.STALL:
            owner.wait(owner.stall_s)
            self.close_connection = True
        elif mishap in (Fault.BAD_JSON, Fault.EMPTY_BODY, Fault.NO_CHOICES):
            without = owner.dialect.without_choices
            raw = {Fault.BAD_JSON: without[: len(without) // 2], Fault.NO_CHOICES: without}
            owner.settle(received, status=200)
            self._send_raw(200, raw.get(mishap, b""))
        else:
            self._answer(received, mishap)

    def _not_let_in(self, received: ReceivedRequest) -> HttpError | None:
        owner: LoopbackServer = self.server.owner
        key = owner.dialect.key(received.headers)
        if owner.require_key is not None and key != owner.require_key:
            return HttpError(
                status=401, message=f"Incorrect API key provided: {key}", code="invalid_api_key"
            )
        if owner.models is not None and received.model not in owner.models:
            return HttpError(
                status=404,
                message=f"The model {received.model!r} does not exist",
                code="model_not_found",
            )
        return None

    def _answer(self, received: ReceivedRequest, mishap: Mishap) -> None:
        owner: LoopbackServer = self.server.owner
        asked = received.asked
        n = asked.n_responses if owner.honours_n else 1
        texts = [owner.answer(received, received.first_index + place) for place in range(n)]
        body = owner.dialect.answer(
            received.number,
            received.model,
            spoilt(texts, mishap, owner.huge_chars),
            cut=mishap is Fault.TRUNCATED_FENCE,
            prompt_tokens=len(f"{asked.expertise} {asked.message}".split()),
        )
        raw = json.dumps(body).encode()
        if self._client_is_gone():
            self.close_connection = True
            return
        if not owner.settle(received, status=200, answered=mishap is not Fault.CUT_BODY):
            self.close_connection = True
            return
        if mishap is Fault.CUT_BODY:
            self._send_raw(200, raw[: len(raw) // 2], announced=len(raw))
            self.close_connection = True
        elif mishap is Fault.SLOW_DRIP:
            self._drip(raw)
        else:
            self._send_raw(200, raw)

    def _client_is_gone(self) -> bool:
        """Whether the client has closed the connection: it was killed, or waits no longer."""
        try:
            waiting: bytes = self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return not waiting

    def _drip(self, raw: bytes) -> None:
        self._send_raw(200, b"", announced=len(raw))
        for place in range(len(raw)):
            self.wfile.write(raw[place : place + 1])
            self.wfile.flush()
            if self.server.owner.wait(self.server.owner.drip_s):
                break
        self.close_connection = True

    def _send_error(self, error: HttpError) -> None:
        headers = {} if error.retry_after is None else {"Retry-After": error.retry_after}
        self._send(error.status, self.server.owner.dialect.error(error), headers)

    def _send(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        self._send_raw(status, json.dumps(body).encode(), headers)

    def _send_raw(
        self,
        status: int,
        raw: bytes,
        headers: dict[str, str] | None = None,
        announced: int | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw) if announced is None else announced))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)
        self.wfile.flush()
