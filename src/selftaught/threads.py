"""Blocking calls side by side, in a number of threads that does not grow with what nests.

Work nests here: a round scores improvers, each is applied to several tasks, each application asks
and scores several things at once. A thread for every call of every level would be thousands. So
whoever wants calls run takes part in the work: the calling thread runs calls itself, and up to
MAX_THREADS others help wherever calls are left. A batch that gets no help at all is run by its
caller, one call after the other, so there is nothing that could wait for a thread for ever.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

T = TypeVar("T")

# Enough for what waits on language models and slots at once; a thread that waits costs about
# 50 kB. Above it calls of one batch follow one another instead of overlapping.
MAX_THREADS = 256


class _Batch(Generic[T]):
    """Calls of one `run_all`; each is taken once, by whoever comes first."""

    def __init__(self, calls: Sequence[Callable[[], T]]) -> None:
        self._calls = calls
        self._futures: list[Future[T]] = [Future() for _ in calls]
        self._taken = 0
        self._lock = threading.Lock()

    def run_one(self) -> bool:
        """Run the next call that nobody has taken; False where none is left."""
        with self._lock:
            number = self._taken
            self._taken = min(number + 1, len(self._calls))
        if number == len(self._calls):
            return False
        future = self._futures[number]
        try:
            future.set_result(self._calls[number]())
        except BaseException as error:  # noqa: BLE001 - it is raised where the batch is waited for
            future.set_exception(error)
        return True

    def results(self) -> list[T]:
        """Wait for all calls; the first exception in order is raised after all have ended."""
        for future in self._futures:
            future.exception()
        return [future.result() for future in self._futures]


class Crew:
    """Threads that help with batches. Thread-safe.

    Args:
        most: helping threads at once, over all batches; callers are not counted.
    """

    def __init__(self, most: int = MAX_THREADS) -> None:
        self._most = most
        self._helping = 0
        self._open: list[_Batch[Any]] = []
        self._lock = threading.Lock()

    def run_all(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """Run calls at once and return their results in order.

        The first exception is raised after all have ended.
        """
        if len(calls) == 1:
            return [calls[0]()]
        batch = _Batch(calls)
        with self._lock:
            self._open.append(batch)
            hired = max(0, min(len(calls) - 1, self._most - self._helping))
            self._helping += hired
        for _ in range(hired):
            threading.Thread(target=self._help, name="crew", daemon=True).start()
        while batch.run_one():
            pass
        self._shut(batch)
        return batch.results()

    def _help(self) -> None:
        while True:
            with self._lock:
                if not self._open:
                    self._helping -= 1
                    return
                # The newest first: what is nested deepest holds up the most.
                batch = self._open[-1]
            if not batch.run_one():
                self._shut(batch)

    def _shut(self, batch: _Batch[Any]) -> None:
        with self._lock:
            if batch in self._open:
                self._open.remove(batch)


run_all = Crew().run_all
