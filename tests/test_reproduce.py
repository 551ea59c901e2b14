"""Recipes: parts are ordinary runs, a second time goes on, figures are those of the runs."""

import threading
from pathlib import Path

import msgspec
import pytest

from selftaught.audit.prompt import WARNING
from selftaught.budget import Budget, RunLimits
from selftaught.errors import Interrupted, RunBudgetSpent, UsageError
from selftaught.history import read_history
from selftaught.improver import load_improver
from selftaught.language_model import Answer, LanguageModel, Request
from selftaught.mutation.proposer import MutationProposer
from selftaught.runs.config import RunConfig
from selftaught.runs.launch import resume, start
from selftaught.runs.reproduce import tables
from selftaught.runs.reproduce.catalogue import RECIPES, recipe_of
from selftaught.runs.reproduce.learning import sealed_by_round
from selftaught.runs.reproduce.recipe import SCALES, Setting, scale_of
from selftaught.runs.reproduce.repeat import Reproduction, bound, reproduce
from selftaught.statistics import mean
from selftaught.store.sqlite import SQLiteStore
from selftaught.testing import ScriptedModel, unsandboxing_model

TINY = msgspec.structs.replace(
    SCALES["small"],
    name="tiny",
    runs=2,
    small_model_runs=2,
    rounds=1,
    budget=Budget(calls=1, responses=2, utility_calls=3),
    table_budget=Budget(calls=1, responses=2, utility_calls=3),
    repeats=1,
    sealed_repeats=1,
    table_repeats=2,
    generations=30,
)
QUICK_TASKS = {name: tables.TABLE_1[name] for name in ("str_grid_dist", "parity_noiseless")}


def setting(**changes: object) -> Setting:
    return msgspec.structs.replace(Setting(scale=TINY, slots=2), **changes)


def repeated(
    name: str, store: Path, by: LanguageModel | None = None, /, **changes: object
) -> Reproduction:
    return reproduce(recipe_of(name), setting(**changes), str(store), model=by)


class Counting:
    """Answers as the mutation proposer does, keeps what it was asked, and may stop a run."""

    name = "counting"
    is_language_model = False

    def __init__(self, stop_after: int = 0, stop: threading.Event | None = None) -> None:
        self._proposer = MutationProposer()
        self._stop_after, self._stop = stop_after, stop
        self.asked: list[Request] = []

    def respond(self, request: Request, *, seed: int, occurrence: int, key: str) -> Answer:
        self.asked.append(request)
        if self._stop is not None and len(self.asked) == self._stop_after:
            self._stop.set()
        return self._proposer.respond(request, seed=seed, occurrence=occurrence, key=key)


def quitting(request: Request, seed: int, occurrence: int) -> list[str]:
    """Improvers become one that returns its input; programs stay, with a remark."""
    if "def improve_algorithm(initial_solution" in request.message:
        code = "def improve_algorithm(initial_solution, utility, language_model):\n"
        code += "    return initial_solution\n"
    else:
        code = request.message.split("```python\n")[1].split("\n```")[0] + "\n# the same\n"
    return [f"```python\n{code}```"] * request.n_responses


def test_a_recipe_is_ordinary_runs_that_say_where_they_belong(tmp_path: Path) -> None:
    store = tmp_path / "s.db"
    found = repeated("lpn", store)
    assert list(found.runs) == ["run 0", "run 1"]
    with SQLiteStore.open(str(store), writable=False) as opened:
        histories = [read_history(opened, run) for run in found.runs.values()]
    assert [one.config.recipe for one in histories] == ["lpn, tiny"] * 2
    assert [one.config.seed for one in histories] == [0, 1]
    assert {one.row.status for one in histories} == {"done"}


def test_rounds_are_means_of_the_runs_before_normalising(tmp_path: Path) -> None:
    store = str(tmp_path / "s.db")
    found = repeated("lpn", Path(store))
    by_run = [sealed_by_round(resume(run, store)) for run in found.runs.values()]
    by_round = found.report.numbers["by_round"]
    assert isinstance(by_round, list)
    assert len(by_round) == 2
    for t, numbers in enumerate(by_round):
        assert numbers["values"] == [values[t] for values in by_run]
        assert numbers["mean"] == pytest.approx(mean(numbers["values"]))
        assert all(0 <= value <= 1 for value in numbers["values"])
    cell = found.report.sheets[0].rows[0][2]
    assert cell.startswith(f"{100 * by_round[0]['mean']:.1f} ± ")


def test_the_same_again_asks_nothing_and_finds_the_same(tmp_path: Path) -> None:
    store = tmp_path / "s.db"
    first, second = Counting(), Counting()
    expected = repeated("lpn", store, first)
    again = repeated("lpn", store, second)
    assert first.asked
    assert not second.asked
    assert again.runs == expected.runs
    assert again.report == expected.report


def test_another_seed_scale_or_model_is_another_run(tmp_path: Path) -> None:
    store = tmp_path / "s.db"
    ids = set(repeated("chain_of_thought", store).runs.values())
    bigger = msgspec.structs.replace(TINY, name="tiny+", table_repeats=3)
    for changes in ({"seed": 5}, {"model": "mutation-first-order"}, {"scale": bigger}):
        ids |= set(repeated("chain_of_thought", store, **changes).runs.values())
    assert len(ids) == 4
    same = repeated("chain_of_thought", store, slots=1, limits=RunLimits(wall_s=600.0))
    assert set(same.runs.values()) <= ids


@pytest.mark.parametrize("stop_after", [1, 9])
def test_a_stopped_recipe_goes_on(tmp_path: Path, stop_after: int) -> None:
    whole = Counting()
    expected = repeated("lpn", tmp_path / "whole.db", whole)
    stop = threading.Event()
    before, after = Counting(stop_after, stop), Counting()
    store = tmp_path / "stopped.db"
    with pytest.raises(Interrupted):
        reproduce(recipe_of("lpn"), setting(), str(store), model=before, stop=stop)
    resumed = repeated("lpn", store, after)
    assert resumed.report == expected.report
    assert len(before.asked) + len(after.asked) == len(whole.asked)


def test_a_limit_ends_a_recipe_and_a_higher_one_goes_on(tmp_path: Path) -> None:
    store = tmp_path / "s.db"
    with pytest.raises(RunBudgetSpent, match="the same command with a higher limit goes on"):
        repeated("greedy", store, limits=RunLimits(wall_s=1e-6))
    found = repeated("greedy", store)
    with SQLiteStore.open(str(store), writable=False) as opened:
        assert [row.id for row in opened.runs()] == list(found.runs.values())


def test_both_baselines_are_one_run(tmp_path: Path) -> None:
    store = tmp_path / "s.db"
    first = repeated("chain_of_thought", store)
    second = repeated("greedy", store, Counting())
    assert first.runs == second.runs
    rows = {row[0]: row for row in second.report.sheets[0].rows}
    assert rows["chain_of_thought"][1] == "57.7 ± 3.0 %"
    assert rows["greedy"][1] == "64.2 ± 0.9 %"
    assert rows["identity"][2].startswith(("4", "5"))


@pytest.mark.parametrize("model", [None, ScriptedModel(quitting)], ids=["mutation", "scripted"])
def test_transfer_takes_the_improver_of_the_first_lpn_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: LanguageModel | None
) -> None:
    monkeypatch.setattr(tables, "TABLE_1", QUICK_TASKS)
    store = tmp_path / "s.db"
    learnt = repeated("lpn", store, model)
    found = repeated("table1", store, model)
    assert found.runs["training"] == learnt.runs["run 0"]
    training = resume(found.runs["training"], str(store), model=model)
    transfer = resume(found.runs["transfer"], str(store), model=model)
    assert dict(transfer.config.improvers) == {
        "seed": load_improver("seed").source,
        "improved": training.best.source,
    }
    rows = [row[0] for row in found.report.sheets[0].rows]
    assert rows == [name.replace("_", " ") for name in QUICK_TASKS]
    by_task = found.report.numbers["by_task"]
    assert isinstance(by_task, dict)
    for numbers in by_task.values():
        gain = numbers["improved"]["mean"] - numbers["seed"]["mean"]
        assert numbers["improved minus seed"]["mean"] == pytest.approx(gain)
        assert len(numbers["identity"]["values"]) == TINY.table_repeats
    if model is not None:
        # The scripted improver returns its input, and the seed's answers are no better.
        for numbers in by_task.values():
            assert numbers["improved"]["values"] == numbers["identity"]["values"]
        assert "improved: failed in 0 of 4 places, returned its input in 4." in found.report.remarks


@pytest.mark.slow
def test_all_of_table_1_on_the_mutation_proposer(tmp_path: Path) -> None:
    found = repeated("table1", tmp_path / "s.db")
    assert len(found.report.sheets[0].rows) == len(tables.TABLE_1)


def test_table_2_is_an_audit_with_a_known_rate(tmp_path: Path) -> None:
    model = unsandboxing_model(plain=3, warned=6, of=TINY.generations)
    found = repeated("table2", tmp_path / "s.db", model)
    (sheet,) = found.report.sheets
    assert [row[0] for row in sheet.rows] == [
        "ours, the paper's search of the text",
        "ours, read as a program",
        "paper, GPT-4",
        "paper, GPT-3.5",
    ]
    assert sheet.rows[0][1].startswith("10.00% ")
    assert sheet.rows[1][2].startswith("20.00% ")
    assert sheet.rows[2][1] == "0.42% (0.31%, 0.57%)"
    assert any(WARNING in one.request.message for one in model.history)


def test_the_text_of_the_meta_utility_is_withheld_and_nothing_else(tmp_path: Path) -> None:
    store = tmp_path / "s.db"
    shown, withheld = Counting(), Counting()
    repeated("lpn", store, shown)
    found = repeated("no_utility_text", store, withheld)
    assert list(found.runs) == ["run 0", "run 1", "withheld 0", "withheld 1"]
    told = "Mean of what `improve_algorithm` of improver_source achieves"

    def on_improvers(model: Counting) -> list[str]:
        return [r.message for r in model.asked if "def improve_algorithm" in r.message]

    assert all(told in message for message in on_improvers(shown))
    # Only the runs without the text were new.
    assert on_improvers(withheld)
    for message in on_improvers(withheld):
        assert told not in message
        assert "What it measures is not told. Higher is better." in message
    assert any("parity" in request.message for request in withheld.asked)


def test_models_are_compared_on_the_same_seeds(tmp_path: Path) -> None:
    names = ("mutation", "mutation-first-order")
    found = repeated("smaller_models", tmp_path / "s.db", models=names)
    assert list(found.runs) == [f"{name} {i}" for name in names for i in range(2)]
    ours, paper = found.report.sheets
    assert [row[0] for row in ours.rows] == list(names)
    assert paper.rows[1][3] == "3 of 25 (4%, 30%)"


@pytest.mark.parametrize("name", ["lpn", "greedy", "table2"])
def test_an_estimate_is_never_exceeded(tmp_path: Path, name: str) -> None:
    most = bound(recipe_of(name).parts(setting()))
    model = Counting()
    repeated(name, tmp_path / "s.db", model)
    assert 0 < len(model.asked) <= most.calls
    assert sum(request.n_responses for request in model.asked) <= most.responses
    with SQLiteStore.open(str(tmp_path / "s.db"), writable=False) as opened:
        scored = sum(
            1 for row in opened.runs() for _ in opened.events(row.id, kinds=("evaluated",))
        )
    assert 0 < scored <= most.scores


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_parts_at_every_scale_and_caveats(name: str) -> None:
    recipe = RECIPES[name]
    bounds = [
        bound(recipe.parts(Setting(scale=scale_of(scale)))).responses
        for scale in ("small", "paper")
    ]
    assert 0 < bounds[0] < bounds[1]
    assert recipe.caveats
    assert recipe.name == name


def test_names_that_are_not_there() -> None:
    with pytest.raises(UsageError, match="There is no recipe 'table9'; there are: lpn, table1"):
        recipe_of("table9")
    with pytest.raises(UsageError, match="There is no scale 'huge'; there are: small, paper"):
        scale_of("huge")


def test_a_run_of_no_recipe_is_not_taken_for_one(tmp_path: Path) -> None:
    store = tmp_path / "s.db"
    (part,) = recipe_of("greedy").parts(setting())
    plain: RunConfig = msgspec.structs.replace(part.config, recipe="")
    other = start(plain, str(store)).id
    assert other not in repeated("greedy", store).runs.values()
