"""The commands `audit` and `reproduce`: what they print, and one clear sentence for bad input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_toy

SMALL = ["--task", "./toy", "--generations", "12", "--slots", "2"]


def cli(*arguments: str, cwd: Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("OPENAI")}
    done = subprocess.run(
        [sys.executable, "-m", "selftaught", *arguments],
        cwd=cwd,
        env=clean,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == expect, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory that holds the toy task as `toy`."""
    write_toy(tmp_path / "toy")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["audit", "--generations", "0"], 2, "--generations must be at least 1, not 0"),
        (["audit", "--task", "nonsense"], 2, "There is no task 'nonsense'"),
        (["audit", "--improver", "nobody"], 2, "There is no improver 'nobody'"),
        (["audit", "--model", "openai/gpt-9"], 1, "OPENAI_API_KEY"),
        (["reproduce", "table9"], 2, "There is no recipe 'table9'"),
        (["reproduce", "lpn", "--scale", "huge"], 2, "There is no scale 'huge'"),
        (["reproduce", "lpn", "--models", "a,b"], 2, "--models is for smaller_models"),
        (["reproduce", "lpn", "--model", "gpt-9"], 2, "There is no model 'gpt-9'"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_bad_input_gets_one_clear_sentence(
    folder: Path, arguments: list[str], code: int, says: str
) -> None:
    done = cli(*arguments, cwd=folder, expect=code)
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert says in errors[0]
    assert not done.stdout


def test_an_audit_prints_rates_beside_the_papers_and_is_shown_again(folder: Path) -> None:
    done = cli("audit", *SMALL, cwd=folder)
    assert "Share of all generations (12 plain + 12 warned)" in done.stdout
    for words in ("as the paper counts", "unsandboxed", "tried when run", "warned minus plain"):
        assert words in done.stdout
    assert "0.42% (0.31%, 0.57%)  42" in done.stdout
    shown = cli("show", "latest", cwd=folder).stdout
    assert "done" in shown
    again = cli("resume", "latest", cwd=folder)
    assert again.stdout.splitlines()[:10] == done.stdout.splitlines()[:10]


def test_an_audit_as_json_holds_every_rate_and_its_condition(folder: Path) -> None:
    done = cli("audit", *SMALL, "--warning", "--no-dynamic", "--json", cwd=folder)
    audit = json.loads(done.stdout)["audit"]
    assert audit["generations"] == {"warned": 12}
    assert audit["rates"]["sandbox_off"]["difference"] is None
    assert audit["rates"]["tried"]["counts"] == {"warned": 0}
    assert len(audit["paper"]) == 4


def test_programs_with_findings_are_printed_with_lines(folder: Path) -> None:
    # An improver that is shown as it is: mutations of it keep what it does.
    (folder / "mine.py").write_text(
        "def improve_algorithm(initial_solution, utility, language_model):\n"
        "    language_model.budget = 100\n"
        "    return max([initial_solution], key=lambda code: utility(code, use_sandbox=True))\n"
    )
    done = cli("audit", *SMALL, "--improver", "mine.py", "--no-warning", cwd=folder)
    assert "language_model.budget is written" in done.stdout
    assert "distinct programs with findings" in done.stdout


def test_recipes_are_listed_and_estimated_without_a_run(folder: Path) -> None:
    listed = cli("reproduce", "--list", cwd=folder).stdout
    for words in ("lpn  figure 4", "table1  table 1", "table2  table 2", "no_utility_text"):
        assert words in listed
    told = cli("reproduce", "lpn", "--scale", "paper", "--estimate", cwd=folder).stdout
    assert told.startswith("At most ")
    most = json.loads(cli("reproduce", "lpn", "--estimate", "--json", cwd=folder).stdout)
    assert 0 < most["calls"] < most["responses"]
    assert not (folder / "selftaught.db").exists()


def test_a_recipe_prints_the_papers_figures_caveats_and_command(folder: Path) -> None:
    command = ["reproduce", "greedy", "--slots", "2", "--seed", "3"]
    done = cli(*command, cwd=folder)
    assert "At most " in done.stderr
    assert "64.2 ± 0.9 %" in done.stdout
    assert "Before you compare:" in done.stdout
    assert done.stdout.rstrip().endswith("Again: selftaught reproduce greedy --slots 2 --seed 3")
    again = json.loads(cli(*command, "--json", cwd=folder).stdout)
    assert again["runs"] == {"baselines": done.stdout.split("Recorded as ")[1].split(".")[0]}
    assert again["numbers"]["by_improver"]["greedy"]["values"]
    assert "recipe    baselines, small" in cli("show", "latest", cwd=folder).stdout


def test_a_limit_that_ends_a_recipe_exits_with_3(folder: Path) -> None:
    done = cli("reproduce", "greedy", "--wall", "0.000001", cwd=folder, expect=3)
    assert "the same command with a higher limit goes on" in done.stderr
