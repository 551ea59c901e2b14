"""Fixtures that many tests share: a small task, a pool, a scripted improver's job."""

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from selftaught.pools.local import LocalPool
from selftaught.task import Task

if TYPE_CHECKING:
    from chaos_run import Driver, Whole

TOY_FILES = {
    "task.toml": """
        summary = "add seven"
        [normalisation]
        best = 0.0
        worst = -10.0
        [limits]
        time_s = 0.3
        work = 100000
        [splits.val]
        seed = 4321
        instances = 5
        [splits.test]
        seed = 5678
        instances = 8
    """,
    "solution.py": """
        def algorithm(x):
            return x + 3
    """,
    "description.md": "Return a number close to x + 7.",
    "utility.py": '''
        """Minus the distance to x + 7."""
        from selftaught.utility import InvalidAnswer, over_instances

        def score(solution, split, seed):
            def one(instance_seed):
                x = instance_seed % 10
                answer = solution.call("algorithm", x)
                if isinstance(answer, bool) or not isinstance(answer, (int, float)):
                    raise InvalidAnswer("a number is wanted")
                return -abs(answer - x - 7)

            return over_instances(one, split, seed, worst=-10.0)
    ''',
    "README.md": "A toy.",
}


def write_toy(folder: Path) -> Path:
    """Write the toy task's folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in TOY_FILES.items():
        (folder / name).write_text(textwrap.dedent(text).lstrip(), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy task's folder: scores -4 at first, 0 at best."""
    return write_toy(tmp_path_factory.mktemp("tasks") / "toy")


@pytest.fixture(scope="session")
def toy(toy_folder: Path) -> Task:
    """The toy task, loaded."""
    return Task.load(str(toy_folder))


@pytest.fixture(scope="session")
def pool() -> Iterator[LocalPool]:
    """One pool for all tests of a worker: starting one costs half a second."""
    made = LocalPool(2)
    yield made
    made.close()


@pytest.fixture(scope="session")
def driver() -> "Iterator[Driver]":
    """Starts command lines that die where they are told to; one for each worker."""
    from chaos_run import Driver

    made = Driver()
    yield made
    made.close()


@pytest.fixture(scope="session")
def whole(driver: "Driver", tmp_path_factory: pytest.TempPathFactory) -> "Callable[..., Whole]":
    """What a run with some options comes to undisturbed; run once for each worker."""
    from chaos_run import Whole

    known: dict[tuple[str, ...], Whole] = {}

    def get(*options: str) -> Whole:
        if options not in known:
            known[options] = Whole.of(driver, tmp_path_factory.mktemp("whole"), *options)
        return known[options]

    return get
