"""Improvers in the sandbox: the API they get, and what becomes of hostile ones."""

import ast
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from selftaught.budget import Account, Budget
from selftaught.errors import ModelUnreachable, ProcessLost, RequestRejected
from selftaught.improver import improver_names, load_improver
from selftaught.language_model import Answer, Request
from selftaught.pool import IMPROVER_LIMITS, Attempt, ImproveJob, ScoreJob
from selftaught.pools.local import LocalPool
from selftaught.sandbox.zygote import Zygote
from selftaught.solution import Solution
from selftaught.task import Task
from selftaught.utility import Outcome, Returned, Scored, kind

PROGRAMS = Path(__file__).parent / "programs"


def climbing(request: Request) -> Answer:
    """Answers a program with a constant a little above the prompt's: a landscape to climb."""
    text = request.message
    now = float(text.split("return x + ")[1].split()[0].strip("`"))
    steps = [now + 0.5 * (i % 4) for i in range(request.n_responses)]
    return Answer(
        texts=tuple(f"Idea.\n```python\ndef algorithm(x):\n    return x + {s}\n```" for s in steps)
    )


class Bench:
    """Runs improvers on the toy task and keeps what they spent and tried."""

    def __init__(self, pool: LocalPool, task: Task) -> None:
        self.pool, self.task = pool, task
        self.account = Account(Budget())
        self.attempts: list[Attempt] = []

    def improve(
        self,
        source: str,
        *,
        budget: Budget | None = None,
        ask: Callable[[Request], Answer] = climbing,
    ) -> Outcome:
        self.account = Account(budget or Budget())
        self.attempts = []

        def score(solution: Solution) -> Outcome:
            return self.pool.score(ScoreJob(task=self.task, solution=solution, split="val"))

        job = ImproveJob(
            key="test",
            improver=Solution(source, "improve_algorithm"),
            initial=self.task.initial,
            target=self.task.name,
            utility_text=self.task.utility_text,
            utility=score,
            initial_outcome=lambda: score(self.task.initial),
            worst=self.task.worst,
            ask=ask,
            account=self.account,
            seed=7,
            on_attempt=self.attempts.append,
        )
        return self.pool.improve(job)

    def body(self, *lines: str, budget: Budget | None = None) -> Outcome:
        head = "def improve_algorithm(initial_solution, utility, language_model):\n"
        return self.improve(head + "".join(f"    {line}\n" for line in lines), budget=budget)


@pytest.fixture
def bench(pool: LocalPool, toy: Task) -> Bench:
    return Bench(pool, toy)


HOSTILE = {
    "loops forever": ("timed_out", ["while True: pass"]),
    "exits": ("failed", ["import os; os._exit(0)"]),
    "allocates 32 GiB": ("out_of_memory", ["bytearray(32 * 2**30)"]),
    "prints 1 GB": ("returned", ["for _ in range(1024): print('x' * 2**20)",
                                 "return initial_solution"]),
    "opens a socket": ("refused", ["import socket; socket.create_connection(('127.0.0.1', 80))"]),
    "reads /etc/passwd": ("refused", ["return open('/etc/passwd').read()"]),
    "builds its own language model": (
        "refused", ["from language_model import LanguageModel; LanguageModel(budget=10**6)"]),
    "asks beyond its budget": (
        "out_of_budget", ["while True: language_model.prompt('e', 'return x + 3')"]),
    "sends what is no request": ("refused", ["utility._channel.request('open', path='/')"]),
    "forges a frame": ("invalid_value", ["import os; os.write(3, b'\\xff' * 64)"]),
    "names an impossible temperature": (
        "refused", ["utility._channel.request('ask', expertise='e', messages=['m'], temperature=10**400)"]),
    "prompts with half a character": (
        "refused", ["return language_model.prompt('e', 'a \\ud800 b')[0]"]),
    "returns a text without end": ("invalid_value", ["return 'x = 1\\n' * 1_000_000"]),
    "returns half a character": ("invalid_value", ["return '\\ud800'"]),
    "returns what no parser takes": ("returned", ["return '-' * 150_000 + '1'"]),
    "raises half a character": ("failed", ["raise ValueError('\\ud800')"]),
    "returns a number": ("invalid_value", ["return 3"]),
    "returns nothing": ("invalid_value", ["return None"]),
    "does not compile": ("failed", ["return ("]),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_improver_ends_with_a_named_outcome(bench: Bench, name: str) -> None:
    expected, lines = HOSTILE[name]
    outcome = bench.body(*lines)
    assert kind(outcome) == expected, outcome
    assert bench.account.calls <= 4
    assert bench.account.utility_calls <= 25


def test_resetting_the_counts_changes_nothing_and_is_reported(bench: Bench) -> None:
    outcome = bench.body(
        "for _ in range(40):",
        "    utility.uses = 0",
        "    utility.budget = 10**6",
        "    utility(initial_solution)",
        "return initial_solution",
    )
    assert isinstance(outcome, Returned)
    assert bench.account.utility_calls == 25
    assert bench.account.refused_utility_calls == 15
    assert {attempt.what for attempt in bench.attempts} == {"budget"}


def test_ten_thousand_scores_are_asked_and_twenty_five_are_given(bench: Bench) -> None:
    outcome = bench.body(
        "scores = [utility(initial_solution) for _ in range(10_000)]",
        "return f'{len(set(scores[:25]))} {set(scores[25:])}'",
    )
    assert outcome == Returned(source="1 {-10.0}")
    assert bench.account.utility_calls == 25
    assert bench.account.refused_utility_calls == 9_975


def test_a_sleeping_improver_is_left_alone_while_it_is_within_its_time(bench: Bench) -> None:
    outcome = bench.body("import time; time.sleep(0.5); return initial_solution")
    assert isinstance(outcome, Returned)


def test_the_whole_api_answers(bench: Bench) -> None:
    outcome = bench.body(
        "from helpers import extract_code",
        "assert utility.budget == 25 and utility.uses == 0 and utility.remaining == 25",
        "assert language_model.budget == 4 and language_model.max_responses_per_call == 6",
        "assert utility.initial == -4.0, utility.initial",
        "answers = language_model.batch_prompt('e', [initial_solution] * 3, temperature=0.9)",
        "codes = extract_code(answers)",
        "assert len(codes) == 3 and language_model.remaining == 3",
        "one = language_model.prompt('e', initial_solution)",
        "assert isinstance(one, list) and len(one) == 1",
        "assert utility.map(codes) == [-4.0, -3.5, -3.0], utility.map(codes)",
        "full = utility.evaluate(codes[0])",
        "assert full.outcome == 'scored' and full.value == -4.0 and full.feedback == ''",
        "bad = utility.evaluate('def algorithm(x): return None')",
        "assert bad.outcome == 'invalid_value' and bad.value == -10.0 and 'number' in bad.feedback",
        "assert utility(None) == -10.0 and utility('') == -10.0",
        "assert utility.uses == 7 and utility.remaining == 18",
        "assert 'close to x + 7' in utility.str",
        "return codes[2]",
    )
    assert outcome == Returned(source="def algorithm(x):\n    return x + 4.0")


def test_more_responses_than_a_call_may_have_are_refused(bench: Bench) -> None:
    outcome = bench.body("return language_model.batch_prompt('e', [initial_solution] * 7)[0]")
    assert kind(outcome) == "out_of_budget"
    assert bench.account.calls == 0


def test_forged_reports_of_attempts_are_counted_and_end_the_improver(bench: Bench) -> None:
    outcome = bench.body(
        "import os, json, struct",
        "note = json.dumps({'note': 'open', 'detail': 'x'}).encode()",
        "frame = struct.pack('>II', len(note), 0) + note",
        "while True: os.write(3, frame * 100)",
    )
    assert kind(outcome) == "invalid_value"
    assert "reports of attempts" in outcome.reason  # type: ignore[union-attr]
    assert len(bench.attempts) <= 50


def test_an_improver_that_never_reads_does_not_stop_its_host(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selftaught.sandbox.zygote.SEND_S", 1.0)
    outcome = bench.body(
        "import os, json, struct",
        "ask = json.dumps({'ask': 1, 'method': 'initial', 'params': {}}).encode()",
        "os.write(3, (struct.pack('>II', len(ask), 0) + ask) * 3000)",
        "import time; time.sleep(1000)",
    )
    assert kind(outcome) == "timed_out"


def test_the_time_between_requests_adds_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selftaught.pools.turns.OWN_WALL_S", 1.0)
    outcome = bench.body("import time", "while True:", "    time.sleep(0.2); utility.initial")
    assert kind(outcome) == "timed_out"


def test_long_answers_in_any_script_reach_the_improver(bench: Bench) -> None:
    outcome = bench.improve(
        "def improve_algorithm(initial_solution, utility, language_model):\n"
        "    answers = language_model.batch_prompt('e', [initial_solution] * 6)\n"
        "    return str(min(map(len, answers)))\n",
        ask=lambda request: Answer(texts=("é" * 400_000,) * request.n_responses),
    )
    assert outcome == Returned(source="300000")


def test_a_refused_call_can_be_caught(bench: Bench) -> None:
    outcome = bench.body(
        "asked = 0",
        "try:",
        "    while True:",
        "        language_model.prompt('e', initial_solution)",
        "        asked += 1",
        "except Exception as refusal:",
        "    return f'{asked} {type(refusal).__name__}'",
    )
    assert outcome == Returned(source="4 BudgetSpent")


def test_scores_asked_from_threads_come_back_to_the_right_thread(bench: Bench) -> None:
    outcome = bench.body(
        "from concurrent.futures import ThreadPoolExecutor",
        "texts = [f'def algorithm(x): return x + {n}' for n in range(8)]",
        "with ThreadPoolExecutor(8) as threads:",
        "    return repr(list(threads.map(utility, texts)))",
    )
    assert outcome == Returned(source=repr([float(n - 7) for n in range(8)]))


def test_a_pool_with_one_slot_completes_nested_work(toy: Task) -> None:
    """The waiting improver holds no slot, or this would never end."""
    single = LocalPool(1)
    try:
        outcome = Bench(single, toy).body(
            "return max([f'def algorithm(x): return x + {n}' for n in range(9)], key=utility)"
        )
    finally:
        single.close()
    assert outcome == Returned(source="def algorithm(x): return x + 7")


def test_a_model_that_cannot_answer_ends_the_run_and_not_the_improver(bench: Bench) -> None:
    def broken(request: Request) -> Answer:
        raise ModelUnreachable("the endpoint is gone")

    with pytest.raises(ModelUnreachable, match="gone"):
        bench.improve(load_improver("seed").source, ask=broken)


@pytest.mark.parametrize("name", improver_names())
def test_every_shipped_improver_runs_in_the_sandbox(bench: Bench, name: str) -> None:
    outcome = bench.improve(load_improver(name).source)
    assert isinstance(outcome, Returned), outcome
    ast.parse(outcome.source)
    assert bench.account.refused_utility_calls == 0
    assert bench.attempts == []


@pytest.mark.parametrize("name", ["published_seed", "dynamic_temperature"])
def test_improvers_of_the_published_shape_run_unmodified(bench: Bench, name: str) -> None:
    outcome = bench.improve((PROGRAMS / f"{name}.py").read_text())
    assert isinstance(outcome, Returned), outcome
    scored = bench.pool.score(
        ScoreJob(task=bench.task, solution=Solution(outcome.source), split="val")
    )
    assert isinstance(scored, Scored)
    assert scored.value > -4.0
    assert bench.attempts == []


def test_a_prompt_that_the_model_rejects_is_the_improvers_affair(bench: Bench) -> None:
    def picky(request: Request) -> Answer:
        if len(request.message) > 100:
            raise RequestRejected("the prompt is too long")
        return climbing(request)

    outcome = bench.improve(
        "def improve_algorithm(initial_solution, utility, language_model):\n"
        "    try:\n"
        "        language_model.prompt('e', initial_solution + '#' * 100)\n"
        "    except Exception as rejection:\n"
        "        return f'{type(rejection).__name__}: {rejection}'\n",
        ask=picky,
    )
    assert outcome == Returned(source="RequestRejected: the prompt is too long")


def test_numpy_can_be_imported_by_an_improver_that_does_not_name_it(bench: Bench) -> None:
    """It is loaded beforehand only for those that do; its luck repeats either way."""
    lines = [
        "numpy = __import__('num' + 'py')",
        "return f'# {numpy.random.rand()} {numpy.random.default_rng().random()}'",
    ]
    outcome = bench.body(*lines)
    assert isinstance(outcome, Returned)
    assert outcome == bench.body(*lines)
    named = bench.body("import numpy", "return '# ' + numpy.__version__")
    assert isinstance(named, Returned)


def end_zygote(zygote: Zygote) -> None:
    """Kill the process that children are forked from, and wait until it is gone."""
    pid = zygote._process.pid
    (inner,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(int(inner), signal.SIGKILL)
    zygote._process.wait()


def test_an_improver_whose_zygote_is_killed_is_not_charged_for_it(toy: Task) -> None:
    single = LocalPool(1)

    def ending(request: Request) -> Answer:
        end_zygote(single.machine._zygotes[()].result())
        return climbing(request)

    try:
        with pytest.raises(ProcessLost, match="zygote ended: it was killed by SIGKILL"):
            Bench(single, toy).improve(
                "def improve_algorithm(initial_solution, utility, language_model):\n"
                "    return language_model.prompt('e', initial_solution)[0]\n",
                ask=ending,
            )
    finally:
        single.close()


def test_a_killed_zygote_costs_no_improver_its_outcome(toy: Task) -> None:
    single = LocalPool(1)
    try:
        first = Bench(single, toy).body("return initial_solution")
        end_zygote(single.machine._zygotes[()].result())
        assert Bench(single, toy).body("return initial_solution") == first
    finally:
        single.close()


def test_a_thread_that_computes_while_the_host_serves_is_ended(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = msgspec.structs.replace(IMPROVER_LIMITS, time_s=0.2, work=0)
    monkeypatch.setattr("selftaught.pools.turns.IMPROVER_LIMITS", limits)
    monkeypatch.setattr("selftaught.pools.turns.LOAD_CPU_S", 0.5)

    def slow(request: Request) -> Answer:
        # Twice what the kernel gives the child, if it has half a core.
        time.sleep(4.0)
        return climbing(request)

    outcome = bench.improve(
        "import threading\n"
        "def spin():\n"
        "    while True: pass\n"
        "def improve_algorithm(initial_solution, utility, language_model):\n"
        "    threading.Thread(target=spin, daemon=True).start()\n"
        "    language_model.prompt('e', initial_solution)\n"
        "    return initial_solution\n",
        ask=slow,
    )
    assert kind(outcome) == "timed_out"
    assert "CPU time" in outcome.reason  # type: ignore[union-attr]
