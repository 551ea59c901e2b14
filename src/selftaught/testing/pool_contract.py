"""What every pool must do, as a pytest class that a pool's own tests subclass."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from selftaught.budget import Account, Budget
from selftaught.errors import ModelUnreachable, TaskError
from selftaught.language_model import Answer, Request
from selftaught.pool import AheadPool, Attempt, ImproveJob, ScoreJob, Underway
from selftaught.solution import Solution
from selftaught.task import Task
from selftaught.utility import Outcome, Returned, Scored, kind

_TASK = {
    "task.toml": """summary = "add seven"
[normalisation]
best = 0.0
worst = -10.0
[limits]
time_s = 2.0
work = 100000
[splits.val]
seed = 4321
instances = 5
[splits.test]
seed = 5678
instances = 8
""",
    "solution.py": "def algorithm(x):\n    return x + 3\n",
    "description.md": "Return a number close to x + 7.",
    "utility.py": '''"""Minus the distance to x + 7."""
from selftaught.utility import over_instances

def score(solution, split, seed):
    def one(instance_seed):
        x = instance_seed % 10
        if solution.call("algorithm", x) == "break":
            raise RuntimeError("the utility broke")
        return -abs(float(solution.call("algorithm", x)) - x - 7)

    return over_instances(one, split, seed, worst=-10.0)
''',
}
_HEAD = "def improve_algorithm(initial_solution, utility, language_model):\n"


def contract_task(folder: Path) -> Task:
    """A small task, written into a folder: programs score minus their distance to x + 7."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in _TASK.items():
        (folder / name).write_text(text, encoding="utf-8")
    return Task.load(str(folder))


def adds(number: float) -> str:
    """A program for the contract's task; 7 is best."""
    return f"def algorithm(x):\n    return x + {number}\n"


def improve_job(
    pool: AheadPool,
    task: Task,
    body: str,
    *,
    key: str = "contract",
    ask: Callable[[Request], Answer] | None = None,
    account: Account | None = None,
    on_attempt: Callable[[Attempt], None] = lambda attempt: None,
) -> ImproveJob:
    """The job of an improver with a body, whose scores are computed in the pool."""

    def score(solution: Solution) -> Outcome:
        return pool.score(ScoreJob(task=task, solution=solution, split="val"))

    def echo(request: Request) -> Answer:
        return Answer(texts=(request.message,) * request.n_responses)

    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return ImproveJob(
        key=key,
        improver=Solution(_HEAD + lines, "improve_algorithm"),
        initial=task.initial,
        target=task.name,
        utility_text=task.utility_text,
        utility=score,
        initial_outcome=lambda: score(task.initial),
        worst=task.worst,
        ask=ask or echo,
        account=account or Account(Budget()),
        seed=7,
        on_attempt=on_attempt,
    )


class PoolContract:
    """Subclass it, name the subclass Test..., and give it a fixture `contract_pool`."""

    @pytest.fixture
    def task(self, tmp_path: Path) -> Task:
        """A small task in a folder of its own."""
        return contract_task(tmp_path / "seven")

    def test_a_program_is_scored(self, contract_pool: AheadPool, task: Task) -> None:
        """On the instances asked for, higher is better."""
        outcome = contract_pool.score(ScoreJob(task=task, solution=task.initial, split="val"))
        assert isinstance(outcome, Scored)
        assert outcome.value == -4.0
        solved = ScoreJob(task=task, solution=Solution(adds(7)), split="test", repeat=2)
        best = contract_pool.score(solved)
        assert isinstance(best, Scored)
        assert best.value == 0.0

    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            ("def algorithm(x):\n    while True: pass\n", "timed_out"),
            ("def algorithm(x):\n    raise ValueError('no')\n", "failed"),
            ("import os\nos._exit(3)\n", "failed"),
            ("nothing = 1\n", "failed"),
        ],
    )
    def test_a_failure_is_an_outcome(
        self, contract_pool: AheadPool, task: Task, source: str, expected: str
    ) -> None:
        """Whatever a program does is no exception in the host."""
        job = ScoreJob(task=task, solution=Solution(source), split="val")
        outcome = contract_pool.score(job)
        assert kind(outcome) == expected

    def test_scores_at_once_do_not_mix(self, contract_pool: AheadPool, task: Task) -> None:
        """More threads than slots, each with a program of its own."""

        def score(number: int) -> float:
            job = ScoreJob(task=task, solution=Solution(adds(number)), split="val")
            outcome = contract_pool.score(job)
            assert isinstance(outcome, Scored)
            return outcome.value

        with ThreadPoolExecutor(12) as threads:
            values = list(threads.map(score, range(24)))
        assert values == [-float(abs(number - 7)) for number in range(24)]

    def test_an_improver_is_served(self, contract_pool: AheadPool, task: Task) -> None:
        """It asks, scores and returns; the account in the host pays."""
        account = Account(Budget(calls=2, responses=3, utility_calls=4))
        outcome = contract_pool.improve(
            improve_job(
                contract_pool,
                task,
                "texts = language_model.batch_prompt('e', ['5', '6', '9'])\n"
                "made = [initial_solution.replace('3', text) for text in texts]\n"
                "return max(made, key=utility)",
                account=account,
            )
        )
        assert outcome == Returned(source=adds(6))
        assert (account.calls, account.responses, account.utility_calls) == (1, 3, 3)

    def test_an_improver_that_fails_is_an_outcome(
        self, contract_pool: AheadPool, task: Task
    ) -> None:
        """One that raises, and one that returns no text."""
        for body, expected in (("raise ValueError('no')", "failed"), ("return 7", "invalid_value")):
            outcome = contract_pool.improve(improve_job(contract_pool, task, body))
            assert kind(outcome) == expected

    def test_what_a_model_cannot_answer_is_raised(
        self, contract_pool: AheadPool, task: Task
    ) -> None:
        """It ends the run, and not the improver alone."""

        def broken(request: Request) -> Answer:
            raise ModelUnreachable("the endpoint is gone")

        job = improve_job(contract_pool, task, "return language_model.prompt('e', 'm')", ask=broken)
        with pytest.raises(ModelUnreachable, match="the endpoint is gone"):
            contract_pool.improve(job)

    def test_who_waits_holds_no_slot(self, contract_pool: AheadPool, task: Task) -> None:
        """More improvers than slots wait for the model at once, and for one another's scores."""
        count = contract_pool.slots + 3
        together = threading.Barrier(count, timeout=60)

        def ask(request: Request) -> Answer:
            together.wait()
            return Answer(texts=(request.message,) * request.n_responses)

        body = "text = language_model.prompt('e', initial_solution)[0]\nutility(text)\nreturn text"

        def improve(number: int) -> Outcome:
            job = improve_job(contract_pool, task, body, key=f"contract/{number}", ask=ask)
            return contract_pool.improve(job)

        with ThreadPoolExecutor(count) as threads:
            outcomes = list(threads.map(improve, range(count)))
        assert {kind(outcome) for outcome in outcomes} == {"returned"}

    def test_what_improvers_try_is_told(self, contract_pool: AheadPool, task: Task) -> None:
        """And stopped."""
        attempts: list[Attempt] = []
        body = "try:\n    open('/etc/passwd')\nexcept OSError:\n    return 'refused'\nreturn 'read'"
        job = improve_job(contract_pool, task, body, on_attempt=attempts.append)
        assert contract_pool.improve(job) == Returned(source="refused")
        assert any("/etc/passwd" in attempt.detail for attempt in attempts)

    def test_what_is_not_claimed_is_not_scored_ahead(
        self, contract_pool: AheadPool, task: Task
    ) -> None:
        """And what is claimed is."""
        job = ScoreJob(task=task, solution=task.initial, split="val")
        if contract_pool.slots < 2:
            pytest.skip("one slot: nothing is scored ahead")
        assert contract_pool.score_ahead(job, lambda underway: False) is None
        claimed: list[Underway] = []

        def claim(underway: Underway) -> bool:
            claimed.append(underway)
            underway.promote()
            return True

        assert isinstance(contract_pool.score_ahead(job, claim), Scored)
        assert len(claimed) == 1

    def test_a_broken_task_is_told_as_such(self, contract_pool: AheadPool, tmp_path: Path) -> None:
        """Its own initial solution breaks the utility: no program's fault."""
        task = contract_task(tmp_path / "broken")
        (tmp_path / "broken" / "solution.py").write_text("def algorithm(x):\n    return 'break'\n")
        task = Task.load(task.folder)
        job = ScoreJob(task=task, solution=task.initial, split="val")
        with pytest.raises(TaskError, match="the utility broke"):
            contract_pool.score(job)
