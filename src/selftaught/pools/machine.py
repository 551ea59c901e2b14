"""What one machine runs jobs with: its evaluators, and the zygotes of improvers."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from selftaught.errors import ProcessLost, SandboxUnavailable
from selftaught.pool import MAX_STARTS, Attempt, ScoreJob
from selftaught.pools.early import IMPROVER_MODULES, Begun, improver_zygote
from selftaught.pools.evaluator_process import EvaluatorProcess
from selftaught.pools.turns import SandboxedTurns, Turns, child_limits
from selftaught.sandbox.grant import Grant, grant_for
from selftaught.sandbox.zygote import Child, Zygote
from selftaught.task import Task
from selftaught.utility import Outcome

P = TypeVar("P")

# For those who still score when the machine is closed to notice that their evaluator is gone.
_CLOSING_S = 10.0


class Interruptible(Protocol):
    """Wants to be able to end a score that is under way."""

    def begin(self, end: Callable[[], None]) -> None:
        """The score has begun; `end` ends it, until `done`."""
        ...

    def done(self) -> None:
        """From here on there is nothing to end."""
        ...


class Node(Protocol):
    """Where jobs run. Thread-safe; how many run at once is for its user to see to."""

    def score(
        self, job: ScoreJob, underway: Interruptible | None = None
    ) -> tuple[Outcome, list[Attempt]]:
        """Score a program; returns the outcome and what the program tried and may not.

        Raises:
            SandboxUnavailable: it was ended through `underway`, or the sandbox does not start.
            NodeLost: the machine is gone.
            SelftaughtError: the task is broken, or the machine does not give what it permits.
        """
        ...

    def fork(self, improver: str) -> Turns:
        """A sandbox of its own for an improver, not loaded yet.

        Raises:
            SandboxUnavailable, NodeLost.
        """
        ...


class Machine:
    """Implements `Node` with processes of this machine.

    Args:
        begun: its first processes; ended with it.
        allow_network: the operator agrees that candidates reach the network where their task
            permits it.

    Raises:
        SandboxUnavailable: isolation layers are missing.
    """

    def __init__(self, begun: Begun, *, allow_network: bool = False) -> None:
        self.layers = begun.layers.result()
        self._allow_network = allow_network
        self._grants: dict[str, Grant] = {}
        # Reentrant: an evaluator may have started before anybody can be told.
        self._lock = threading.RLock()
        # Told of every evaluator that is free, or lost.
        self._changed = threading.Condition(self._lock)
        # An evaluator that could not start stands for itself as what it raised.
        self._idle_evaluators: list[EvaluatorProcess | BaseException] = []
        self._all_evaluators = [begun.evaluator]
        self._zygotes: dict[tuple[str, ...], Future[Zygote]] = {(): begun.zygote}
        self._wanted = 0
        self._is_closed = False
        self._starting = begun.starting
        begun.evaluator.add_done_callback(self._evaluator_started)

    def score(
        self, job: ScoreJob, underway: Interruptible | None = None
    ) -> tuple[Outcome, list[Attempt]]:
        """Score a program in an evaluator; see `Node.score`."""
        grant = self._granted(job.task)
        with self._evaluator() as evaluator:
            if underway is None:
                return evaluator.score(job, grant)
            underway.begin(evaluator.kill)
            try:
                return evaluator.score(job, grant)
            finally:
                # From here on the evaluator is another's.
                underway.done()

    def fork(self, improver: str) -> SandboxedTurns:
        """A child of a zygote that has loaded the modules which the improver names."""
        return SandboxedTurns(self._fork(improver))

    def close(self) -> None:
        """End every process; who still scores gets SandboxUnavailable."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        deadline = time.monotonic() + _CLOSING_S
        while self._wanted and time.monotonic() < deadline:
            # Again and again: one may have been starting.
            for evaluator in _started(self._all_evaluators):
                evaluator.kill()
            time.sleep(0.005)
        processes: list[Future[Any]] = [*self._all_evaluators, *self._zygotes.values()]
        wait(processes)
        # Side by side: each takes a while to end its own.
        list(self._starting.map(lambda process: process.close(), _started(processes)))
        self._starting.shutdown()

    def _granted(self, task: Task) -> Grant:
        # Two threads may both look: they find the same.
        key = f"{task.folder} {task.digest}"
        if key not in self._grants:
            self._grants[key] = grant_for(task, self.layers, allow_network=self._allow_network)
        return self._grants[key]

    @contextmanager
    def _evaluator(self) -> Iterator[EvaluatorProcess]:
        """Have an evaluator to oneself; there are never more than scores at once.

        Where none is free another one starts. Whichever is free first is taken, since most scores
        take less time than a start.
        """
        with self._changed:
            self._wanted += 1
        try:
            mine = self._free_evaluator()
            is_usable = True
            try:
                yield mine
            except SandboxUnavailable:
                # It was ended, or could not be started again.
                is_usable = False
                raise
            finally:
                self._give_back(mine, is_usable)
        finally:
            with self._changed:
                self._wanted -= 1

    def _free_evaluator(self) -> EvaluatorProcess:
        with self._changed:
            while True:
                if self._is_closed:
                    raise SandboxUnavailable("The pool was closed.")
                if self._idle_evaluators:
                    free = self._idle_evaluators.pop()
                    break
                if len(self._all_evaluators) < self._wanted:
                    self._start_evaluator()
                else:
                    self._changed.wait()
        if isinstance(free, BaseException):
            raise free
        return free

    def _give_back(self, mine: EvaluatorProcess, is_usable: bool) -> None:
        with self._changed:
            if is_usable and not mine.is_killed:
                self._idle_evaluators.append(mine)
                self._changed.notify()
                return
            self._all_evaluators = [
                one for one in self._all_evaluators if mine not in _started([one])
            ]
            self._changed.notify_all()
        mine.close()

    def _start_evaluator(self) -> None:
        future = self._starting.submit(EvaluatorProcess, self.layers)
        self._all_evaluators.append(future)
        future.add_done_callback(self._evaluator_started)

    def _evaluator_started(self, future: Future[EvaluatorProcess]) -> None:
        with self._changed:
            failure = future.exception()
            if failure is not None:
                self._all_evaluators.remove(future)
            self._idle_evaluators.append(failure or future.result())
            self._changed.notify()

    def _fork(self, improver: str) -> Child:
        preload = tuple(name for name in IMPROVER_MODULES if name in improver)
        for start in range(1, MAX_STARTS):
            starting = self._zygote_starting(preload)
            try:
                return starting.result().fork(*child_limits())
            except SandboxUnavailable as error:
                self._discard(preload, starting)
                # Once may be the machine's doing however it ended; one that cannot start never
                # will, unless it was killed.
                is_over = start > 1 or starting.exception() is not None
                if is_over and not isinstance(error, ProcessLost):
                    raise
        return self._zygote_starting(preload).result().fork(*child_limits())

    def _discard(self, preload: tuple[str, ...], zygote: Future[Zygote]) -> None:
        with self._lock:
            if self._zygotes.get(preload) is not zygote:
                return
            del self._zygotes[preload]
        for started in _started([zygote]):
            started.close()

    def _zygote_starting(self, preload: tuple[str, ...]) -> Future[Zygote]:
        with self._lock:
            if preload not in self._zygotes:
                self._zygotes[preload] = self._starting.submit(
                    improver_zygote, self.layers, preload
                )
            return self._zygotes[preload]


def _started(starting: Iterable[Future[P]]) -> list[P]:
    """What has started by now, and did not fail to."""
    return [one.result() for one in list(starting) if one.done() and one.exception() is None]
