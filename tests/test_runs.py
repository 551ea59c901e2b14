"""Whole runs on the toy task: they repeat, they resume, they leave nothing behind."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import selftaught as st
from selftaught.budget import RunLimits
from selftaught.errors import Interrupted, SelftaughtError, UsageError
from selftaught.events import Answered, AnyEvent
from selftaught.history import export_program, read_history
from selftaught.improver import load_improver
from selftaught.language_model import Answer, Request
from selftaught.runs.config import RunConfig
from selftaught.runs.launch import resume, start
from selftaught.runs.result import Run, Watch
from selftaught.store.sqlite import SQLiteStore

SMALL = st.Budget(calls=2, responses=3, utility_calls=7)


def config(folder: Path, **changes: object) -> RunConfig:
    settings: dict[str, object] = {
        "command": "run",
        "tasks": (str(folder),),
        "improvers": (("seed", load_improver("seed").source),),
        "rounds": 2,
        "seed": 3,
        "budget": SMALL,
        "meta_budget": SMALL,
        "slots": 2,
    }
    return RunConfig(**{**settings, **changes})  # type: ignore[arg-type]


def result_of(run: Run) -> object:
    """Everything of a run that must repeat."""
    return (
        [(r.improver.hash, r.accepted, r.reason, r.validation, r.sealed) for r in run.rounds],
        [(row.name, row.measured) for row in run.rows],
        [(i.name, i.outcome, i.validation, i.sealed) for i in run.improvements],
    )


class CountingModel:
    """Answers as the mutation proposer does and counts what it is asked."""

    name = "counting"
    is_language_model = False

    def __init__(self, stop_after: int | None = None, stop: threading.Event | None = None) -> None:
        from selftaught.mutation.proposer import MutationProposer

        self._proposer = MutationProposer()
        self._stop_after, self._stop = stop_after, stop
        self.keys: list[str] = []

    def respond(self, request: Request, *, seed: int, occurrence: int, key: str) -> Answer:
        self.keys.append(key)
        if self._stop is not None and len(self.keys) == self._stop_after:
            self._stop.set()
        return self._proposer.respond(request, seed=seed, occurrence=occurrence, key=key)


def test_the_smallest_script_runs(
    toy: st.Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = st.run([toy], rounds=1, budget=SMALL)
    assert "def improve_algorithm" in run.best.source
    assert len(run.scores) == 2
    assert (tmp_path / "selftaught.db").exists()


def test_two_runs_with_one_seed_are_identical_and_another_seed_differs(
    toy_folder: Path, tmp_path: Path
) -> None:
    runs = [
        start(config(toy_folder, seed=seed, slots=slots), str(tmp_path / f"{i}.db"))
        for i, (seed, slots) in enumerate([(3, 1), (3, 2), (4, 2)])
    ]
    assert result_of(runs[0]) == result_of(runs[1])
    assert result_of(runs[0]) != result_of(runs[2])


@pytest.mark.slow
def test_a_busy_machine_changes_nothing(tmp_path: Path) -> None:
    """Scores are bounded by counted work, so they do not depend on who else computes."""
    tasks: dict[str, object] = {"tasks": ("tsp", "circle_packing"), "rounds": 1}
    quiet = start(config(tmp_path, **tasks), str(tmp_path / "quiet.db"))
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(2 * (os.cpu_count() or 1))
    ]
    try:
        loud = start(config(tmp_path, **tasks), str(tmp_path / "loud.db"))
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert result_of(loud) == result_of(quiet)


@pytest.mark.parametrize("stop_after", [1, 5, 17, 40])
def test_a_stopped_run_resumes_to_the_same_result_and_asks_nothing_twice(
    toy_folder: Path, tmp_path: Path, stop_after: int
) -> None:
    whole = CountingModel()
    expected = start(config(toy_folder), str(tmp_path / "whole.db"), model=whole)
    stop = threading.Event()
    before = CountingModel(stop_after, stop)
    store = str(tmp_path / "stopped.db")
    with pytest.raises(Interrupted):
        start(config(toy_folder), store, model=before, stop=stop)
    after = CountingModel()
    resumed = resume("latest", store, model=after)
    assert result_of(resumed) == result_of(expected)
    asked = [key.partition("/")[2] for key in [*before.keys, *after.keys]]
    assert sorted(asked) == sorted(key.partition("/")[2] for key in whole.keys)
    assert len(set(asked)) == len(asked)
    with SQLiteStore.open(store, writable=False) as opened:
        assert opened.check() == []
        assert read_history(opened, "latest").row.status == "done"


def test_an_improver_scored_twice_at_once_is_applied_once(toy_folder: Path, tmp_path: Path) -> None:
    """Equal improvers share their jobs' names: run side by side they would mix up their answers."""
    twins = (
        "def improve_algorithm(initial_solution, utility, language_model):\n"
        "    if 'def improve' in initial_solution:\n"
        "        text = initial_solution + '# another\\n'\n"
        "        a, b, c = utility.map([text] * 3)\n"
        "        assert a == b == c\n"
        "        return text\n"
        "    return language_model.prompt('e', initial_solution)[0] and initial_solution\n"
    )
    model = CountingModel()
    improvers = (("twins", twins),)
    run = start(
        config(toy_folder, improvers=improvers, rounds=1), str(tmp_path / "s.db"), model=model
    )
    assert run.rounds[1].candidate is not None
    assert run.rounds[1].utility_calls == 3
    asked = [key for key in model.keys if f"validation/{run.rounds[1].candidate.hash}" in key]
    assert len(asked) == run.config.repeats


def test_resuming_a_finished_run_asks_nothing(toy_folder: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "s.db")
    first = start(config(toy_folder), store)
    silent = CountingModel()
    again = resume(first.id, store, model=silent)
    assert result_of(again) == result_of(first)
    assert silent.keys == []


def test_a_changed_task_is_not_resumed(tmp_path: Path) -> None:
    from conftest import write_toy

    folder = write_toy(tmp_path / "task")
    store = str(tmp_path / "s.db")
    start(config(folder), store)
    (folder / "description.md").write_text("Something else.")
    with pytest.raises(SelftaughtError, match="has changed since"):
        resume("latest", store)


def test_improve_shows_improvers_side_by_side(toy_folder: Path, tmp_path: Path) -> None:
    named = tuple((n, load_improver(n).source) for n in ("greedy", "identity", "best_of_n"))
    run = start(
        config(toy_folder, command="improve", improvers=named, budget=st.Budget()),
        str(tmp_path / "s.db"),
    )
    greedy, identity, best_of_n = run.improvements
    assert identity.validation.value == -4.0  # type: ignore[union-attr]
    assert greedy.validation.value > -4.0  # type: ignore[union-attr]
    assert best_of_n.calls == greedy.calls == 4
    assert run.best.source in (greedy.program.source, best_of_n.program.source)
    with SQLiteStore.open(str(tmp_path / "s.db"), writable=False) as opened:
        assert "def algorithm(x)" in export_program(opened, "latest")


def test_an_exported_improver_is_an_improver(toy_folder: Path, tmp_path: Path) -> None:
    store, file = str(tmp_path / "s.db"), tmp_path / "mine.py"
    run = start(config(toy_folder), store)
    with SQLiteStore.open(store, writable=False) as opened:
        file.write_text(export_program(opened, "latest"))
        with pytest.raises(SelftaughtError, match="rounds 0 to 2, not 7"):
            export_program(opened, "latest", 7)
    text = file.read_text()
    assert f"run {run.id} (done)" in text
    assert run.best.hash in text
    exported = load_improver(str(file))
    table = start(
        config(
            toy_folder,
            command="transfer",
            tasks=(),
            held_out=(str(toy_folder),),
            improvers=(("mine", exported.source),),
        ),
        store,
    )
    assert [row.name for row in table.rows] == ["mine", "identity", "best_of_n", "greedy"]
    assert table.rows[1].measured.outcome.value == 0.0  # type: ignore[union-attr]


def test_a_run_out_of_its_wall_time_keeps_what_it_has(toy_folder: Path, tmp_path: Path) -> None:
    run = start(
        config(toy_folder, rounds=500, limits=RunLimits(wall_s=6.0)), str(tmp_path / "s.db")
    )
    assert run.status == "budget"
    assert "wall time" in run.reason
    assert run.rounds


def test_events_are_told_in_order_with_what_they_hold(toy_folder: Path, tmp_path: Path) -> None:
    events: list[AnyEvent] = []
    start(config(toy_folder), str(tmp_path / "s.db"), watch=Watch(on_event=events.append))
    answered = [e for e in events if isinstance(e, Answered)]
    assert len({e.key for e in answered}) == len(answered)
    with SQLiteStore.open(str(tmp_path / "s.db"), writable=False) as opened:
        recorded = [e for _, _, e in opened.events(opened.resolve("latest"))]
        texts = [opened.text(t) for e in answered for t in e.texts]
    assert len(recorded) == len(events)
    assert any("```python" in text for text in texts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": 0}, "--rounds must be at least 1"),
        ({"repeats": 0}, "--repeats must be 1 to 500, not 0"),
        ({"accept": "sometimes"}, "always, better"),
        ({"tasks": ("no_such_task",)}, "There is no task 'no_such_task'"),
        ({"tasks": ()}, "At least one task"),
        ({"model": "gpt"}, "There is no model 'gpt'"),
    ],
)
def test_a_configuration_that_cannot_be_meant_records_nothing(
    toy_folder: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        start(config(toy_folder, **changes), str(tmp_path / "s.db"))
    if (tmp_path / "s.db").exists():
        with SQLiteStore.open(str(tmp_path / "s.db"), writable=False) as opened:
            assert opened.runs() == []
