"""Recording and resuming a run of many language model calls, with a model that answers at once.

The improver asks and scores, one after another, so each of its calls is a turn of its own. The run
is stopped after so many calls, then resumed: the time from there to the first call that is not
recorded is what replaying costs.
"""

import itertools
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import msgspec

from selftaught.budget import Account, Budget, RunAccount
from selftaught.errors import Interrupted
from selftaught.events import (
    Answered,
    AnyEvent,
    Evaluated,
    Improved,
    Requested,
    RunStarted,
)
from selftaught.improvement import PHASE
from selftaught.improver import ENTRY_POINT
from selftaught.language_model import Answer, Request
from selftaught.meta_utility import MetaUtility, job_key
from selftaught.models.broker import Broker
from selftaught.models.tariff import FREE_OF_CHARGE
from selftaught.pool import ImproveJob, ScoreJob, run_all
from selftaught.pools.recorded import RecordedPool
from selftaught.runs.config import RunConfig
from selftaught.runs.launch import resume, start, with_tasks
from selftaught.solution import Solution, extract_code
from selftaught.store.event_store import text_hash
from selftaught.store.journal import Journal
from selftaught.store.opening import open_store
from selftaught.task import Task
from selftaught.utility import Outcome, Returned, Scored

TASK = {
    "task.toml": """summary = "count"
[normalisation]
best = 1000000.0
[splits.val]
seed = 4321
instances = 1
[splits.test]
seed = 5678
instances = 1
""",
    "description.md": "Return a large number.",
    "solution.py": "def algorithm(x):\n    return x\n",
    "utility.py": '''"""What a program returns."""
from selftaught.utility import over_instances

def score(solution, split, seed):
    return over_instances(lambda x: float(solution.call("algorithm", x % 10)), split, seed)
''',
}
IMPROVER = """from helpers import extract_code

def improve_algorithm(initial_solution, utility, language_model):
    best, value = initial_solution, utility.initial
    for step in range({first}, {first} + language_model.budget):
        answer = language_model.prompt("An expert.", f"Step {{step}}: improve\\n{{best}}")[0]
        program = extract_code(answer)
        now = utility(program)
        if now > value:
            best, value = program, now
    return best
"""


class Counting:
    """Answers each request with another program, and stops the run at a given one."""

    name = "counting"
    is_language_model = True

    def __init__(self, stop: threading.Event, at: int) -> None:
        self._stop = stop
        self._at = at
        self.asked = 0
        self.first_at = 0.0
        self.step = -1

    def respond(self, request: Request, *, seed: int, occurrence: int, key: str) -> Answer:
        """Answer at once."""
        self.first_at = self.first_at or time.monotonic()
        self.asked += 1
        self.step = _step(request)
        if self.asked >= self._at:
            self._stop.set()
        return Answer(texts=(answer_to(request),))


def answer_to(request: Request) -> str:
    """Another program for each step."""
    step = _step(request)
    return f"```python\ndef algorithm(x):\n    return x + {step} % 97\n```\n"


def _step(request: Request) -> int:
    return int(request.message.partition(":")[0].removeprefix("Step "))


def write_task(folder: Path) -> Path:
    """The task's folder."""
    folder.mkdir()
    for name, text in TASK.items():
        (folder / name).write_text(text)
    return folder


def record(folder: Path, store: str, calls: int) -> float:
    """Record so many calls and stop; seconds that it took."""
    stop = threading.Event()
    budget = Budget(calls=calls + 10, responses=1, utility_calls=calls + 10)
    config = RunConfig(
        command="improve",
        tasks=(str(folder),),
        improvers=(("steps", IMPROVER.format(first=0)),),
        model="custom:counting",
        budget=budget,
    )
    began = time.monotonic()
    try:
        start(config, store, model=Counting(stop, calls), stop=stop)
    except Interrupted:
        return time.monotonic() - began
    raise SystemExit("The run was not stopped: it took fewer calls than it was to record.")


def replay(store: str) -> float:
    """Resume the last run; seconds from the call to the first request that is not recorded."""
    stop = threading.Event()
    model = Counting(stop, 1)
    with open_store(store, writable=False) as opened:
        events = opened.events(opened.resolve("latest"), ("answered",))
        last = deque((event for _, _, event in events), maxlen=1).pop()
        assert isinstance(last, Answered)
        last_step = int(opened.text(last.message).partition(":")[0].removeprefix("Step "))
    began = time.monotonic()
    try:
        resume("latest", store, model=model, stop=stop)
    except Interrupted:
        if model.step != last_step + 1:
            raise SystemExit(f"Step {model.step} was asked after step {last_step}.") from None
        return model.first_at - began
    raise SystemExit("The resumed run ended before it asked for anything new.")


def made_run(
    task: Task, jobs: int, calls: int
) -> tuple[RunConfig, Iterator[tuple[AnyEvent, tuple[str, ...]]]]:
    """A run of `improve`, killed before the last ten calls of its last job, without running it.

    Args:
        task: made by `write_task`.
        jobs: improvers, all but the last of which have ended.
        calls: of each.
    """
    improvers = [Solution(IMPROVER.format(first=n * 10_000_000), ENTRY_POINT) for n in range(jobs)]
    budget = Budget(calls=calls, responses=1, utility_calls=calls)
    config = with_tasks(
        RunConfig(
            command="improve",
            tasks=(task.reference,),
            improvers=tuple((f"steps{n}", one.source) for n, one in enumerate(improvers)),
            model="custom:counting",
            budget=budget,
        )
    )

    def events() -> Iterator[tuple[AnyEvent, tuple[str, ...]]]:
        yield RunStarted(config=msgspec.to_builtins(config)), ()
        yield _score(task, task.initial, -1.0)
        for number, improver in enumerate(improvers):
            is_last = number == jobs - 1
            yield from _job(task, improver, number, calls - 10 if is_last else calls)
            if not is_last:
                yield _ended(task, improver, number, calls)

    return config, events()


def _job(
    task: Task, improver: Solution, number: int, calls: int
) -> Iterator[tuple[AnyEvent, tuple[str, ...]]]:
    """What IMPROVER asks, and is told: each program is better than the one before."""
    job = job_key(PHASE, improver.hash, task.name, 0)
    best = task.initial
    for call in range(1, calls + 1):
        step = number * 10_000_000 + call - 1
        message = f"Step {step}: improve\n{best.source}"
        request = Request(expertise="An expert.", message=message, n_responses=1)
        text = answer_to(request)
        yield (
            Answered(
                job=job,
                content_hash=request.content_hash,
                occurrence=0,
                expertise=text_hash(request.expertise),
                message=text_hash(message),
                temperature=request.temperature,
                texts=(text_hash(text),),
                model="counting",
                prompt_tokens=100,
                completion_tokens=20,
            ),
            (request.expertise, message, text),
        )
        best = Solution(extract_code(text), task.initial.entry_point)
        yield _score(task, best, float(call))
        yield (
            Requested(
                job=job,
                call=call,
                solution=best.hash,
                outcome="scored",
                value=float(call),
                calls=call,
                responses=call,
            ),
            (),
        )


def _score(task: Task, program: Solution, value: float) -> tuple[AnyEvent, tuple[str, ...]]:
    outcome = Scored(value=value, values=(value,))
    event = Evaluated(
        task=task.key, solution=program.hash, split="val", repeat=0, outcome=outcome, seconds=0.01
    )
    return event, (program.source,)


def _ended(
    task: Task, improver: Solution, number: int, calls: int
) -> tuple[AnyEvent, tuple[str, ...]]:
    last = Request(expertise="", message=f"Step {number * 10_000_000 + calls - 1}:", n_responses=1)
    event = Improved(
        job=job_key(PHASE, improver.hash, task.name, 0),
        improver=improver.hash,
        initial=task.initial.hash,
        target=task.name,
        outcome=Returned(source=extract_code(answer_to(last))),
        calls=calls,
        responses=calls,
        utility_calls=calls,
    )
    return event, (improver.source, task.initial.source)


class _Unsandboxed:
    """A pool whose improvers are the loop of IMPROVER in this process; all else is a run's own."""

    slots = 2

    def __init__(self, numbers: "itertools.count[int]") -> None:
        self._numbers = numbers

    def score(self, job: ScoreJob) -> Outcome:
        """A number."""
        return Scored(value=float(len(job.solution.source) % 97), values=(0.5,) * 20)

    def improve(self, job: ImproveJob) -> Outcome:
        """Ask for programs and score them."""
        for _ in range(job.account.budget.calls):
            number = next(self._numbers)
            job.account.charge_call(6)
            job.ask(Request(expertise="", message=f"Improve {number}." * 20, n_responses=6))
            for place in range(6):
                job.account.charge_utility_call()
                job.utility(Solution(f"def algorithm(x):\n    return x + {number}.{place}\n" * 5))
        return Returned(source=f"def algorithm(x):\n    return {number}\n")

    def close(self) -> None:
        """Nothing to end."""


class _Ready:
    """A model that answers at once."""

    name = "ready"
    is_language_model = False

    def respond(self, request: Request, *, seed: int, occurrence: int, key: str) -> Answer:
        """As many texts as are wanted."""
        n = request.n_responses
        return Answer(texts=tuple(f"{request.message} Answer {i}. {key}" for i in range(n)))


def busy_run(store: str, events: int, task: Task, threads: int) -> tuple[int, float]:
    """Record about so many events through pool, broker and journal; their number and seconds.

    Args:
        store: where to.
        events: how many.
        task: whose programs are scored.
        threads: improve jobs at once.
    """
    with open_store(store, writable=True) as opened:
        journal = Journal(opened, opened.new_run({}, "busy"))
        pool = RecordedPool(_Unsandboxed(itertools.count()), journal, lambda: None)
        broker = Broker(_Ready(), journal, RunAccount(), lambda: None, FREE_OF_CHARGE)
        budget = Budget(calls=4, responses=6, utility_calls=24)
        meta = MetaUtility([task], repeats=1, budget=budget, pool=pool, ask=broker, seed=0)
        began = time.monotonic()
        made = 0

        def improve() -> None:
            nonlocal made
            while made < events:
                made += 4 + 2 * 24 + 1
                improver = Solution(f"# {made} {threading.get_ident()}", "improve_algorithm")
                job = meta.job_on_task(improver, task, "validation", 0, 0, Account(budget))
                pool.improve(job)
                broker.forget(job.key)

        run_all([improve] * threads)
        recorded = opened.run(journal.run).events
        seconds = time.monotonic() - began
        pool.close()
    return recorded, seconds
