"""The command line: one clear sentence and a non-zero exit for bad input, one document for --json."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import write_toy

from selftaught.testing import LoopbackServer

SMALL = ["--calls", "2", "--responses", "3", "--slots", "2"]
COMPARE = ["--tasks", "./toy", *SMALL]


def cli(
    *arguments: str, cwd: Path, expect: int = 0, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("OPENAI")}
    done = subprocess.run(
        [sys.executable, "-m", "selftaught", *arguments],
        cwd=cwd,
        env={**clean, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == expect, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that says what is wrong."""
    lines = [line for line in done.stderr.strip().splitlines() if line]
    assert len(lines) == 1, lines
    assert lines[0].startswith("Error: ")
    return lines[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory that holds the toy task as `toy`."""
    write_toy(tmp_path / "toy")
    networked = write_toy(tmp_path / "network") / "task.toml"
    networked.write_text(networked.read_text() + "[permissions]\nnetwork = true\n")
    return tmp_path


BAD = [
    (["run", "nonsense"], 2, "There is no task 'nonsense'"),
    (["improve", "nonsense"], 2, "Shipped: circle_packing, maxcut"),
    (["improve", "./network"], 2, "--allow-network agrees to that"),
    (["check-task", "./network"], 2, "--allow-network agrees to that"),
    (["run", "./toy", "--rounds", "0"], 2, "--rounds must be at least 1"),
    (["run", "./toy", "--calls", "0"], 2, "--calls must be at least 1"),
    (["improve", "./toy", "--utility-calls", "0"], 2, "--utility-calls must be at least 1"),
    (["improve", "./toy", "--wall", "0"], 2, "--wall must be above 0"),
    (["improve", "./toy", "--dollars", "-1"], 2, "--dollars must be above 0"),
    (["run", "./toy", "--accept", "perhaps"], 2, "There is no acceptance rule 'perhaps'"),
    (["improve", "./toy", "--improver", "nobody"], 2, "There is no improver 'nobody'"),
    (["improve", "./toy", "--improver", "missing.py"], 2, "cannot be read"),
    (["improve", "./toy", "--model", "gpt-9"], 2, "There is no model 'gpt-9'"),
    (["improve", "./toy", "--model", "openai/gpt-9"], 1, "OPENAI_API_KEY"),
    (["improve", "./toy?colour=red"], 2, "has no parameter 'colour'"),
    (["improve", "./toy", "--store", "/proc/none/s.db"], 1, "/proc/none"),
    (["improve", "./toy", "--store", "toy/README.md"], 1, "README.md"),
    (["run", "./toy", "./toy"], 2, "named twice"),
    (["run", "./toy", "--held-out", "./toy"], 2, "cannot be held out"),
    (["compare", "nobody"], 2, "There is no improver 'nobody'"),
    (["compare", "seed", "--tasks", "./toy", "--seeds", "1"], 2, "--seeds must be at least 2"),
    (["compare", "seed", "--tasks", "./toy", "--baseline", "me"], 2, "is not among: seed, identity"),
    (["compare", "seed", "--tasks", "none"], 2, "At least one task"),
    (["compare", "seed", "--tasks", "./toy", "--references", "none"], 2, "at least two improvers"),
    (["compare", "latest:1", "--tasks", "./toy"], 1, "There is no store"),
    (["show", "latest"], 1, "selftaught.db"),
    (["resume", "r-1"], 1, "selftaught.db"),
    (["export", "latest", "program.txt"], 1, "must end in .py"),
    (["new-task", "toy"], 2, "not an empty folder"),
    (["check-task", "empty"], 2, "There is no task 'empty'"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "says"), BAD, ids=lambda v: " ".join(v) if isinstance(v, list) else ""
)
def test_bad_input_gets_one_clear_sentence(
    folder: Path, arguments: list[str], code: int, says: str
) -> None:
    assert says in sentence(cli(*arguments, cwd=folder, expect=code))


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("task.toml", "summary = [", "cannot be read as TOML"),
        ("task.toml", "summary = 'x'", "`normalisation`"),
        ("task.toml", "summary = 'x'\ncolour = 1\n[normalisation]\nbest = 1.0", "colour"),
        ("task.toml", "summary = 'x'\n[normalisation]\nbest = 1.0\n[splits.val]\nseed=1\ninstances=5",
         "lacks [splits.test]"),
        ("solution.py", "def algorithm(x:\n", "is not valid Python at line 1"),
        ("solution.py", "def other(x): return x\n", "does not define algorithm()"),
        ("utility.py", None, "holds no utility.py"),
        ("description.md", None, "utility.str nor description.md"),
        ("utility.py", "import nothing_of_this_name\n", "nothing_of_this_name"),
        ("utility.py", "def score(solution, split, seed):\n    return 1 / 0\n",
         "ZeroDivisionError: division by zero. Mend its utility.py"),
    ],
)  # fmt: skip
def test_a_broken_task_folder_is_explained(
    folder: Path, file: str, text: str | None, says: str
) -> None:
    path = folder / "toy" / file
    path.unlink()
    if text is not None:
        path.write_text(text)
    done = cli("improve", "./toy", *SMALL, cwd=folder, expect=1)
    assert says in done.stderr.strip().splitlines()[-1]


def test_a_budget_that_is_spent_before_the_first_result_exits_with_3(folder: Path) -> None:
    done = cli("run", "./toy", "--wall", "0.001", "--held-out", "none", cwd=folder, expect=3)
    assert "wall time" in done.stderr


def test_a_second_writer_is_told_who_is_writing(folder: Path) -> None:
    from selftaught.store.sqlite import SQLiteStore

    with SQLiteStore.open(str(folder / "selftaught.db"), writable=True):
        done = cli("improve", "./toy", *SMALL, cwd=folder, expect=1)
    assert str(os.getpid()) in sentence(done)


def documents(folder: Path, commands: Sequence[Sequence[str]]) -> list[object]:
    return [json.loads(cli(*command, "--json", cwd=folder).stdout) for command in commands]


def test_json_is_one_document_on_stdout_for_every_command(folder: Path) -> None:
    run, transfer, compare, improve, show, one, *others = documents(
        folder,
        [
            ["run", "./toy", "--rounds", "1", "--held-out", "none", *SMALL],
            ["transfer", "seed", "--tasks", "./toy", *SMALL],
            ["compare", "greedy", "seed", "--references", "identity", "--seeds", "2", *COMPARE],
            ["improve", "./toy", *SMALL],
            ["show"],
            ["show", "latest"],
            ["export", "latest", "out.py"],
            ["tasks"],
            ["improvers"],
            ["models"],
            ["new-task", "mine"],
            ["check-task", "mine"],
            ["doctor"],
        ],
    )
    export, tasks, improvers, models, new, check, doctor = others
    assert run["status"] == "done"  # type: ignore[index,call-overload]
    assert len(run["rounds"]) == 2  # type: ignore[index,call-overload]
    assert {i["name"] for i in improve["improvements"]} >= {"greedy", "identity", "best_of_n"}  # type: ignore[index,call-overload]
    assert [r["name"] for r in transfer["transfer"]] == ["seed", "identity", "best_of_n", "greedy"]  # type: ignore[index,call-overload]
    assert compare["comparison"]["baseline"] == "greedy"  # type: ignore[index,call-overload]
    places = [s["places"] for s in compare["comparison"]["standings"]]  # type: ignore[index,call-overload]
    assert [len(p) for p in places] == [2, 2, 2]
    assert len(show) == 4  # type: ignore[arg-type]
    assert one["row"]["command"].startswith("selftaught improve")  # type: ignore[index,call-overload]
    assert export["file"] == "out.py"  # type: ignore[index,call-overload]
    assert len(tasks) >= 8  # type: ignore[arg-type]
    assert len(improvers) == 12  # type: ignore[arg-type]
    assert len(models) >= 8  # type: ignore[arg-type]
    assert len(new["files"]) == 5  # type: ignore[index,call-overload]
    assert check["passed"] is doctor["safe"] is True  # type: ignore[index,call-overload]


def test_names_that_look_like_markup_are_shown_as_they_are(folder: Path) -> None:
    odd = folder / "odd[" / "x[bold]"
    odd.mkdir(parents=True)
    name = "odd[/x[bold]/mine[red].py"
    (folder / name).write_text(
        "def improve_algorithm(initial_solution, utility, language_model):\n"
        "    return initial_solution\n"
    )
    done = cli(
        "compare", "identity", name, "--seeds", "2", "--references", "none", *COMPARE, cwd=folder
    )
    assert done.stdout.count(f" {name} ") >= 4
    listed = cli("new-task", "odd[/new[dim]", cwd=folder).stdout
    assert "odd[/new[dim]/task.toml" in listed
    assert "check-task odd[/new[dim]`" in listed
    written = cli("report", "latest", "odd[/a[dim].html", cwd=folder).stdout
    assert "Written to odd[/a[dim].html." in written


def test_ctrl_c_in_any_command_ends_in_a_sentence(folder: Path) -> None:
    program = (
        "import sys, selftaught.cli as cli, selftaught.cli.listing as listing\n"
        "def interrupted():\n"
        "    raise KeyboardInterrupt\n"
        "listing.task_names = interrupted\n"
        "sys.argv = ['selftaught', 'tasks']\n"
        "cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Stopped at once.")


def test_export_and_reuse(folder: Path) -> None:
    cli("run", "./toy", "--rounds", "1", "--held-out", "none", *SMALL, cwd=folder)
    cli("export", "latest", "mine.py", cwd=folder)
    assert "mine.py exists" in sentence(cli("export", "latest", "mine.py", cwd=folder, expect=1))
    done = cli("improve", "./toy", "--improver", "mine.py", *SMALL, cwd=folder)
    assert "mine.py" in done.stdout
    no_round = cli("export", "latest", "it.py", "--round", "1", cwd=folder, expect=2)
    assert "which has no rounds" in sentence(no_round)
    assert "random program mutation" in done.stdout
    assert "random program mutation" in done.stderr
    shown = cli("show", "latest", cwd=folder).stdout
    assert "improve ./toy" in shown


def test_a_comparison_ends_in_a_sentence_for_each(folder: Path) -> None:
    cli("run", "./toy", "--rounds", "1", "--held-out", "none", *SMALL, cwd=folder)
    refused = cli("compare", "latest:1", *COMPARE, cwd=folder, expect=2)
    assert "toy cannot be held out" in sentence(refused)
    done = cli(
        "compare", "seed", "latest:0", "--tasks", "str_grid_dist", "--seeds", "2",
        "--references", "identity", *SMALL, cwd=folder,
    )  # fmt: skip
    assert "r-" in done.stdout
    assert ":0 and seed: no difference was found (2 seeds; they did equally well" in done.stdout
    assert "seed 2 of 2: seed" in done.stderr
    again = cli("resume", "latest", cwd=folder)
    *same, _, not_again, _ = again.stdout.splitlines()
    assert same == done.stdout.splitlines()[:-2]
    assert "Not done again: " in not_again


def test_a_task_of_your_own_works_from_the_skeleton(folder: Path) -> None:
    cli("new-task", "mine", cwd=folder)
    done = cli("check-task", "mine", cwd=folder)
    assert "FAIL" not in done.stdout
    done = cli("improve", "./mine", *SMALL, cwd=folder)
    assert "greedy" in done.stdout


def test_a_task_whose_verifier_takes_anything_fails_its_check(folder: Path) -> None:
    (folder / "toy" / "utility.py").write_text(
        "def score(solution, split, seed):\n"
        "    try:\n"
        "        solution.call('algorithm', 1)\n"
        "    except Exception:\n"
        "        pass\n"
        "    return -1.0\n"
    )
    done = cli("check-task", "./toy", cwd=folder, expect=1)
    assert "FAIL nothing is rejected" in done.stdout


@pytest.mark.parametrize("honours_n", [True, False])
def test_a_whole_run_on_a_server_that_speaks_the_openai_protocol(
    folder: Path, honours_n: bool
) -> None:
    from selftaught.mutation.proposer import MutationProposer
    from selftaught.testing.loopback_server import MutationAnswers

    answers = MutationAnswers(MutationProposer())
    with LoopbackServer(answer=answers, honours_n=honours_n) as server:
        done = cli(
            "run", "./toy", "--rounds", "2", "--held-out", "none", *SMALL, "--json",
            "--model", "openai/x", "--base-url", server.url, cwd=folder,
        )  # fmt: skip
        assert len(server.log) > 5
    run = json.loads(done.stdout)
    assert run["status"] == "done"
    assert len(run["rounds"]) == 3
    assert "random program mutation" not in done.stderr


def test_what_a_local_model_needs_is_told_in_full(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from selftaught.cli import listing
    from selftaught.models import resolve

    monkeypatch.setattr(resolve, "is_installed", lambda: False)
    listing.models_command()
    assert "'selftaught[local]'" in "".join(capsys.readouterr().out.split())


def test_no_key_is_ever_stored_or_printed(folder: Path) -> None:
    key = "sk-canary-0123456789abcdef"
    with LoopbackServer(require_key=key) as server:
        done = cli(
            "improve", "./toy", *SMALL, "--model", "openai/x", "--base-url", server.url,
            cwd=folder, environment={"OPENAI_API_KEY": key},
        )  # fmt: skip
        wrong = cli(
            "improve", "./toy", *SMALL, "--model", "openai/x", "--base-url", server.url,
            cwd=folder, environment={"OPENAI_API_KEY": key + "wrong"}, expect=1,
        )  # fmt: skip
    written = b"".join(p.read_bytes() for p in folder.rglob("*") if p.is_file())
    said = done.stdout + done.stderr + wrong.stdout + wrong.stderr
    assert key.encode() not in written
    assert key not in said


HOSTILE = {
    "loops": "while True: pass",
    "exits": "import os; os._exit(0)",
    "hoards": "bytearray(32 * 2**30)",
    "prints": "[print('x' * 2**20) for _ in range(1024)]; return initial_solution",
    "connects": "import socket; socket.create_connection(('127.0.0.1', 80))",
    "reads": "return open('/etc/passwd').read()",
    "resets": "utility.uses = 0; utility.budget = 99; return initial_solution",
    "builds": "from language_model import LanguageModel; LanguageModel()",
    "asks": "return max([initial_solution] * 10_000, key=utility)",
}
ENDINGS = {
    "loops": "timed_out",
    "exits": "failed",
    "hoards": "out_of_memory",
    "prints": "scored",
    "connects": "refused",
    "reads": "refused",
    "resets": "scored",
    "builds": "refused",
    "asks": "scored",
}


def test_a_run_goes_on_whatever_an_improver_does(folder: Path) -> None:
    head = "def improve_algorithm(initial_solution, utility, language_model):\n    "
    for name, line in HOSTILE.items():
        (folder / f"{name}.py").write_text(head + line + "\n")
    files = [f"{name}.py" for name in HOSTILE]
    done = cli(
        "transfer", *files, "--tasks", "./toy", "--repeats", "2", "--json", *SMALL, cwd=folder
    )
    rows = {row["name"]: row["measured"] for row in json.loads(done.stdout)["transfer"]}
    assert {name: rows[f"{name}.py"]["outcome"] for name in HOSTILE} == ENDINGS
    assert rows["greedy"]["outcome"] == "scored"
    shown = json.loads(cli("show", "latest", "--json", cwd=folder).stdout)
    assert shown["attempts"]["budget"] == 4
    assert shown["attempts"]["language_model"] == 2
    assert shown["refusals"]["utility_calls"] == 2 * (10_000 - 7)
