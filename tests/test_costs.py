"""What a recorded run cost, by improver and round, in Python and in SQL alike."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from selftaught.cli import app
from selftaught.events import Answered, RoundEnded, RunEnded, RunStarted, Unanswered
from selftaught.improver import load_improver
from selftaught.language_model import Answer, ModelSettings, Usage
from selftaught.mutation.proposer import MutationProposer
from selftaught.runs.config import RunConfig
from selftaught.runs.costs import AFTERWARDS, Costs, read_costs
from selftaught.runs.launch import start
from selftaught.store.sqlite import SQLiteStore


class Paid:
    """Proposes by mutation and counts tokens as if it were a model that is paid for."""

    name = "paid"
    is_language_model = True

    def __init__(self) -> None:
        self._proposer = MutationProposer()

    def respond(self, request, *, seed, occurrence, key) -> Answer:
        texts = self._proposer.respond(request, seed=seed, occurrence=occurrence, key=key).texts
        usage = Usage(
            prompt_tokens=1000, cached_tokens=250, completion_tokens=40, reasoning_tokens=10
        )
        return Answer(texts=texts, usage=usage)


@pytest.fixture(scope="module")
def store(toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    from selftaught.budget import Budget

    path = str(tmp_path_factory.mktemp("costs") / "s.db")
    budget = Budget(calls=2, responses=2, utility_calls=3)
    start(
        RunConfig(
            command="run",
            tasks=(str(toy_folder),),
            improvers=(("seed", load_improver("seed").source),),
            rounds=2,
            repeats=1,
            sealed_repeats=1,
            budget=budget,
            meta_budget=budget,
            model="custom:paid",
            model_settings=ModelSettings(input_price=2.0, output_price=10.0),
            slots=1,
        ),
        path,
        model=Paid(),
    )
    return path


@pytest.fixture
def costs(store: str) -> Costs:
    with SQLiteStore.open(store, writable=False) as opened:
        return read_costs(opened, "latest")


def test_the_parts_add_up_to_the_whole(costs: Costs) -> None:
    whole = costs.total
    assert whole.calls > 4
    assert whole.dollars == pytest.approx(whole.calls * (1000 * 2 + 40 * 10) / 1e6)
    for parts in (costs.by_model, costs.by_phase, costs.by_improver, costs.by_round):
        for field in ("calls", "responses", "prompt_tokens", "cached_tokens", "reasoning_tokens"):
            assert sum(getattr(one, field) for one in parts) == getattr(whole, field)
        assert sum(one.dollars for one in parts) == pytest.approx(whole.dollars)


def test_calls_belong_to_the_improver_that_asked_and_the_round_it_asked_in(costs: Costs) -> None:
    seed = load_improver("seed").hash
    assert [one.name for one in costs.by_round][:3] == ["round 0", "round 1", "round 2"]
    assert costs.by_round[-1].name == AFTERWARDS
    assert {one.name for one in costs.by_phase} >= {"validation", "sealed", "round"}
    first = next(call for call in costs.calls if call.job == "round/1")
    assert (first.round, first.improver, first.phase) == (1, seed, "round")
    assert any(one.name == f"{seed[:8]} seed" for one in costs.by_improver)
    assert all(call.round == 0 for call in costs.calls[: costs.by_round[0].calls])


def test_the_view_says_the_same(store: str, costs: Costs) -> None:
    connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True)
    rows = connection.execute(
        "SELECT job, phase, improver, round, model, answered, responses, prompt_tokens, "
        "cached_tokens, completion_tokens, reasoning_tokens, dollars, lost_tokens, lost_dollars, "
        "seconds FROM v_costs ORDER BY seq"
    ).fetchall()
    connection.close()
    assert rows == [msgspec.structs.astuple(call) for call in costs.calls]


def test_show_tells_the_costs(store: str, costs: Costs) -> None:
    shown = CliRunner().invoke(app, ["show", "latest", "--costs", "--store", store])
    assert shown.exit_code == 0, shown.output
    for text in ("By model", "By improver", "By round", "reasoning", "paid", AFTERWARDS):
        assert text in shown.output
    data = CliRunner().invoke(app, ["show", "latest", "--costs", "--json", "--store", store])
    assert msgspec.json.decode(data.stdout, type=Costs) == costs
    brief = CliRunner().invoke(app, ["show", "latest", "--store", store])
    assert f"{costs.total.calls} calls" in brief.output
    assert "$0.0" in brief.output


@pytest.fixture
def written(tmp_path: Path) -> Iterator[SQLiteStore]:
    with SQLiteStore.open(tmp_path / "s.db", writable=True) as opened:
        yield opened


def test_unknown_prices_and_lost_requests_are_told_apart_from_nothing(
    written: SQLiteStore, tmp_path: Path
) -> None:
    config = RunConfig(command="run", tasks=("t",), model="openai/x")
    run = written.new_run(msgspec.to_builtins(config), "run")
    common = {"expertise": "e", "message": "m", "temperature": 0.7, "texts": ("t",)}
    for event in (
        RunStarted(config={}),
        RoundEnded(round=0, candidate=None, improver="aa", accepted=False, reason=""),
        Answered(job="round/1", content_hash="c", occurrence=0, model="openai/x", **common),
        Answered(
            job="validation/bb/t/0",
            content_hash="c",
            occurrence=0,
            model="openai/y",
            dollars=0.5,
            lost_tokens=7,
            lost_dollars=0.25,
            **common,
        ),
        Unanswered(job="round/1", reason="lost", lost_tokens=100, lost_dollars=2.0),
        RunEnded(status="failed"),
    ):
        written.append(run, event)
    found = read_costs(written, run)
    assert (found.total.calls, found.total.unpriced_calls, found.total.dollars) == (2, 1, 0.5)
    assert (found.total.lost_tokens, found.total.lost_dollars) == (107, 2.25)
    assert [(one.name, one.calls) for one in found.by_improver] == [("aa", 1), ("bb", 1)]
    assert [call.round for call in found.calls] == [None] * 3
    written.close()
    said = CliRunner().invoke(app, ["show", run, "--costs", "--store", str(tmp_path / "s.db")])
    assert "$0.50 and 1 calls of unknown price" in said.output
    assert "up to 107 tokens and $2.25 more" in said.output
