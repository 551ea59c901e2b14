"""What one machine runs jobs with: its evaluators, and the zygotes of improvers."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from importlib.resources import files
from typing import Protocol, TypeVar

from selftaught.errors import SandboxUnavailable
from selftaught.pool import Attempt, ScoreJob
from selftaught.pools.evaluator_process import EvaluatorProcess
from selftaught.pools.turns import SandboxedTurns, Turns, child_limits
from selftaught.sandbox.grant import Grant, grant_for
from selftaught.sandbox.zygote import Child, Zygote
from selftaught.task import Task
from selftaught.utility import Outcome

P = TypeVar("P")

# Improvers may import it; few do, and it takes longer to load than all else that they need.
IMPROVER_MODULES = ("numpy",)
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
        layers: of the sandbox.
        allow_network: the operator agrees that candidates reach the network where their task
            permits it.
    """

    def __init__(self, layers: tuple[str, ...], *, allow_network: bool = False) -> None:
        self.layers = layers
        self._allow_network = allow_network
        self._grants: dict[str, Grant] = {}
        self._lock = threading.Lock()
        self._idle_evaluators: list[Future[EvaluatorProcess]] = []
        self._all_evaluators: list[Future[EvaluatorProcess]] = []
        self._zygotes: dict[tuple[str, ...], Future[Zygote]] = {}
        self._in_use = 0
        self._is_closed = False
        # What every run needs starts at once, while the host loads its own parts.
        self._starting = ThreadPoolExecutor(thread_name_prefix="starting")
        self._zygote_starting(())
        self._idle_evaluators.append(self._evaluator_starting())

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
        self._is_closed = True
        deadline = time.monotonic() + _CLOSING_S
        while self._in_use and time.monotonic() < deadline:
            # Again and again: one may have been starting.
            for evaluator in _started(self._all_evaluators):
                evaluator.kill()
            time.sleep(0.005)
        self._starting.shutdown()
        for evaluator in _started(self._all_evaluators):
            evaluator.close()
        for zygote in _started(self._zygotes.values()):
            zygote.close()

    def _granted(self, task: Task) -> Grant:
        # Two threads may both look: they find the same.
        key = f"{task.folder} {task.digest}"
        if key not in self._grants:
            self._grants[key] = grant_for(task, self.layers, allow_network=self._allow_network)
        return self._grants[key]

    @contextmanager
    def _evaluator(self) -> Iterator[EvaluatorProcess]:
        """Have an evaluator to oneself. There are never more than scores at once."""
        with self._lock:
            if self._is_closed:
                raise SandboxUnavailable("The pool is closed.")
            self._in_use += 1
            mine = self._idle_evaluators.pop() if self._idle_evaluators else None
        if mine is None:
            mine = self._evaluator_starting()
        is_usable = True
        try:
            yield mine.result()
        except SandboxUnavailable:
            # It was ended, or could not be started again.
            is_usable = False
            raise
        finally:
            self._give_back(mine, is_usable)

    def _give_back(self, mine: Future[EvaluatorProcess], is_usable: bool) -> None:
        try:
            with self._lock:
                if is_usable and mine.exception() is None and not mine.result().is_killed:
                    self._idle_evaluators.append(mine)
                    return
                self._all_evaluators.remove(mine)
            for evaluator in _started([mine]):
                evaluator.close()
        finally:
            with self._lock:
                self._in_use -= 1

    def _evaluator_starting(self) -> Future[EvaluatorProcess]:
        evaluator = self._starting.submit(EvaluatorProcess, self.layers)
        with self._lock:
            self._all_evaluators.append(evaluator)
        return evaluator

    def _fork(self, improver: str) -> Child:
        preload = tuple(name for name in IMPROVER_MODULES if name in improver)
        zygote = self._zygote_starting(preload).result()
        try:
            return zygote.fork(*child_limits())
        except SandboxUnavailable:
            # Once may be the machine's doing.
            self._discard(preload, zygote)
            return self._zygote_starting(preload).result().fork(*child_limits())

    def _discard(self, preload: tuple[str, ...], zygote: Zygote) -> None:
        with self._lock:
            current = self._zygotes.get(preload)
            if current is None or zygote not in _started([current]):
                return
            del self._zygotes[preload]
        zygote.close()

    def _zygote_starting(self, preload: tuple[str, ...]) -> Future[Zygote]:
        with self._lock:
            if preload not in self._zygotes:
                fences = (files("selftaught") / "fences.py").read_text(encoding="utf-8")
                self._zygotes[preload] = self._starting.submit(
                    Zygote, self.layers, IMPROVER_MODULES, {"helpers": fences}, preload
                )
            return self._zygotes[preload]


def _started(starting: Iterable[Future[P]]) -> list[P]:
    """What has started by now, and did not fail to."""
    return [one.result() for one in list(starting) if one.done() and one.exception() is None]
