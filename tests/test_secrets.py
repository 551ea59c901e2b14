"""Planted keys never reach a byte that is written: store, files, screen, whatever went wrong."""

import base64
import json
import os
import subprocess
import sys
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import write_toy

from selftaught.errors import SelftaughtError
from selftaught.pool import ScoreJob
from selftaught.pools.local import LocalPool
from selftaught.solution import Solution
from selftaught.store.sqlite import SQLiteStore
from selftaught.task import Task
from selftaught.testing import HttpError, LoopbackServer, ReceivedRequest
from selftaught.testing.loopback_faults import Mishap
from selftaught.utility import Failed, Scored

# Of no known kind, and hard to write: every escape and encoding changes it.
CANARY = 'cnry9Q"z/W+b\\7=x1'
# Known by its looks alone: nobody loads it.
STRANGER = "sk-str4ngerstr4ngerstr4nger"

FEEDBACK_UTILITY = """
import os
from selftaught.utility import Score

def score(solution, split, seed):
    value = solution.call("algorithm", 1)
    return Score(value=-abs(value - 8), feedback=FEEDBACK)
"""
CURIOUS = """
def improve_algorithm(initial_solution, utility, language_model):
    from helpers import extract_code
    told = utility.evaluate(initial_solution).feedback
    for _ in range(2):
        try:
            answer = language_model.prompt("You improve. " + told, initial_solution + "\\n# " + told)[0]
        except RuntimeError as error:
            return initial_solution + "\\n# " + str(error)
        code = extract_code(answer)
        utility(code)
    return code + "\\n'''" + answer.replace("'''", "") + told + "'''"
"""


def encodings(secret: str) -> str:
    """The ways a careless server may repeat a key, one behind the other."""
    twice = json.dumps(json.dumps(secret))
    pairs = [base64.b64encode(f"{user}{secret}".encode()) for user in ("", "u:", "user:")]
    safe = [base64.urlsafe_b64encode(f"{user}{secret}".encode()) for user in ("", "u:", "user:")]
    url = [urllib.parse.quote(secret, safe=""), urllib.parse.quote(secret)]
    encoded = [secret, twice, repr(secret), *url, *(one.decode() for one in (*pairs, *safe))]
    return " ".join([*encoded, secret.encode().hex()])


def written_forms(secret: str) -> dict[str, bytes]:
    raw = secret.encode()
    forms = {
        "plain": secret,
        "json": json.dumps(secret)[1:-1],
        "json twice": json.dumps(json.dumps(secret))[3:-3],
        "repr": repr(secret)[1:-1],
        "url": urllib.parse.quote(secret, safe=""),
        "url with slashes": urllib.parse.quote(secret),
        "form": urllib.parse.quote_plus(secret),
        "hex": raw.hex(),
    }
    for before in ("", "u:", "user:"):
        whole = base64.b64encode(before.encode() + raw).decode()
        # The ends depend on what stands around.
        core = whole[4 * ((len(before) + 2) // 3) :].rstrip("=")[:-1]
        forms[f"base64 after {before!r}"] = core
        forms[f"url-safe base64 after {before!r}"] = core.replace("+", "-").replace("/", "_")
    return {name: form.encode() for name, form in forms.items()}


def assert_clean(where: str, content: bytes, secrets: Sequence[str]) -> None:
    for secret in secrets:
        for name, form in written_forms(secret).items():
            assert form not in content, f"{where} shows {secret} ({name})"


def echoing(received: ReceivedRequest, index: int) -> str:
    """An answer full of the key that came with the request, and of what is said to be one."""
    key = CANARY
    return (
        f"Your header was {received.headers.get('authorization')}, and {encodings(key)}, "
        f"{STRANGER}.\n"
        f"```python\ndef algorithm(x):\n    return x + {3 + index}  # {key} {STRANGER}\n```"
    )


def failing(status: int) -> Mishap:
    return HttpError(
        status=status,
        message=f"Key {CANARY} ({urllib.parse.quote(CANARY)}, {STRANGER}) is not welcome",
        code=CANARY,
        param=CANARY,
        retry_after=CANARY,
    )


class Place:
    """A working directory where commands run, and where everything they wrote is looked at."""

    def __init__(self, folder: Path, secrets: Sequence[str]) -> None:
        self.work = folder / "work"
        self.work.mkdir()
        self.secrets = secrets
        self.task = write_toy(folder / "toy")
        feedback = f"{CANARY} {base64.b64encode(CANARY.encode()).decode()} {STRANGER}"
        utility = FEEDBACK_UTILITY.replace("FEEDBACK", repr(feedback))
        (self.task / "utility.py").write_text(utility)
        self.improver = folder / "curious.py"
        self.improver.write_text(CURIOUS)

    def cli(self, *arguments: str, environment: dict[str, str], expect: int = 0) -> str:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("OPENAI")}
        done = subprocess.run(
            [sys.executable, "-m", "selftaught", *arguments],
            cwd=self.work, env={**clean, **environment}, capture_output=True, timeout=120,
            check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == expect, said.decode()
        assert_clean(" ".join(arguments), said, self.secrets)
        return said.decode()

    def assert_clean(self) -> None:
        files = [path for path in self.work.rglob("*") if path.is_file()]
        assert files
        for path in files:
            assert_clean(path.name, path.read_bytes(), self.secrets)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, (CANARY, STRANGER))


def planted(how: str, url: str, tmp_path: Path) -> tuple[dict[str, str], list[str]]:
    """Environment and options by which a run gets its key."""
    quoted = urllib.parse.quote(CANARY, safe="")
    if how == "environment":
        return {"OPENAI_API_KEY": CANARY}, ["--base-url", url]
    if how == "file":
        (tmp_path / "key").write_text(f"{CANARY}\n")
        return {"OPENAI_API_KEY_FILE": str(tmp_path / "key")}, ["--base-url", url]
    if how == "base url":
        return {}, ["--base-url", url.replace("://", f"://user:{quoted}@")]
    return {"OPENAI_BASE_URL": url.replace("://", f"://{quoted}@")}, []


SMALL = ["--calls", "2", "--responses", "2", "--slots", "2"]
BRIEF = ["--rounds", "1", "--held-out", "none", "--repeats", "1", "--sealed-repeats", "1", *SMALL]


@pytest.mark.parametrize("how", ["environment", "file", "base url", "variable"])
def test_a_run_that_succeeds_shows_no_key(place: Place, tmp_path: Path, how: str) -> None:
    with LoopbackServer(echoing) as server:
        environment, options = planted(how, server.url, tmp_path)
        place.cli("run", str(place.task), "--improver", str(place.improver), *BRIEF,
                  "--model", "openai/x", *options, environment=environment)  # fmt: skip
        sent = json.dumps([one.body for one in server.log])
    assert "You improve." in sent
    assert_clean("what was sent", sent.encode(), place.secrets)
    place.cli("show", "latest", "--json", environment={})
    place.assert_clean()
    with SQLiteStore.open(place.work / "selftaught.db", writable=False) as store:
        assert store.check() == []


@pytest.mark.slow
def test_no_command_shows_a_key(place: Place, tmp_path: Path) -> None:
    with LoopbackServer(echoing) as server:
        environment, options = planted("environment", server.url, tmp_path)
        task, improver = str(place.task), str(place.improver)
        settings = [task, "--improver", improver, *BRIEF]
        options += ["--model", "openai/x"]
        place.cli("run", *settings, "--json", *options, environment=environment)
        place.cli("improve", task, "--improver", improver, *SMALL, *options,
                  environment=environment)  # fmt: skip
    first, second = (run["id"] for run in json.loads(place.cli("show", "--json", environment={})))
    for run in (first, second):
        place.cli("show", run, environment={})
        place.cli("export", run, f"{run}.py", environment={})
        place.cli("record", run, f"{run}.jsonl", environment={})
    place.cli("show", environment={})
    place.cli("resume", first, environment=environment)
    place.cli("run", *settings, "--model", f"replay/{first}.jsonl", environment=environment)
    place.assert_clean()
    assert "[redacted]" in (place.work / f"{second}.py").read_text()


@pytest.mark.parametrize(
    ("status", "how"),
    [
        (400, "environment"),
        (401, "environment"),
        (401, "base url"),
        (404, "file"),
        pytest.param(500, "environment", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_fails_shows_no_key(place: Place, tmp_path: Path, how: str, status: int) -> None:
    with LoopbackServer(echoing, faults=lambda number, body: failing(status)) as server:
        environment, options = planted(how, server.url, tmp_path)
        environment["SELFTAUGHT_TRACEBACK"] = "1"
        said = place.cli(
            "improve", str(place.task), "--improver", str(place.improver), "--baselines", "none",
            "--model", "openai/x", "--calls", "1", "--responses", "1", *options,
            environment=environment, expect=0 if status == 400 else 1,
        )  # fmt: skip
    assert "is not welcome" in said
    place.cli("show", "latest", "--json", environment={})
    if status == 400:
        place.cli("export", "latest", "program.py", environment={})
        place.cli("record", "latest", "run.jsonl", environment={})
    place.assert_clean()


def test_a_mistyped_option_shows_no_key(place: Place) -> None:
    environment = {"OPENAI_API_KEY": CANARY}
    for arguments in (
        ["run", CANARY],
        ["run", "tsp", "--model", CANARY],
        ["run", "tsp", "--model", f"openai/{STRANGER}", "--base-url", f"ftp://u:{CANARY}@h/v1"],
        ["run", "tsp", "--rounds", CANARY],
        ["improve", "tsp", "--improver", f"{CANARY}.py"],
        ["show", CANARY, "--store", f"{STRANGER}.db"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "selftaught", *arguments],
            cwd=place.work, env={**os.environ, **environment}, capture_output=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert done.returncode in (1, 2)
        assert_clean(" ".join(arguments), done.stdout + done.stderr, place.secrets)


def test_a_run_whose_address_held_a_password_resumes_with_the_address_only(
    place: Place, tmp_path: Path
) -> None:
    with LoopbackServer(echoing) as server:
        _, options = planted("base url", server.url, tmp_path)
        place.cli("improve", str(place.task), "--improver", str(place.improver), "--model",
                  "openai/x", "--calls", "2", *options, environment={})  # fmt: skip
        said = place.cli("resume", "latest", environment={}, expect=2)
        assert "set OPENAI_BASE_URL to it, credentials included" in said
        place.cli("resume", "latest", environment={"OPENAI_BASE_URL": options[1]})


ENVIRONMENT_UTILITY = """
import os
from selftaught.utility import Score

def score(solution, split, seed):
    solution.call("algorithm", 1)
    return Score(value=1.0, feedback=" ".join(f"{k}={v}" for k, v in os.environ.items()))
"""


def test_no_child_has_a_key_in_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Never remembered, so nothing but the children's environment keeps it out.
    secret = "quietly-planted-7731"
    folder = write_toy(tmp_path / "toy")
    (folder / "utility.py").write_text(ENVIRONMENT_UTILITY)
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "SOMETHING_ELSE"):
        monkeypatch.setenv(name, secret)
    task = Task.load(str(folder))
    pool = LocalPool(1)
    try:
        outcome = pool.score(ScoreJob(task=task, solution=task.initial, split="val"))
        assert isinstance(outcome, Scored)
        assert "PYTHONHASHSEED=0" in outcome.feedback
        assert secret not in outcome.feedback
        curious = Solution("import os\ndef algorithm(x):\n    raise ValueError(dict(os.environ))\n")
        failed = pool.score(ScoreJob(task=task, solution=curious, split="val"))
        assert isinstance(failed, Failed)
        assert "ValueError" in failed.reason
        assert secret not in failed.reason
    finally:
        pool.close()


def test_messages_of_errors_show_no_key() -> None:
    assert str(SelftaughtError(f"No: {STRANGER}.")) == "No: [redacted]."
