"""The LoopbackServer as a program of its own, for tests that span processes.

`python -m selftaught.testing.loopback_server --port 0 --log FILE` prints the server's base URL
and appends one JSON line to FILE per answered request, just before the answer is sent.
"""

import argparse
import hashlib
import os
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import msgspec

from selftaught.language_model import LanguageModel, Request
from selftaught.testing.loopback_dialects import DIALECTS
from selftaught.testing.loopback_faults import mixed_faults
from selftaught.testing.loopback_http import Answering, LoopbackServer, ReceivedRequest, echo

_OCCURRENCE = re.compile(r".*/(\d+)", re.DOTALL)

__all__ = ["LoopbackServer", "MutationAnswers", "ReceivedRequest", "main", "request_of"]


SETTLE_S = 0.3


class AnsweredLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the log file.

    Attributes:
        number: counts received requests from 1; those without an answer leave gaps.
        time: when it was received, seconds since the epoch.
        idempotency_key: as sent, with the index of its part.
        content_hash: of what was asked, as in `Request.content_hash`.
        n: the responses asked for in this request.
    """

    number: int
    time: float
    idempotency_key: str
    content_hash: str
    model: str
    n: int


def request_of(received: ReceivedRequest) -> Request:
    """Return what a request asks, for one response."""
    return msgspec.structs.replace(received.asked, n_responses=1)


class MutationAnswers:
    """Answers by a mutation proposer, or any model that repeats itself for equal arguments.

    An answer is a function of the request's content and its place among all responses to that
    content, so it depends neither on the order of arrival nor on whether several responses are
    asked for in one request or in several, and a request that is sent again is answered as before.
    The place is read from an idempotency key that ends in `/OCCURRENCE/PART`, as a run's keys do;
    of any other key the whole text counts, and requests without one are counted as they come.
    """

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._without_key: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, received: ReceivedRequest, index: int) -> str:
        """Return the text of one response."""
        request = request_of(received)
        content = request.content_hash
        occurrence = _OCCURRENCE.fullmatch(received.exchange)
        if occurrence:
            place = str(int(occurrence.group(1)) + index)
        elif received.exchange:
            place = f"{received.exchange}|{index}"
        else:
            with self._lock:
                place = f"without key {self._without_key[content]}"
                self._without_key[content] += 1
        seed = int.from_bytes(hashlib.sha256(f"{content}|{place}".encode()).digest()[:4])
        return self._model.respond(request, seed=seed, occurrence=0, key=place).texts[0]


def kill_process_in(pid_file: Path) -> None:
    """Send SIGKILL to the process whose number stands in a file."""
    pid = int(pid_file.read_text(encoding="ascii"))
    # 0, 1 and negative numbers would mean whole groups of processes.
    if pid < 2 or pid == os.getpid():
        raise ValueError(f"{pid_file} holds {pid}, which is no process to kill.")
    os.kill(pid, signal.SIGKILL)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if (options.on_request_number is None) != (options.kill_pid_file is None):
        parser.error("--on-request-number and --kill-pid-file belong together.")
    log = options.log.open("ab", buffering=0) if options.log else None
    # A shell starts what it puts in the background with the interrupt ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def on_request(received: ReceivedRequest) -> bool:
        if received.number != options.on_request_number:
            return False
        # What was answered before gets the time to be recorded; nothing is answered after.
        server.freeze()
        time.sleep(SETTLE_S)
        kill_process_in(options.kill_pid_file)
        time.sleep(SETTLE_S)
        server.thaw()
        return True

    def on_answer(received: ReceivedRequest) -> None:
        if log is not None:
            _append(log, received)

    with LoopbackServer(
        _answering(options.answer),
        honours_n=not options.ignore_n,
        latency_s=options.latency,
        dialect=DIALECTS[options.speaks],
        faults=mixed_faults(options.faulty, seed=options.seed),
        retry_after="0.1",
        on_request=on_request,
        on_answer=on_answer,
        port=options.port,
    ) as server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            pass
    if log is not None:
        log.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m selftaught.testing.loopback_server", description=__doc__
    )
    parser.add_argument("--port", type=int, default=0, help="0: of the system's choice")
    parser.add_argument("--log", type=Path, help="append a line per answered request")
    parser.add_argument("--ignore-n", action="store_true", help="one choice per request")
    parser.add_argument("--answer", choices=_ANSWERS, default="echo")
    parser.add_argument("--speaks", choices=DIALECTS, default="openai", help="the protocol")
    parser.add_argument("--faulty", type=float, default=0.0, help="share of requests that fail")
    parser.add_argument("--seed", type=int, default=0, help="which ones fail, and how")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before an answer")
    parser.add_argument("--on-request-number", type=int, metavar="N", help="kill on this one")
    parser.add_argument("--kill-pid-file", type=Path, metavar="FILE", help="whom to kill")
    return parser


_ANSWERS = ("echo", "mutation", "mutation-first-order")


def _answering(name: str) -> Answering:
    if name == "echo":
        return echo
    from selftaught.models.resolve import resolve_model

    return MutationAnswers(resolve_model(name, base_url=None, environment={}))


def _append(log: IO[bytes], received: ReceivedRequest) -> None:
    line = AnsweredLine(
        number=received.number,
        time=received.received_at,
        idempotency_key=received.idempotency_key,
        content_hash=request_of(received).content_hash,
        model=received.model,
        n=received.asked.n_responses,
    )
    log.write(msgspec.json.encode(line) + b"\n")


if __name__ == "__main__":
    main()
