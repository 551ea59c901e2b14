"""What a command loads before it does anything: its own parts, and no other command's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from selftaught.cli import app
from selftaught.cli.commands import NEED_A_POOL, TABLE
from selftaught.pools import early
from selftaught.testing import LoopbackServer

# What takes long to load, with what a run needs only later, or never.
HEAVY = {
    "numpy", "jinja2", "openai", "anthropic", "google.genai", "pyarrow", "keyring", "ray",
    "genai_prices", "mlflow", "opentelemetry.sdk", "xllamacpp", "psycopg",
}  # fmt: skip
OTHER_COMMANDS = {
    "selftaught.mutation", "selftaught.runs.auditing", "selftaught.runs.reproduce",
    "selftaught.report", "selftaught.strategies", "selftaught.task_check",
    "selftaught.cli.reading", "selftaught.cli.reproducing", "selftaught.cli.listing",
}  # fmt: skip
AT_THE_END = {"rich.table", "selftaught.cli.results", "selftaught.cli.verdicts"}
HTTP = {"httpx2", "httpcore2", "ssl"}

ANSWER = "```python\ndef algorithm(x):\n    return x + 7\n```"


def loaded(arguments: list[str], at: str = "the end") -> set[str]:
    """The modules that a command has loaded at its end, or when a module's function is called."""
    program = (
        "import atexit, importlib, sys\n"
        "def tell(*_, **__):\n"
        "    sys.__stderr__.write('LOADED ' + ' '.join(sys.modules) + chr(10))\n"
        "    sys.__stderr__.flush()\n"
        "at = sys.argv.pop(1)\n"
        "if at == 'the end':\n"
        "    atexit.register(tell)\n"
        "else:\n"
        "    class Watch:\n"
        "        def find_spec(self, name, path=None, target=None):\n"
        "            if name == at:\n"
        "                sys.meta_path.remove(self)\n"
        "                tell()\n"
        "    sys.meta_path.insert(0, Watch())\n"
        "from selftaught.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, at, *arguments],
        capture_output=True, text=True, timeout=120, check=True,
        env={k: v for k, v in os.environ.items() if not k.startswith(("OPENAI", "OTEL"))},
    )  # fmt: skip
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("LOADED ")]
    return set(line.split()[1:])


def within(modules: set[str], names: set[str]) -> set[str]:
    return {name for name in names if any(f"{m}.".startswith(f"{name}.") for m in modules)}


def test_the_version_is_told_without_any_command() -> None:
    modules = loaded(["--version"])
    assert within(modules, HEAVY | OTHER_COMMANDS | HTTP) == set()
    assert "selftaught.runs.launch" not in modules


def test_help_loads_the_commands_and_nothing_that_they_use_late() -> None:
    assert within(loaded(["--help"]), HEAVY | HTTP) == set()


def test_a_run_loads_what_shows_its_result_when_there_is_one(
    toy_folder: Path, tmp_path: Path
) -> None:
    with LoopbackServer(lambda received, index: ANSWER) as server:
        modules = loaded(
            [
                *("improve", str(toy_folder), "--model", "openai/x", "--base-url", server.url),
                *("--calls", "1", "--baselines", "none", "--store", str(tmp_path / "a.db")),
            ],
            at="selftaught.cli.results",
        )
    assert server.log, "the model was asked by then"
    assert within(modules, HEAVY | OTHER_COMMANDS | AT_THE_END) == set()
    assert within(modules, HTTP) == HTTP


def test_a_run_of_mutations_loads_no_http_client(toy_folder: Path, tmp_path: Path) -> None:
    modules = loaded(
        ["improve", str(toy_folder), "--baselines", "none", "--store", str(tmp_path / "a.db")]
    )
    assert within(modules, {"httpx2", "genai_prices", "numpy"}) == set()


def test_every_command_of_the_table_is_there() -> None:
    said = CliRunner().invoke(app, ["--help"])
    assert said.exit_code == 0
    listed = [line.split()[0] for line in said.output.partition("Commands")[2].splitlines() if line]
    assert [name for name in listed if name in TABLE] == list(TABLE)
    assert set(NEED_A_POOL) <= set(TABLE)


@pytest.mark.parametrize(
    "arguments",
    [
        ["improve"],
        ["improve", "no-such-task"],
        ["run", "tsp", "--rounds", "x"],
        ["improve", "--help"],
    ],
)
def test_what_was_begun_for_a_command_that_fails_is_ended(arguments: list[str]) -> None:
    CliRunner().invoke(app, arguments)
    assert early._begun == []
