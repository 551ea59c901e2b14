"""kill -9 at random moments, several times on one run, and one resume on top of another."""

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from chaos_run import Case, Driver, Whole, endpoint, until
from process_tree import below, processes

pytestmark = pytest.mark.slow

KILLS = 5


@pytest.mark.parametrize("seed", range(10))
def test_a_run_killed_five_times_ends_as_an_undisturbed_one(
    seed: int, driver: Driver, whole: Callable[..., Whole], tmp_path: Path
) -> None:
    luck = random.Random(f"chaos {seed}")
    with endpoint() as server:
        case = Case(driver, tmp_path, server)
        running = case.start()
        children: set[str] = set()
        killed = 0
        for kill in range(KILLS):
            # The first ones from the very beginning on, the others once the run goes on.
            if kill:
                resumed = len(case.rows)
                until(lambda before=resumed: len(case.raw()) > before)  # type: ignore[misc]
            time.sleep(luck.uniform(0.0, 0.3))
            children |= below(running.pid)
            os.kill(running.pid, signal.SIGKILL)
            # Where it was faster, a run that has ended is resumed.
            killed += running.end().was_killed
            case.left_behind()
            running = case.resume() if case.has_run() else case.start()
        document = running.end().document
        case.check(document, whole())
        assert killed >= 2, "it ended before it could be killed: nothing was tested"
        until(lambda: not processes().keys() & children, 10.0)


def test_the_processes_of_a_killed_run_are_gone_before_it_is_resumed(
    driver: Driver, tmp_path: Path
) -> None:
    with endpoint() as server:
        case = Case(driver, tmp_path, server)
        death = {"kind": "evaluated", "number": 5, "when": "after"}
        running = case.start(death=death)
        started: set[str] = set()
        until(lambda: started.update(below(running.pid)) or len(started) >= 4)  # type: ignore[func-returns-value]
        case.killed(running)
        until(lambda: not processes().keys() & started, 10.0)
