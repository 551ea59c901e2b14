"""Who may ask when: fewer at once under overload, pauses while an endpoint is down, rates."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from test_models_asking import Waits, ask, free_port, made, model_of, numbered

from selftaught.errors import Interrupted, ModelUnreachable
from selftaught.language_model import ModelSettings, Usage
from selftaught.models.endpoint import Question
from selftaught.models.failures import PassingTrouble
from selftaught.models.gate import FAILURES, MAX_PROBE_WAIT_S, Gate, GateClosed, Ticket
from selftaught.models.rate_limits import RateLimits, TokenBucket
from selftaught.testing import Fault, LoopbackServer, mixed_faults

DOWN = PassingTrouble("it is down", "wait")
BUSY = PassingTrouble("it is busy", "wait", is_overload=True)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def gate_of(clock: Clock, **options: Any) -> Gate:
    return Gate(
        **({"width": 8, "patience_s": 1800.0, "first_wait_s": 1.0, "clock": clock} | options)
    )


def paused(clock: Clock, **options: Any) -> Gate:
    """A gate whose endpoint has answered and then failed often enough."""
    gate = gate_of(clock, **options)
    gate.answered(gate.enter("first"))
    for number in range(FAILURES):
        held = gate.failed(gate.enter(f"r{number}"), DOWN).held_s
        assert (held is not None) == (number == FAILURES - 1)
    return gate


@contextmanager
def entering(gate: Gate, *names: str) -> Iterator[dict[str, Future[Ticket]]]:
    with ThreadPoolExecutor(len(names)) as threads:
        try:
            yield {name: threads.submit(gate.enter, name) for name in names}
        finally:
            gate.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


# --- the gate: width -------------------------------------------------------------------------------


def test_an_overload_halves_what_is_under_way_once_for_all_that_were_together() -> None:
    gate = gate_of(Clock())
    together = [gate.enter(str(number)) for number in range(8)]
    assert [gate.failed(ticket, BUSY).narrowed_to for ticket in together] == [4] + [None] * 7
    narrower = [gate.enter(str(number)) for number in range(4)]
    with entering(gate, "one too many") as waiting:
        time.sleep(0.05)
        assert not waiting["one too many"].done()
        gate.abandoned(narrower[0])
        assert waiting["one too many"].result(timeout=5).who == "one too many"


def test_answers_widen_it_again_and_not_beyond_what_was_set() -> None:
    gate = gate_of(Clock(), width=2)
    assert gate.failed(gate.enter("a"), BUSY).narrowed_to == 1
    assert gate.failed(gate.enter("a"), BUSY).narrowed_to is None, "one is the least"
    for _ in range(10):
        gate.answered(gate.enter("a"))
    for name in "ab":
        gate.enter(name)
    with entering(gate, "c") as waiting:
        time.sleep(0.05)
        assert not waiting["c"].done()


# --- the gate: pause -------------------------------------------------------------------------------


def test_an_endpoint_that_has_never_answered_is_not_waited_for() -> None:
    gate = gate_of(Clock())
    for number in range(3 * FAILURES):
        assert gate.failed(gate.enter(str(number)), DOWN).held_s is None


def test_an_answer_in_between_starts_the_count_anew() -> None:
    gate = gate_of(Clock())
    gate.answered(gate.enter("a"))
    for _ in range(5):
        for number in range(FAILURES - 1):
            assert gate.failed(gate.enter(str(number)), DOWN).held_s is None
        gate.answered(gate.enter("a"))


def test_one_probe_at_a_time_after_waits_that_double_up_to_a_minute() -> None:
    clock = Clock()
    gate = paused(clock)
    waits = []
    for number in range(9):
        with ThreadPoolExecutor(1) as threads:
            future = threads.submit(gate.enter, f"p{number}")
            time.sleep(0.01)
            assert not future.done(), "too early"
            clock.now += MAX_PROBE_WAIT_S
            ticket = future.result(timeout=5)
        assert ticket.is_probe
        waits.append(gate.failed(ticket, DOWN).held_s)
    assert waits == [2, 4, 8, 16, 32, 60, 60, 60, 60]


def test_all_go_on_when_the_probe_is_answered() -> None:
    clock = Clock()
    gate = paused(clock)
    with entering(gate, "a", "b", "c") as waiting:
        clock.now += 1.5
        until(lambda: any(future.done() for future in waiting.values()))
        time.sleep(0.05)
        (probe,) = [future.result() for future in waiting.values() if future.done()]
        assert gate.answered(probe) == 1.5
        tickets = [future.result(timeout=5) for future in waiting.values()]
    assert [ticket.is_probe for ticket in tickets].count(True) == 1


def test_a_request_that_fails_as_a_probe_lets_another_one_try() -> None:
    clock = Clock()
    gate = paused(clock)
    with entering(gate, "a", "b") as waiting:
        clock.now += 1.0
        until(lambda: any(future.done() for future in waiting.values()))
        (first,) = [name for name, future in waiting.items() if future.done()]
        gate.failed(waiting[first].result(), DOWN)
        with ThreadPoolExecutor(1) as threads:
            again = threads.submit(gate.enter, first)
            clock.now += 100.0
            (second,) = set(waiting) - {first}
            assert waiting[second].result(timeout=5).is_probe
            assert not again.done()
            gate.close()
            with pytest.raises(GateClosed):
                again.result(timeout=5)


def test_what_the_endpoint_asks_to_wait_is_waited_before_a_probe() -> None:
    clock = Clock()
    gate = gate_of(clock)
    gate.answered(gate.enter("a"))
    limited = PassingTrouble("429", "wait", retry_after_s=20.0, is_overload=True)
    failed = [gate.failed(gate.enter("a"), limited) for _ in range(FAILURES)]
    assert failed[-1].held_s == 20.0


def test_patience_ends_and_says_how_to_go_on() -> None:
    clock = Clock()
    gate = paused(clock, patience_s=100.0)
    clock.now += 101.0
    with pytest.raises(ModelUnreachable) as failure:
        gate.enter("a")
    assert str(failure.value) == (
        "The model has not answered for 101 s, and patience is set to 100 s; at last it is down. "
        "When it is back, `selftaught resume` goes on; nothing is asked twice."
    )


def test_a_stop_ends_every_wait() -> None:
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise Interrupted("stopped")

    gate = paused(Clock(), check=check)
    with ThreadPoolExecutor(2) as threads:
        futures = [threads.submit(gate.enter, "a"), threads.submit(gate.sleep, 1000.0)]
        time.sleep(0.05)
        stop.set()
        for future in futures:
            with pytest.raises(Interrupted):
                future.result(timeout=5)


# --- a model whose endpoint goes away --------------------------------------------------------------


def test_a_model_waits_for_its_endpoint_and_goes_on_when_it_is_back() -> None:
    waits = Waits()
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1"
    with made(url, on_wait=waits, backoff_s=0.02, concurrency=4) as model:
        with LoopbackServer(numbered, port=port):
            assert ask(model) == ["m #0"]
        with ThreadPoolExecutor(6) as threads:
            futures = [threads.submit(ask, model, key=f"k{number}") for number in range(6)]
            until(lambda: len(waits.of("model_paused")) > 5)
            assert not any(future.done() for future in futures)
            with LoopbackServer(numbered, port=port) as server:
                assert [future.result(timeout=60) for future in futures] == [["m #0"]] * 6
    assert len(server.log) == 6
    ((_, seconds),) = waits.of("model_resumed")
    assert seconds > 0
    assert "cannot be reached" in waits.of("model_paused")[-1][0]
    assert len(waits.of("model_retry")) <= FAILURES, "held requests do not use up their retries"


def test_patience_of_a_model_is_what_was_set() -> None:
    with (
        LoopbackServer(
            numbered, faults=lambda number, body: Fault.UNAVAILABLE if number > 1 else None
        ) as server,
        model_of(server, patience_s=0.3) as model,
    ):
        ask(model)
        with pytest.raises(ModelUnreachable, match="`selftaught resume` goes on"):
            ask(model)


def test_a_refusal_ends_a_pause_too() -> None:
    waits = Waits()
    faults = [None, *[Fault.UNAVAILABLE] * 6, Fault.TEMPERATURE_REJECTED]
    with (
        LoopbackServer(numbered, faults=faults) as server,
        model_of(server, on_wait=waits) as model,
    ):
        ask(model)
        assert ask(model) == ["m #0"]
    assert len(waits.of("model_resumed")) == 1
    assert len(waits.of("model_adapted")) == 1


def test_an_overloaded_endpoint_is_asked_less_at_once_and_it_is_said() -> None:
    waits = Waits()
    faults = [None, *[Fault.OVERLOADED] * 4]
    with (
        LoopbackServer(numbered, faults=faults) as server,
        model_of(server, on_wait=waits, concurrency=4) as model,
    ):
        ask(model)
        ask(model)
    assert [detail for detail, _ in waits.of("model_slowed")] == [
        "openai/tiny: overloaded; from now on at most 2 at once.",
        "openai/tiny: overloaded; from now on at most 1 at once.",
    ]


def test_every_request_of_many_is_explained_under_mixed_faults() -> None:
    waits = Waits()
    with (
        LoopbackServer(numbered, faults=mixed_faults(0.3, seed=5), retry_after="0.01") as server,
        model_of(server, on_wait=waits) as model,
        ThreadPoolExecutor(8) as threads,
    ):
        texts = list(threads.map(lambda n: ask(model, 2, key=f"k{n}", message=f"m{n}"), range(60)))
        answers = [received for received in server.log if received.answered]
    assert texts == [[f"m{n} #0", f"m{n} #1"] for n in range(60)]
    explained = len(waits.of("model_retry")) + len(waits.of("model_paused"))
    assert len(answers) == 60
    assert len(server.log) == 60 + explained
    assert explained >= 15


# --- rates -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_minute", [2, 7, 60, 3000])
def test_no_more_than_the_allowance_within_any_minute_and_not_much_less(per_minute: int) -> None:
    clock = Clock()
    bucket = TokenBucket(per_minute, clock)
    times = []
    while clock.now < 600:
        clock.now += bucket.reserve(1.0)
        times.append(clock.now)
    for place in range(len(times) - per_minute):
        assert times[place + per_minute] - times[place] >= 60 - 1e-6
    assert len(times) >= 10 * per_minute * 0.5
    if per_minute >= 60:
        assert len(times) >= 10 * per_minute * 0.9


def test_turns_are_given_in_the_order_in_which_they_were_asked_for() -> None:
    bucket = TokenBucket(60, Clock())
    waits = [bucket.reserve(1.0) for _ in range(10)]
    assert waits[:6] == [0.0] * 6
    assert waits[6:] == sorted(waits[6:])
    assert waits[6] > 0


def test_tokens_are_guessed_before_and_corrected_after() -> None:
    clock = Clock()
    limits = RateLimits(ModelSettings(tokens_per_minute=6000, max_output_tokens=400), clock)
    question = Question(
        expertise="e" * 200, message="m" * 200, n=1, temperature=0.7, seed=None,
        max_output_tokens=400, reasoning_effort=None,
    )  # fmt: skip
    wait_s, guess = limits.reserve(question)
    assert (wait_s, guess) == (0.0, 500.0)
    assert limits.reserve(question)[0] > 0, "600 may go at once"
    limits.settle(guess, Usage(prompt_tokens=90, completion_tokens=10), 1)
    limits.settle(guess, Usage(prompt_tokens=90, completion_tokens=10), 1)
    assert limits.reserve(question) == (0.0, pytest.approx(100 + 400 * 0.8**2 + 10 * 0.36))


def test_an_allowance_of_requests_is_kept_by_the_model() -> None:
    with (
        LoopbackServer(numbered) as server,
        model_of(server, requests_per_minute=60) as model,
        ThreadPoolExecutor(8) as threads,
    ):
        list(threads.map(lambda n: ask(model, key=f"k{n}"), range(8)))
    times = [received.received_at for received in server.log]
    assert times[-1] - times[0] >= 1.8
