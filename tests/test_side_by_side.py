"""Calls side by side: in order, all of them, in few threads, and never waiting for a thread."""

import functools
import threading
import time

import pytest

from selftaught.pool import MAX_THREADS, Crew, run_all


def test_results_come_in_order_and_none_is_needed() -> None:
    assert run_all([functools.partial(pow, i, 2) for i in range(50)]) == [i * i for i in range(50)]
    assert run_all([]) == []


def test_calls_overlap_as_far_as_there_are_threads() -> None:
    together = threading.Barrier(8, timeout=10)
    assert Crew().run_all([lambda: together.wait() >= 0] * 8) == [True] * 8


def test_the_first_exception_is_raised_after_all_have_ended() -> None:
    ended: list[int] = []

    def call(number: int) -> None:
        time.sleep(0.02 * (4 - number))
        ended.append(number)
        if number in (1, 3):
            raise KeyError(number)

    with pytest.raises(KeyError, match="1"):
        Crew().run_all([functools.partial(call, i) for i in range(4)])
    assert sorted(ended) == [0, 1, 2, 3]


def test_what_nests_needs_no_thread_of_its_own() -> None:
    """Without help every batch is run by its caller, so 3 levels of 20 end with any number."""
    most = 0
    lock = threading.Lock()
    crew = Crew(2)
    before = threading.active_count()

    def leaf() -> int:
        nonlocal most
        with lock:
            most = max(most, threading.active_count() - before)
        return 1

    def level(depth: int) -> int:
        if depth == 0:
            return leaf()
        return sum(crew.run_all([functools.partial(level, depth - 1)] * 20))

    assert level(3) == 20**3
    assert most <= 2


def test_two_hundred_waiting_calls_overlap_and_thousands_do_not_start_as_many_threads() -> None:
    began = time.monotonic()
    assert len(run_all([functools.partial(time.sleep, 0.3)] * 200)) == 200
    assert time.monotonic() - began < 3.0
    most = 0

    def inner() -> None:
        nonlocal most
        time.sleep(0.001)
        most = max(most, sum(t.name == "crew" for t in threading.enumerate()))

    outer = functools.partial(run_all, [inner] * 50)
    run_all([outer] * 60)
    assert 1 < most <= MAX_THREADS


def test_threads_of_one_batch_help_another() -> None:
    """A batch that found all threads taken gets them once they are free."""
    crew = Crew(1)
    names: list[str] = []
    first_done = threading.Event()

    def slow() -> None:
        first_done.wait(10)

    def note() -> None:
        time.sleep(0.02)
        names.append(threading.current_thread().name)

    holder = threading.Thread(target=crew.run_all, args=([slow, slow],))
    holder.start()
    timer = threading.Timer(0.05, first_done.set)
    timer.start()
    crew.run_all([note] * 40)
    holder.join()
    timer.join()
    assert "crew" in names


def test_an_interrupt_waits_for_nothing() -> None:
    began, release = threading.Event(), threading.Event()
    run: list[str] = []

    def call() -> None:
        if threading.current_thread() is threading.main_thread():
            assert began.wait(20)
            raise KeyboardInterrupt
        run.append("helped")
        began.set()
        assert release.wait(20)

    with pytest.raises(KeyboardInterrupt):
        Crew(1).run_all([call, call, call])
    assert not release.is_set()
    assert run == ["helped"]
    release.set()
