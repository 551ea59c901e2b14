"""Scoring ahead changes when things are scored and nothing else."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import selftaught as st
from selftaught.budget import Account, Budget
from selftaught.errors import Interrupted
from selftaught.events import Answered, AnyEvent, Evaluated, Requested
from selftaught.history import read_history
from selftaught.improver import load_improver
from selftaught.language_model import Answer, Request
from selftaught.pool import Claim, ImproveJob, ScoreJob
from selftaught.pools import gated
from selftaught.pools.gate import Gate, Urgency
from selftaught.pools.recorded import RecordedPool
from selftaught.pools.speculation import Guess, Guesses, Tally, program_in
from selftaught.runs.config import RunConfig
from selftaught.runs.launch import resume, start
from selftaught.runs.result import Run, Watch
from selftaught.solution import Solution
from selftaught.store.journal import Journal
from selftaught.store.sqlite import SQLiteStore
from selftaught.utility import Outcome, Returned, Scored

BUDGET = Budget(calls=3, responses=4, utility_calls=7)
# Asks for scores of its own making before, between and after those of the answers.
MIXED = """
from helpers import extract_code

def improve_algorithm(initial_solution, utility, language_model):
    best = initial_solution
    for _ in range(language_model.budget):
        answers = extract_code(language_model.prompt("e", best, n_responses=4))
        texts = [best + "# own\\n", *[a for a in answers[1:] if a]]
        best = max(texts, key=utility)
    return best
"""


class Slowed:
    """The mutation proposer, with a moment between its answers and the improver."""

    name = "slowed"
    is_language_model = False

    def __init__(self) -> None:
        from selftaught.mutation.proposer import MutationProposer

        self._proposer = MutationProposer()
        self.asked: list[str] = []

    def respond(self, request: Request, *, seed: int, occurrence: int, key: str) -> Answer:
        self.asked.append(key)
        return self._proposer.respond(request, seed=seed, occurrence=occurrence, key=key)


def config(folder: Path, **changes: object) -> RunConfig:
    settings: dict[str, object] = {
        "command": "improve",
        "tasks": (str(folder),),
        "improvers": (
            ("mixed", MIXED),
            *((n, load_improver(n).source) for n in ("seed", "greedy", "identity", "best_of_n")),
        ),
        "budget": BUDGET,
        "meta_budget": BUDGET,
        "slots": 2,
        "seed": 5,
    }
    return RunConfig(**{**settings, **changes})  # type: ignore[arg-type]


def result_of(run: Run) -> object:
    return (
        [(i.name, i.outcome, i.validation, i.sealed, i.utility_calls) for i in run.improvements],
        [(r.improver.hash, r.accepted, r.validation, r.sealed) for r in run.rounds],
        [(row.name, row.measured) for row in run.rows],
    )


def requests(events: list[AnyEvent]) -> list[tuple[str, int, str, str, float]]:
    return sorted(
        (e.job, e.call, e.solution, e.outcome, e.value) for e in events if isinstance(e, Requested)
    )


def run_with(speculate: bool, slots: int, folder: Path, store: Path, **changes: object) -> object:
    events: list[AnyEvent] = []
    run = start(
        config(folder, speculate=speculate, slots=slots, **changes),
        str(store),
        watch=Watch(on_event=events.append),
        model=Slowed(),
    )
    return run, requests(events)


def test_results_and_what_was_charged_do_not_depend_on_it(toy_folder: Path, tmp_path: Path) -> None:
    plain, charged = run_with(False, 2, toy_folder, tmp_path / "plain.db")  # type: ignore[misc]
    assert plain.spent["speculated"] == 0
    for slots in (1, 2, 4):
        store = tmp_path / f"{slots}.db"
        ahead, also_charged = run_with(True, slots, toy_folder, store)  # type: ignore[misc]
        assert result_of(ahead) == result_of(plain)
        assert also_charged == charged
        # The last slot is never given to it.
        assert (ahead.spent["speculated"] > 0) == (slots > 1)


def test_a_whole_run_of_stop_does_not_depend_on_it(toy_folder: Path, tmp_path: Path) -> None:
    changes = {
        "command": "run",
        "rounds": 1,
        "improvers": (("seed", load_improver("seed").source),),
    }
    runs = [
        run_with(speculate, 2, toy_folder, tmp_path / f"{speculate}.db", **changes)
        for speculate in (True, False)
    ]
    assert result_of(runs[0][0]) == result_of(runs[1][0])  # type: ignore[index]
    assert runs[0][1] == runs[1][1]  # type: ignore[index]


def test_what_was_scored_ahead_is_told_and_shown(toy_folder: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "s.db")
    run = start(config(toy_folder), store, model=Slowed())
    spent = run.spent
    assert spent["speculated"] == spent["speculated_used"] + spent["speculated_wasted"]
    with SQLiteStore.open(store, writable=False) as opened:
        shown = read_history(opened, "latest").speculated
    assert (shown.begun, shown.used) == (spent["speculated"], spent["speculated_used"])
    assert shown.used_s + shown.wasted_s > 0


def test_scores_made_ahead_are_found_again(toy_folder: Path, tmp_path: Path) -> None:
    """Stopped in the middle and resumed: nothing is asked or scored twice."""
    expected = start(config(toy_folder), str(tmp_path / "whole.db"), model=Slowed())
    store = str(tmp_path / "s.db")
    stop = threading.Event()

    def on_event(event: AnyEvent) -> None:
        if isinstance(event, Answered) and "greedy" not in event.job:
            stop_after.append(event.key)
            if len(stop_after) == 2:
                stop.set()

    stop_after: list[str] = []
    before, after = Slowed(), Slowed()
    with pytest.raises(Interrupted):
        start(config(toy_folder), store, watch=Watch(on_event=on_event), stop=stop, model=before)
    resumed = resume("latest", store, model=after)
    assert result_of(resumed) == result_of(expected)
    asked = [key.partition("/")[2] for key in before.asked + after.asked]
    assert len(set(asked)) == len(asked)
    with SQLiteStore.open(store, writable=False) as opened:
        scored = [e.key for _, _, e in opened.events(opened.resolve("latest"), {"evaluated"})]
    assert len(set(scored)) == len(scored)


class SlowPool:
    """A pool whose scores are worth the length of the program, and take as long as they are told."""

    slots = 2

    def __init__(self, improver: Callable[[ImproveJob], str]) -> None:
        self._improver = improver
        self.ahead: list[str] = []
        self.asked: list[str] = []
        self.promoted = self.abandoned = 0
        self.may_begin = threading.Event()
        self.may_end = threading.Event()
        self.begun = threading.Event()

    def score(self, job: ScoreJob) -> Outcome:
        self.asked.append(job.solution.source)
        return Scored(value=len(job.solution.source))

    def score_ahead(self, job: ScoreJob, claim: Claim) -> Outcome | None:
        assert self.may_begin.wait(10)

        if not claim(self):
            return None
        self.ahead.append(job.solution.source)
        self.begun.set()
        assert self.may_end.wait(10)
        return None if self.abandoned else Scored(value=len(job.solution.source))

    def promote(self) -> None:
        self.promoted += 1
        self.may_end.set()

    def abandon(self) -> None:
        self.abandoned += 1
        self.may_end.set()

    def improve(self, job: ImproveJob) -> Outcome:
        return Returned(source=self._improver(job))

    def close(self) -> None:
        self.may_begin.set()
        self.may_end.set()


def played(
    tmp_path: Path,
    toy: st.Task,
    improver: Callable[[ImproveJob], str],
    pool: SlowPool | None = None,
) -> tuple[SlowPool, RecordedPool]:
    """Run a scripted improver over a recorded pool whose model answers with three programs."""
    pool = pool or SlowPool(improver)
    store = SQLiteStore.open(tmp_path / "s.db", writable=True)
    journal = Journal(store, store.new_run({}, "test"))
    recorded = RecordedPool(pool, journal, lambda: None)

    def score_job(solution: Solution) -> ScoreJob:
        return ScoreJob(task=toy, solution=solution, split="val")

    account = Account(BUDGET)
    job = ImproveJob(
        key="j",
        improver=Solution("i", "improve_algorithm"),
        initial=toy.initial,
        target="toy",
        utility_text="",
        utility=lambda solution: recorded.score(score_job(solution)),
        initial_outcome=lambda: recorded.score(score_job(toy.initial)),
        worst=0.0,
        ask=lambda request: Answer(texts=tuple(f"```python\n{t}\n```" for t in ("a", "bb", "ccc"))),
        account=account,
        seed=0,
        on_attempt=lambda attempt: None,
        score_job=score_job,
    )
    try:
        recorded.improve(job)
    finally:
        recorded.close()
        store.close()
    return pool, recorded


REQUEST = Request(expertise="", message="m", n_responses=3)


def test_what_is_under_way_is_waited_for_and_no_longer_ranks_last(
    tmp_path: Path, toy: st.Task
) -> None:
    def improver(job: ImproveJob) -> str:
        job.ask(REQUEST)
        pool.may_begin.set()
        assert pool.begun.wait(10)
        assert job.utility(Solution(pool.ahead[0])) == Scored(value=len(pool.ahead[0]))
        return "x"

    pool = SlowPool(improver)
    _, recorded = played(tmp_path, toy, improver, pool)
    assert pool.promoted == 1
    assert pool.asked == []
    assert recorded.speculated.used == 1
    assert recorded.reused == 0


def test_what_has_not_begun_is_scored_at_once_when_asked_for(tmp_path: Path, toy: st.Task) -> None:
    def improver(job: ImproveJob) -> str:
        job.ask(REQUEST)
        job.utility(Solution("bb"))
        return "x"

    pool, recorded = played(tmp_path, toy, improver)
    assert pool.asked == ["bb"]
    assert pool.ahead == []
    assert recorded.speculated.begun == 0


def test_nothing_begins_for_an_improver_that_has_ended(tmp_path: Path, toy: st.Task) -> None:
    def improver(job: ImproveJob) -> str:
        job.ask(REQUEST)
        return "x"

    pool, recorded = played(tmp_path, toy, improver)
    assert pool.ahead == []
    assert recorded.speculated.begun == recorded.scored == 0


def test_what_has_begun_is_abandoned_when_the_improver_ends(tmp_path: Path, toy: st.Task) -> None:
    def improver(job: ImproveJob) -> str:
        job.ask(REQUEST)
        pool.may_begin.set()
        assert pool.begun.wait(10)
        return "x"

    pool = SlowPool(improver)
    _, recorded = played(tmp_path, toy, improver, pool)
    assert pool.abandoned >= 1
    assert recorded.speculated.used == 0
    assert recorded.scored == 0


def test_a_score_that_was_given_up_while_waited_for_is_computed_again(
    tmp_path: Path, toy: st.Task
) -> None:
    class Broken(SlowPool):
        def promote(self) -> None:
            self.abandon()

    def improver(job: ImproveJob) -> str:
        job.ask(REQUEST)
        pool.may_begin.set()
        assert pool.begun.wait(10)
        wanted = pool.ahead[0]
        assert job.utility(Solution(wanted)) == Scored(value=len(wanted))
        assert pool.asked == [wanted]
        return "x"

    pool = Broken(improver)
    _, recorded = played(tmp_path, toy, improver, pool)
    # It was of no use, and is not told as if it had been.
    assert recorded.speculated.used == 0


def test_what_was_given_up_and_is_asked_for_later_was_of_no_use() -> None:
    tally = Tally()
    tally.begun("a")
    tally.given_up("a", 2.0)
    assert not tally.asked("a")
    assert (tally.total().begun, tally.total().used, tally.total().wasted_s) == (1, 0, 2.0)


def test_machines_that_join_score_ahead_too(tmp_path: Path, toy: st.Task) -> None:
    def improver(job: ImproveJob) -> str:
        pool.slots = 4
        job.ask(REQUEST)
        pool.may_begin.set()
        # None of them ends before.
        deadline = time.monotonic() + 8
        while len(pool.ahead) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        at_once.extend(sorted(pool.ahead))
        return "x"

    at_once: list[str] = []
    pool = SlowPool(improver)
    pool.slots = 1
    played(tmp_path, toy, improver, pool)
    assert at_once == ["a", "bb", "ccc"]


@pytest.mark.parametrize("is_promoted", [False, True])
def test_what_waits_for_an_evaluator_when_it_is_overdue_is_ended_when_it_begins(
    monkeypatch: pytest.MonkeyPatch, is_promoted: bool
) -> None:
    monkeypatch.setattr(gated, "ABANDON_S", 0.0)
    gate = Gate(2)
    underway = gated._Underway(gate, gate.enter(Urgency.AHEAD))
    before = set(threading.enumerate())
    underway.abandon()
    for timer in set(threading.enumerate()) - before:
        timer.join()
    if is_promoted:
        underway.promote()
    ended: list[bool] = []
    underway.begin(lambda: ended.append(True))
    assert underway.was_ended is not is_promoted
    assert ended == [True] * (not is_promoted)


def guesses_of(utility_calls: int, toy: st.Task) -> tuple[Guesses, Account, list[Guess]]:
    account = Account(Budget(calls=9, responses=9, utility_calls=utility_calls))
    begun: list[Guess] = []
    made = Guesses(
        account,
        lambda solution: ScoreJob(task=toy, solution=solution, split="val"),
        lambda job: job.solution.source,
        lambda job: False,
        begun.append,
    )
    return made, account, begun


def answers(*programs: str) -> tuple[str, ...]:
    return tuple(f"Thus:\n```python\n{program}\n```\n" for program in programs)


def test_no_more_is_guessed_than_can_still_be_asked_for(toy: st.Task) -> None:
    guesses, account, begun = guesses_of(3, toy)
    guesses.answered(answers("a", "b", "b", "c", "d"), "algorithm")
    assert [guess.key for guess in begun] == ["a", "b", "c"]
    account.charge_utility_call()
    guesses.asked(Solution("own"))
    # Two are left, so the last of three guesses is given up.
    assert [guess.wanted for guess in begun] == [True, True, False]
    account.charge_utility_call()
    guesses.asked(Solution("b"))
    assert [guess.wanted for guess in begun] == [True, True, False]
    account.charge_utility_call()
    guesses.asked(Solution("own"))
    assert [guess.wanted for guess in begun] == [False, True, False]
    guesses.answered(answers("e"), "algorithm")
    assert len(begun) == 3


def test_the_end_gives_up_all_guesses(toy: st.Task) -> None:
    guesses, _, begun = guesses_of(9, toy)
    guesses.answered(answers("a", "b"), "algorithm")
    guesses.end()
    assert [guess.wanted for guess in begun] == [False, False]


@pytest.mark.parametrize(
    ("answer", "program"),
    [
        ("no code here", None),
        ("```python\n\n```", None),
        ("```python\nx = 1\n```", "x = 1"),
        ("```python\n# <f at 0x7f00deadbeef>\n```", "# <f at 0x0>"),
        ("```py\nshort = 1\n```\n```py\nlonger_one = 2\n```", "longer_one = 2"),
        ('```python\np = """\n```\nx\n```\n"""\n```', 'p = """\n```\nx\n```\n"""'),
        ("```python\n'\\d'\n```\n```python\n'\\q' + 1\n```", "'\\q' + 1"),
        ("```python\n" + "x = 1\n" * 20_000 + "```", None),
        ("```python\nx = '\ud800'\n```", None),
    ],
)
def test_the_program_is_exactly_what_the_improver_would_submit(
    answer: str, program: str | None
) -> None:
    found = program_in(answer, "algorithm")
    assert (found.source if found else None) == program


SLEEPY = "import time\ndef algorithm():\n    time.sleep(60)\n    return 1\n"


class Sleepy(Slowed):
    """Answers with a candidate that sleeps for its whole wall cap."""

    def respond(self, request: Request, *, seed: int, occurrence: int, key: str) -> Answer:
        return Answer(texts=(f"```python\n{SLEEPY}```",) * request.n_responses)


def improver_that_asks(sleeps_s: float) -> str:
    return (
        "import time\ndef improve_algorithm(initial, utility, language_model):\n"
        f"    language_model.prompt('e', 'm')\n    time.sleep({sleeps_s})\n    return initial\n"
    )


@pytest.fixture
def sleepy_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "sleepy"
    folder.mkdir()
    (folder / "task.toml").write_text(
        'summary = "s"\n[normalisation]\nbest = 1.0\n[limits]\ntime_s = 20.0\n'
        "[splits.val]\nseed = 4321\ninstances = 1\n[splits.test]\nseed = 5678\ninstances = 1\n"
    )
    (folder / "description.md").write_text("d")
    (folder / "solution.py").write_text("def algorithm():\n    return 0\n")
    (folder / "utility.py").write_text(
        "def score(solution, split, seed):\n    return float(solution.call('algorithm'))\n"
    )
    return folder


def test_closing_does_not_wait_for_what_is_scored_ahead(
    sleepy_folder: Path, tmp_path: Path
) -> None:
    events: list[AnyEvent] = []
    run = start(
        config(sleepy_folder, improvers=(("asks", improver_that_asks(1.0)),)),
        str(tmp_path / "s.db"),
        watch=Watch(on_event=events.append),
        model=Sleepy(),
    )
    assert run.status == "done"
    assert run.spent["speculated"] == run.spent["speculated_wasted"] == 1
    # It was ended, which is no outcome of the program; left alone it would have timed out.
    scores = [event.outcome for event in events if isinstance(event, Evaluated)]
    assert all(isinstance(outcome, Scored) for outcome in scores)


def test_what_nobody_can_ask_for_any_more_gives_its_slot_back(
    sleepy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gated, "ABANDON_S", 0.1)
    ended = threading.Event()
    given_up = Tally.given_up

    def noted(self: Tally, key: str, seconds: float) -> None:
        given_up(self, key, seconds)
        ended.set()

    monkeypatch.setattr(Tally, "given_up", noted)

    class Patient(Sleepy):
        def respond(self, request: Request, *, seed: int, occurrence: int, key: str) -> Answer:
            if request.message != "later":
                return super().respond(request, seed=seed, occurrence=occurrence, key=key)
            # The run goes on, so it is not its end that ends the score.
            assert ended.wait(60)
            return Answer(texts=("No program.",))

    later = "def improve_algorithm(i, u, lm):\n    lm.prompt('e', 'later')\n    return i + '#'\n"
    improvers = (("asks", improver_that_asks(1.0)), ("later", later))
    run = start(config(sleepy_folder, improvers=improvers), str(tmp_path / "s.db"), model=Patient())
    assert run.spent["speculated_wasted_s"] > 0
    assert [one.validation for one in run.improvements] == [Scored(value=0.0, values=())] * 2
