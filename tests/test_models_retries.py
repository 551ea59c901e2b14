"""What the OpenAI-compatible model asks again, when, and how much of it at once."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import Any

import pytest
from test_models_asking import (
    KEY,
    Waits,
    ask,
    model_of,
    numbered,
    raw_server,
)

from selftaught.errors import ModelRefused, ModelUnreachable
from selftaught.models.openai_compatible import OpenAICompatibleModel
from selftaught.testing import Fault, HttpError, LoopbackServer


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
        (Fault.STALL, "did not answer within 0.3 s"),
        (Fault.SLOW_DRIP, "had not finished its answer after 0.3 s"),
        (Fault.HUGE, "sent more than 100,000 bytes"),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else None,
)
def test_a_passing_fault_is_retried_and_reported(fault: Fault | HttpError, says: str) -> None:
    waits = Waits()
    with LoopbackServer(
        numbered, faults=[fault], retry_after="0.01", huge_chars=200_000, drip_s=0.02
    ) as server:
        with model_of(server, on_wait=waits, timeout_s=0.3, max_answer_bytes=100_000) as model:
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
        OpenAICompatibleModel("tiny", base_url=url, max_retries=1, backoff_s=0) as model,
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


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured(form: str) -> None:
    waits = Waits()
    value = "0.4" if form == "seconds" else formatdate(time.time() + 2, usegmt=True)
    with LoopbackServer(numbered, faults=[Fault.RATE_LIMITED], retry_after=value) as server:
        with model_of(server, on_wait=waits) as model:
            ask(model)
        first, second = server.log
    ((_, seconds),) = waits.of("model_retry")
    assert 0.3 < seconds <= 2
    assert second.received_at - first.received_at >= seconds


def test_a_wait_of_hours_is_an_error_and_not_waited_for() -> None:
    with (
        LoopbackServer(numbered, faults=[Fault.RATE_LIMITED], retry_after="7200") as server,
        model_of(server) as model,
        pytest.raises(ModelUnreachable) as failure,
    ):
        ask(model)
    assert str(failure.value) == (
        f"{server.url} answered 429: Rate limit reached, and asks to wait 7,200 s before the next "
        "request, more than 300 s. Go on with the run later."
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
        with model_of(server, max_concurrency=1) as model:
            assert ask(model, 3) == ["m #0", "m #1", "m #2"]
        keys = [received.idempotency_key for received in server.log]
    assert sorted(keys) == ["job|c|0/0", "job|c|0/1", "job|c|0/1", "job|c|0/2"]


@pytest.mark.parametrize("honours_n", [True, False])
def test_no_more_requests_are_under_way_than_allowed(honours_n: bool) -> None:
    with (
        LoopbackServer(numbered, honours_n=honours_n, latency_s=0.02) as server,
        model_of(server, max_concurrency=3) as model,
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
    with (
        LoopbackServer(numbered, honours_n=False, latency_s=0.05) as server,
        model_of(server) as model,
    ):
        ask(model, 2)
        ask(model, 6)
    assert server.peak_in_flight == 6


def test_closing_ends_a_wait_and_later_requests() -> None:
    with LoopbackServer(numbered, faults=[Fault.RATE_LIMITED], retry_after="100") as server:
        waiting = threading.Event()
        with OpenAICompatibleModel(
            "tiny", base_url=server.url, on_wait=lambda *told: waiting.set()
        ) as model:
            with ThreadPoolExecutor(1) as threads:
                future = threads.submit(ask, model)
                assert waiting.wait(20)
                model.close()
                with pytest.raises(ModelUnreachable, match=r"connection to http.* was closed"):
                    future.result(timeout=5)
            with pytest.raises(ModelUnreachable, match="was closed"):
                ask(model, 3)
        assert len(server.log) == 1


def test_a_failing_part_stops_those_not_yet_begun() -> None:
    def fails_second(number: int, body: dict[str, Any]) -> HttpError | None:
        return HttpError(status=403) if number == 2 else None

    with LoopbackServer(numbered, honours_n=False, faults=fails_second, latency_s=0.02) as server:
        with model_of(server, max_concurrency=1) as model, pytest.raises(ModelRefused):
            ask(model, 50)
        assert len(server.log) < 10


def test_the_sdk_is_not_imported_before_the_first_request() -> None:
    program = (
        "import sys, selftaught.models.resolve as r\n"
        "r.resolve_model('openai/x', base_url='http://127.0.0.1:1/v1', environment={})\n"
        "print([m for m in ('openai', 'httpx2', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


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
