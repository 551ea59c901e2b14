"""Estimates: bounds that hold for real runs, and money only where prices are known."""

from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from selftaught.budget import Budget, RunLimits
from selftaught.cli import app
from selftaught.improver import load_improver
from selftaught.language_model import ModelSettings
from selftaught.models.tariff import DEFAULT_OUTPUT_TOKENS
from selftaught.runs.config import RunConfig
from selftaught.runs.estimate import PROMPT_TOKENS, Estimate, estimate
from selftaught.runs.launch import start
from selftaught.store.sqlite import SQLiteStore

SMALL = Budget(calls=2, responses=3, utility_calls=4)
RUNNER = CliRunner()


def config(*tasks: str, **changes: object) -> RunConfig:
    chosen: dict[str, object] = {
        "command": "run",
        "tasks": tasks,
        "improvers": (("seed", load_improver("seed").source),),
        "rounds": 2,
        "repeats": 1,
        "sealed_repeats": 2,
        "budget": SMALL,
        "meta_budget": SMALL,
        "slots": 2,
    }
    return RunConfig(**{**chosen, **changes})  # type: ignore[arg-type]


def estimated(config: RunConfig, store: SQLiteStore | None = None) -> Estimate:
    return estimate(config, store, {})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"accept": "better", "seed": 5},
        {"improvers": (("mine", load_improver("greedy").source + "\n# changed\n"),)},
    ],
)
def test_a_run_lies_between_low_and_high_and_the_next_one_near_the_expected(
    toy_folder: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    store = str(tmp_path / "s.db")
    planned = config(str(toy_folder), **changes)
    before = estimated(planned)
    run = start(planned, store)
    assert before.low.calls <= run.spent["live_calls"] <= before.high.calls
    assert before.low.calls <= before.expected.calls <= before.high.calls
    with SQLiteStore.open(store, writable=False) as opened:
        after = estimated(planned, opened)
    assert 0.5 < after.expected.calls / run.spent["live_calls"] < 2
    assert "assumed since no run of mutation" in before.basis[0]
    assert "as in recorded runs (1) of mutation" in after.basis[0]


@pytest.mark.parametrize("command", ["improve", "transfer", "compare"])
def test_the_calls_of_frozen_improvers_are_counted(
    toy_folder: Path, tmp_path: Path, command: str
) -> None:
    named = tuple((n, load_improver(n).source) for n in ("identity", "seed", "greedy"))
    tasks = (str(toy_folder),)
    planned = config(
        *(tasks if command == "improve" else ()),
        command=command,
        held_out=() if command == "improve" else tasks,
        improvers=named if command != "transfer" else named[1:2],
        seeds=2,
    )
    before = estimated(planned)
    run = start(planned, str(tmp_path / "s.db"))
    assert before.low.calls <= run.spent["live_calls"] <= before.high.calls
    expected = {"improve": (2, 3), "transfer": (6, 10), "compare": (8, 12)}[command]
    assert (before.low.calls, before.high.calls) == expected


def test_money_follows_from_tokens_and_price() -> None:
    settings = ModelSettings(input_price=1.0, output_price=10.0, max_output_tokens=500)
    found = estimated(config("tsp", model="openai/x", model_settings=settings))
    for amount in (found.low, found.expected, found.high):
        tokens = amount.prompt_tokens * 1.0 + amount.completion_tokens * 10.0
        assert amount.dollars == pytest.approx(tokens / 1e6)
    assert found.high.completion_tokens == found.high.responses * 500
    assert found.low.prompt_tokens == found.low.calls * PROMPT_TOKENS


def test_a_mix_costs_between_its_models() -> None:
    cheap, dear = (
        estimated(config("tsp", model=name)) for name in ("openai/gpt-5-mini", "openai/gpt-5")
    )
    found = estimated(config("tsp", model="openai/gpt-5-mini:3,openai/gpt-5:1"))
    assert found.low.dollars == cheap.low.dollars
    assert found.high.dollars == dear.high.dollars
    assert found.expected.dollars == pytest.approx(
        0.75 * cheap.expected.dollars + 0.25 * dear.expected.dollars
    )


def test_an_unknown_price_is_said_so_and_never_guessed() -> None:
    found = estimated(config("tsp", model="openai/gpt-5:1,openai/no-such-model:1"))
    assert found.unpriced == ("openai/no-such-model",)
    assert found.low.dollars is found.expected.dollars is found.high.dollars is None


def test_the_limits_of_a_run_bound_its_estimate() -> None:
    model = {"model": "openai/gpt-5"}
    free = estimated(config("tsp", **model))
    limited = estimated(config("tsp", limits=RunLimits(dollars=1.0), **model))
    assert limited.high.dollars == pytest.approx(1.0)
    assert limited.high.calls < free.high.calls
    tokens = estimated(config("tsp", limits=RunLimits(tokens=5_000), **model)).high
    assert tokens.prompt_tokens + tokens.completion_tokens <= 5_000


def test_the_command_takes_the_arguments_of_what_it_estimates(
    toy_folder: Path, tmp_path: Path
) -> None:
    store = str(tmp_path / "none.db")
    common = ["--model", "openai/x", "--price", "1,10", "--store", store]
    for command in (
        ["run", str(toy_folder), "--rounds", "3", "--held-out", "none"],
        ["improve", str(toy_folder)],
        ["transfer", "greedy", "--tasks", str(toy_folder)],
        ["compare", "greedy", "seed", "--tasks", str(toy_folder)],
    ):
        said = RUNNER.invoke(app, ["estimate", *command, *common])
        assert said.exit_code == 0, said.output
        assert f"{DEFAULT_OUTPUT_TOKENS:,} tokens a response" in said.output
        assert f"What {command[0]} may take, with openai/x" in said.output
        data = RUNNER.invoke(app, ["estimate", *command, *common, "--json"])
        assert msgspec.json.decode(data.stdout, type=Estimate).high.dollars > 0
    assert not Path(store).exists()


def test_a_run_that_may_cost_much_says_so_and_goes_on(toy_folder: Path, tmp_path: Path) -> None:
    from selftaught.testing import LoopbackServer

    program = "```python\ndef algorithm(x):\n    return x + 7\n```"
    with LoopbackServer(lambda received, index: program) as server:
        command = [
            *("improve", str(toy_folder), "--model", "openai/x", "--base-url", server.url),
            *("--price", "100,1000", "--calls", "1", "--slots", "1"),
        ]
        for warn_above, is_warned in (
            (["--warn-above", "1"], True),
            (["--warn-above", "1000"], False),
        ):
            store = str(tmp_path / f"{is_warned}.db")
            said = RUNNER.invoke(app, [*command, "--store", store, *warn_above])
            assert said.exit_code == 0, said.output
            assert ("expected to cost about" in said.output) is is_warned
            assert "Recorded as run" in said.output
