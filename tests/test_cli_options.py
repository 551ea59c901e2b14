"""The options that commands share: declared once, spread for Typer, handed over as one part."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import write_toy
from test_cli import SMALL, cli
from typer.testing import CliRunner

from selftaught.cli import app, options
from selftaught.cli.progress import Progress
from selftaught.events import Paused
from selftaught.language_model import ModelSettings
from selftaught.runs.config import config_of
from selftaught.store.sqlite import SQLiteStore
from selftaught.testing import ANTHROPIC, LoopbackServer

PACING = {
    "--concurrency", "--requests-per-minute", "--tokens-per-minute", "--request-timeout",
    "--patience",
}  # fmt: skip
ASKING = PACING | {"--model", "--base-url", "--max-output-tokens", "--reasoning-effort"}
COMMANDS: Any = typer.main.get_command(app)


def offered(command: str) -> set[str]:
    return {name for one in COMMANDS.commands[command].params for name in one.opts}


@pytest.mark.parametrize("command", ["run", "improve", "transfer", "compare"])
def test_every_command_that_starts_a_run_says_how_its_model_is_asked(command: str) -> None:
    assert offered(command) >= ASKING


def test_resume_takes_only_what_does_not_change_an_answer() -> None:
    # The same model may have moved.
    assert offered("resume") & ASKING == PACING | {"--base-url"}


def test_every_setting_of_a_model_has_an_option() -> None:
    given = options.RunOptions(
        max_output_tokens=1, reasoning_effort="low", concurrency=2, requests_per_minute=3,
        tokens_per_minute=4, request_timeout=5.0, patience=6.0,
    )  # fmt: skip
    assert given.settings == ModelSettings(
        max_output_tokens=1, reasoning_effort="low", timeout_s=5.0, concurrency=2,
        requests_per_minute=3, tokens_per_minute=4, patience_s=6.0,
    )  # fmt: skip
    assert options.RunOptions().settings == ModelSettings(), "defaults stand in one place"


def test_a_field_of_a_group_is_an_option_of_the_command() -> None:
    class Priced(options.Pacing, frozen=True, kw_only=True):
        price: options.Dollars = None

    seen: list[tuple[str, Priced]] = []

    def command(name: str, *, priced: Priced) -> None:
        seen.append((name, priced))

    made = typer.Typer()
    made.command()(options.spread(command))
    result = CliRunner().invoke(made, ["x", "--dollars", "1.5", "--patience", "7"])
    assert result.exit_code == 0, result.output
    assert seen == [("x", Priced(price=1.5, patience=7.0))]
    names = list(inspect.signature(options.spread(command)).parameters)
    assert names[:2] == ["name", "price"], "what is inherited comes last"


def test_settings_are_sent_recorded_and_paced_anew_on_resume(tmp_path: Path) -> None:
    write_toy(tmp_path / "toy")
    with LoopbackServer(lambda *_: "no program", dialect=ANTHROPIC) as server:
        cli(
            "improve", "./toy", *SMALL, "--baselines", "none", "--model", "anthropic/x",
            "--base-url", server.url, "--max-output-tokens", "77", "--concurrency", "3",
            "--patience", "5", cwd=tmp_path,
        )  # fmt: skip
        cli("resume", "latest", "--concurrency", "1", cwd=tmp_path)
    assert {received.body["max_tokens"] for received in server.log} == {77}
    with SQLiteStore.open(tmp_path / "selftaught.db", writable=False) as store:
        recorded = config_of(store, store.resolve("latest")).model_settings
    assert recorded == ModelSettings(max_output_tokens=77, concurrency=3, patience_s=5.0)


def test_a_number_that_cannot_be_meant_is_a_usage_error(tmp_path: Path) -> None:
    write_toy(tmp_path / "toy")
    done = cli(
        "improve", "./toy", "--model", "openai/x", "--base-url", "http://127.0.0.1:1/v1",
        "--concurrency", "0", cwd=tmp_path, expect=2,
    )  # fmt: skip
    assert "concurrency of a model must be at least 1, not 0." in done.stderr


def test_progress_says_that_the_model_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    watch = progress.watch()
    watch.on_event(Paused(what="model_retry", detail="[Errno 111] refused [key].", seconds=0.5))
    watch.on_event(Paused(what="model_paused", detail="waits for [model].", seconds=2.0))
    said = capsys.readouterr().err
    assert "model_retry: [Errno 111] refused [key]. (0.5 s)" in said
    assert "model_paused: waits for [model]." in said
