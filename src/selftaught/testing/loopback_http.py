"""A server on 127.0.0.1 that speaks OpenAI's chat completions and can fail on demand."""

import json
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

from selftaught.testing.loopback_faults import (
    Fault,
    FaultPlan,
    HttpError,
    Mishap,
    as_http_error,
    completion_body,
)

_PART = re.compile(r"(.*)/(\d+)", re.DOTALL)


class ReceivedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request for a chat completion, as it arrived.

    Attributes:
        number: counts such requests from 1.
        received_at: seconds since the epoch.
        body: the parameters.
        headers: by lower-case name.
        idempotency_key: the header of that name; empty where there is none.
        answered: whether choices were sent for it; not so where the client had gone by then.
        status: the HTTP status that was sent; 0 while none was.
    """

    number: int
    received_at: float
    body: dict[str, Any]
    headers: dict[str, str]
    idempotency_key: str
    answered: bool = False
    status: int = 0

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
    return str(received.body["messages"][-1]["content"])


class LoopbackServer:
    """Serves `/v1/chat/completions` and `/v1/models` on a port of the system's choice.

    Use it as a context manager; leaving it ends every connection.

    Args:
        answer: the text of one response, from the request and the index of the response within
            its exchange; called from several threads.
        honours_n: whether one request may bring several choices; else it brings one.
        latency_s: seconds before each answer.
        require_key: the only key that is let in; None lets everybody in. Others get a 401 that
            repeats their key, as some servers do.
        models: the names served, which `/v1/models` then lists; None serves any and lists none.
        faults: what goes wrong: one item per request in order of arrival, after which nothing
            does, or a function of the request's number (from 1) and body.
        retry_after: the header's value in Fault.RATE_LIMITED.
        stall_s, drip_s, huge_chars: see Fault.
        on_request: called with each request before anything else; True drops it unanswered.
        on_answer: called with each request just before its answer is sent, by one thread at a
            time.
        port: 0 leaves the choice to the system.

    Attributes:
        url: the base URL, to and with `/v1`.
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
        port: int = 0,
    ) -> None:
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
        self._server = _Server(("127.0.0.1", port), self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

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
        """The requests for chat completions so far, in order of arrival; safe at any time."""
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
        self, body: dict[str, Any], headers: dict[str, str]
    ) -> tuple[ReceivedRequest, Mishap]:
        """Log a request and decide what goes wrong with it."""
        with self._lock:
            received = ReceivedRequest(
                number=len(self._log) + 1,
                received_at=time.time(),
                body=body,
                headers=headers,
                idempotency_key=headers.get("idempotency-key", ""),
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


class _Server(ThreadingHTTPServer):
    """Knows its open connections, so that it can end those that clients keep alive."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], owner: LoopbackServer) -> None:
        self.owner = owner
        self._open: set[socket.socket] = set()
        self._to_reset: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.discard(request)
            resets = request in self._to_reset
            self._to_reset.discard(request)
        if resets:
            # Without lingering, closing sends RST, provided that no FIN has gone before it.
            request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def reset(self, request: socket.socket) -> None:
        """Have a connection reset as soon as its handler is done."""
        with self._open_lock:
            self._to_reset.add(request)

    def end_connections(self) -> None:
        """Wake the handlers that wait for a further request, so that their threads end."""
        with self._open_lock:
            for request in self._open:
                try:
                    request.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the client was faster

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # One packet per answer: two small ones would meet delayed acknowledgement, 40 ms each time.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is inherited
        """Say nothing: the log is `LoopbackServer.log`."""

    def do_GET(self) -> None:
        """List the models."""
        models = self.server.owner.models
        if self.path.rstrip("/") == "/v1/models" and models is not None:
            listed = [{"id": name, "object": "model"} for name in models]
            self._send(200, {"object": "list", "data": listed})
        else:
            self._send_error(HttpError(status=404, message=f"No such page: {self.path}"))

    def do_POST(self) -> None:
        """Answer a request for a chat completion, or fail as planned."""
        raw = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path.rstrip("/") != "/v1/chat/completions":
            self._send_error(HttpError(status=404, message=f"No such page: {self.path}"))
            return
        try:
            body = json.loads(raw)
        except ValueError:
            self._send_error(HttpError(status=400, message="The body is no JSON"))
            return
        owner = self.server.owner
        received, mishap = owner.begin(body, {k.lower(): v for k, v in self.headers.items()})
        try:
            if owner.on_request(received):
                self.close_connection = True
            else:
                self._serve(received, mishap)
        finally:
            owner.drop(received)

    def _serve(self, received: ReceivedRequest, mishap: Mishap) -> None:
        owner = self.server.owner
        error = self._not_let_in(received)
        if error is None and isinstance(mishap, HttpError):
            error = mishap
        elif error is None and isinstance(mishap, Fault):
            error = as_http_error(mishap, received.body, owner.retry_after)
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
            raw = {Fault.BAD_JSON: b'{"choices": [', Fault.NO_CHOICES: b'{"id": "x"}'}
            owner.settle(received, status=200)
            self._send_raw(200, raw.get(mishap, b""))
        else:
            self._answer(received, mishap)

    def _not_let_in(self, received: ReceivedRequest) -> HttpError | None:
        owner = self.server.owner
        key = received.headers.get("authorization", "").removeprefix("Bearer ")
        if owner.require_key is not None and key != owner.require_key:
            return HttpError(
                status=401, message=f"Incorrect API key provided: {key}", code="invalid_api_key"
            )
        model = received.body.get("model")
        if owner.models is not None and model not in owner.models:
            return HttpError(
                status=404, message=f"The model {model!r} does not exist", code="model_not_found"
            )
        return None

    def _answer(self, received: ReceivedRequest, mishap: Mishap) -> None:
        owner = self.server.owner
        n = received.body.get("n", 1) if owner.honours_n else 1
        texts = [owner.answer(received, received.first_index + place) for place in range(n)]
        raw = json.dumps(
            completion_body(received.number, received.body, texts, mishap, owner.huge_chars)
        ).encode()
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
        told = {"message": error.message, "code": error.code, "param": error.param}
        headers = {} if error.retry_after is None else {"Retry-After": error.retry_after}
        self._send(error.status, {"error": told}, headers)

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
