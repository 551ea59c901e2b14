"""What the OpenAI-compatible model asks again, when, and how much of it at once."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from functools import partial
from typing import Any

import httpx2
import pytest
from test_models_asking import (
    KEY,
    Waits,
    ask,
    made,
    model_of,
    numbered,
    raw_server,
)

from selftaught.errors import ModelRefused, ModelUnreachable
from selftaught.models.http_status import retry_after_s
from selftaught.models.side_by_side import side_by_side
from selftaught.testing import Fault, HttpError, LoopbackServer, ReceivedRequest


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault.RATE_LIMITED, "answered 429: Rate limit reached"),
        (Fault.SERVER_ERROR, "answered 500: Internal error"),
        (Fault.UNAVAILABLE, "answered 503: Overloaded"),
        (HttpError(status=408), "answered 408"),
        (HttpError(status=409), "answered 409"),
        (HttpError(status=529), "answered 529"),
        (Fault.RESET, "broke ("),
        (Fault.CUT_BODY, "broke ("),
        (Fault.BAD_JSON, "answered with what is no chat completion"),
        (Fault.EMPTY_BODY, "answered with what is no chat completion"),
        (Fault.NO_CHOICES, "answered with what is no chat completion"),
        (Fault.STALL, "did not answer within 1 s"),
        (Fault.SLOW_DRIP, "had not finished its answer after 1 s"),
        (Fault.HUGE, "sent more than 100,000 bytes"),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else None,
)
def test_a_passing_fault_is_retried_and_reported(fault: Fault | HttpError, says: str) -> None:
    waits = Waits()
    # The second request must make it within the limit even on a busy machine.
    timeout_s = 1.0 if fault in (Fault.STALL, Fault.SLOW_DRIP) else 30.0
    with LoopbackServer(
        numbered, faults=[fault], retry_after="0.01", huge_chars=200_000, drip_s=0.02
    ) as server:
        with model_of(
            server, on_wait=waits, timeout_s=timeout_s, max_answer_bytes=100_000
        ) as model:
            assert ask(model, 2) == ["m #0", "m #1"]
        keys = [received.idempotency_key for received in server.log]
    assert keys == ["job|c|0/0", "job|c|0/0"]
    ((detail, seconds),) = waits.of("model_retry")
    assert says in detail
    assert detail.endswith("; request 2 of 6 follows.")
    assert seconds > 0
    assert KEY not in detail


def test_an_empty_list_of_choices_is_retried() -> None:
    with (
        raw_server({"choices": []}) as url,
        made(url, max_retries=1, backoff_s=0) as model,
        pytest.raises(ModelUnreachable, match="without a single choice"),
    ):
        ask(model)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422])
def test_what_asking_again_does_not_cure_is_not_retried(status: int) -> None:
    waits = Waits()
    with LoopbackServer(numbered, faults=[HttpError(status=status)]) as server:
        with model_of(server, on_wait=waits) as model, pytest.raises(ModelRefused):
            ask(model)
        assert len(server.log) == 1
    assert waits == []


def test_retry_after_in_seconds_is_honoured() -> None:
    waits = Waits()
    with LoopbackServer(numbered, faults=[Fault.RATE_LIMITED], retry_after="0.4") as server:
        with model_of(server, on_wait=waits) as model:
            ask(model)
        first, second = server.log
    assert [seconds for _, seconds in waits.of("model_retry")] == [0.4]
    assert second.received_at - first.received_at >= 0.4


def test_retry_after_as_a_date_is_honoured() -> None:
    date = int(time.time()) + 2
    faults = [Fault.RATE_LIMITED]
    with LoopbackServer(numbered, faults=faults, retry_after=formatdate(date)) as server:
        with model_of(server) as model:
            ask(model)
        assert server.log[1].received_at >= date - 0.01


def test_retry_after_in_milliseconds_goes_before_seconds() -> None:
    headers = {"retry-after-ms": "250", "retry-after": "1"}
    response = httpx2.Response(429, headers=headers)
    assert retry_after_s(response.headers) == 0.25
    assert retry_after_s(httpx2.Response(429).headers) is None
    assert retry_after_s({"retry-after": "soon"}) is None
    assert retry_after_s({"retry-after": "-3"}) == 0.0


def test_a_wait_of_hours_is_an_error_and_not_waited_for() -> None:
    with (
        LoopbackServer(numbered, faults=[Fault.RATE_LIMITED], retry_after="7200") as server,
        model_of(server) as model,
        pytest.raises(ModelUnreachable) as failure,
    ):
        ask(model)
    assert str(failure.value) == (
        f"{server.url} answered 429: Rate limit reached, and asks to wait 7,200 s before the next "
        "request, more than the 1,800 s of patience. Go on with the run later: `selftaught resume`."
    )


def test_backoff_doubles_and_its_jitter_repeats() -> None:
    told = []
    for _ in range(2):
        waits = Waits()
        faults = [Fault.UNAVAILABLE] * 4
        with (
            LoopbackServer(numbered, faults=faults) as server,
            model_of(server, on_wait=waits, backoff_s=0.01) as model,
        ):
            ask(model)
        told.append([seconds for _, seconds in waits.of("model_retry")])
    assert told[0] == told[1]
    for power, seconds in enumerate(told[0]):
        assert 0.5 * 0.01 * 2**power <= seconds <= 0.01 * 2**power


def test_one_failing_part_is_repeated_alone() -> None:
    def second_part_once(number: int, body: dict[str, Any]) -> Fault | None:
        return Fault.UNAVAILABLE if number == 2 else None

    with LoopbackServer(numbered, honours_n=False, faults=second_part_once) as server:
        with model_of(server, concurrency=1) as model:
            assert ask(model, 3) == ["m #0", "m #1", "m #2"]
        keys = [received.idempotency_key for received in server.log]
    assert sorted(keys) == ["job|c|0/0", "job|c|0/1", "job|c|0/1", "job|c|0/2"]


@pytest.mark.parametrize("honours_n", [True, False])
def test_as_many_requests_are_under_way_as_allowed_and_no_more(honours_n: bool) -> None:
    def once_three_are_under_way(received: ReceivedRequest, index: int) -> str:
        deadline = time.monotonic() + 20
        while server.peak_in_flight < 3 and time.monotonic() < deadline:
            time.sleep(0.005)
        return numbered(received, index)

    with (
        LoopbackServer(once_three_are_under_way, honours_n=honours_n, latency_s=0.02) as server,
        model_of(server, concurrency=3) as model,
        ThreadPoolExecutor(10) as threads,
    ):
        texts = list(
            threads.map(
                lambda number: ask(model, 3, key=f"k{number}", message=f"m{number}"), range(10)
            )
        )
    assert texts == [[f"m{number} #{index}" for index in range(3)] for number in range(10)]
    assert server.peak_in_flight == 3


def test_responses_asked_for_one_by_one_are_under_way_together() -> None:
    meeting = threading.Barrier(6, timeout=20)

    def when_all_are_here(received: ReceivedRequest, index: int) -> str:
        meeting.wait()
        return numbered(received, index)

    with LoopbackServer(numbered, honours_n=False) as server, model_of(server) as model:
        ask(model, 2)
        server.answer = when_all_are_here
        assert ask(model, 6) == [f"m #{index}" for index in range(6)]


def test_calls_run_in_order_and_stop_where_one_fails() -> None:
    begun: list[int] = []

    def call(number: int) -> int:
        begun.append(number)
        if number == 1:
            raise ModelRefused("no")
        return number

    calls = [partial(call, number) for number in range(10)]
    assert side_by_side(calls[:1], 4) == [0]
    assert side_by_side(calls[3:9], 2) == [3, 4, 5, 6, 7, 8]
    begun.clear()
    before = set(threading.enumerate())
    with pytest.raises(ModelRefused, match="no"):
        side_by_side(calls, 1)
    started = set(threading.enumerate()) - before
    for thread in started:
        thread.join(20)
    assert begun == [0, 1], "what had not begun by then never did"


def test_closing_ends_a_wait_and_later_requests() -> None:
    with LoopbackServer(numbered, faults=[Fault.RATE_LIMITED], retry_after="100") as server:
        waiting = threading.Event()
        with made(server.url, on_wait=lambda *told: waiting.set()) as model:
            with ThreadPoolExecutor(1) as threads:
                future = threads.submit(ask, model)
                assert waiting.wait(20)
                model.close()
                with pytest.raises(ModelUnreachable, match=r"connection to http.* was closed"):
                    future.result(timeout=5)
            with pytest.raises(ModelUnreachable, match="was closed"):
                ask(model, 3)
        assert len(server.log) == 1


def test_a_program_ends_though_answers_are_outstanding() -> None:
    program = (
        "import sys, threading, time\n"
        "from selftaught.language_model import Request\n"
        "from selftaught.models.openai_compatible import OpenAICompatibleModel\n"
        "m = OpenAICompatibleModel('x', base_url=sys.argv[1])\n"
        "r = Request(expertise='e', message='m', n_responses=4)\n"
        "ask = lambda: m.respond(r, seed=0, occurrence=0, key='k')\n"
        "threading.Thread(target=ask, daemon=True).start()\n"
        "sys.stdin.readline()\n"
    )
    faults = [None, *[Fault.STALL] * 3]
    with LoopbackServer(numbered, honours_n=False, faults=faults) as server:
        child = subprocess.Popen(
            [sys.executable, "-c", program, server.url], stdin=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 20
        while len(server.log) < 4 and time.monotonic() < deadline:
            time.sleep(0.02)
        child.communicate("\n", timeout=10)
    assert child.returncode == 0
