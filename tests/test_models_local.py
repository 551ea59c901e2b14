"""A local model: the contract, a process of its own that nobody else can use or outlives."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tiny_gguf import write_tiny_gguf

from selftaught.budget import Budget, RunLimits
from selftaught.errors import ModelRefused, ModelUnreachable, UsageError
from selftaught.events import Answered
from selftaught.improver import load_improver
from selftaught.language_model import ModelSettings, Request
from selftaught.models import local
from selftaught.models.local import LocalModel, free_cores
from selftaught.models.resolve import resolve_model
from selftaught.runs.config import RunConfig
from selftaught.runs.launch import start
from selftaught.store.sqlite import SQLiteStore
from selftaught.testing import LanguageModelContract

SETTINGS = ModelSettings(max_output_tokens=6, timeout_s=60.0, concurrency=4)
REQUEST = Request(expertise="e", message="hello")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(scope="module")
def shared(tiny: Path) -> Iterator[LocalModel]:
    with LocalModel(f"local/{tiny}", SETTINGS) as model:
        yield model


class TestALocalModelKeepsTheContract(LanguageModelContract):
    @pytest.fixture
    def model(self, shared: LocalModel) -> LocalModel:
        return shared

    @pytest.fixture
    def broken_model(self, tmp_path: Path) -> LocalModel:
        path = tmp_path / "broken.gguf"
        path.write_bytes(b"GGUF and then nothing that makes sense")
        return LocalModel(f"local/{path}", SETTINGS)


def is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def servers() -> set[str]:
    """The processes with a model that this one has started."""
    listed = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "pid=,args="], capture_output=True, text=True
    ).stdout
    return {line for line in listed.splitlines() if "selftaught.models.local_server" in line}


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 20
    while is_alive(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


def ask(model: LocalModel, request: Request = REQUEST, *, seed: int = 0, occurrence: int = 0):
    return model.respond(request, seed=seed, occurrence=occurrence, key=f"{seed}/{occurrence}")


def test_answers_follow_from_the_seed_and_all_tokens_are_counted(tiny: Path) -> None:
    # One at a time: what is computed together shares its arithmetic.
    alone = msgspec.structs.replace(SETTINGS, concurrency=1)
    several = Request(expertise="e", message="hello", n_responses=3)
    with LocalModel(f"local/{tiny}", alone) as model:
        answer = ask(model, several)
        assert ask(model, several).texts == answer.texts
        assert len(set(answer.texts)) == 3
        assert ask(model, several, seed=1).texts != answer.texts
        assert ask(model, occurrence=2).texts == answer.texts[2:]
        single = ask(model)
    assert answer.usage.prompt_tokens == 3 * single.usage.prompt_tokens > 0
    assert answer.usage.completion_tokens <= 3 * 6
    assert answer.usage.completion_tokens > 6


def test_the_process_ends_with_the_model(tiny: Path) -> None:
    model = resolve_model(f"local/{tiny}", base_url=None, environment={}, settings=SETTINGS)
    assert isinstance(model, LocalModel)
    assert model.process_id is None
    ask(model)
    pid = model.process_id
    assert is_alive(pid)
    assert any(str(pid) in line for line in servers())
    model.close()
    assert not Path(f"/proc/{pid}").exists()
    model.close()
    with pytest.raises(ModelUnreachable, match="closed"):
        ask(model)


def test_the_process_dies_with_its_host(tiny: Path) -> None:
    program = (
        "import sys, time\n"
        "from selftaught.language_model import ModelSettings, Request\n"
        "from selftaught.models.local import LocalModel\n"
        "model = LocalModel(sys.argv[1], ModelSettings(max_output_tokens=2))\n"
        "model.respond(Request(expertise='', message='x'), seed=0, occurrence=0, key='k')\n"
        "print(model.process_id, flush=True)\n"
        "time.sleep(60)\n"
    )
    host = subprocess.Popen(
        [sys.executable, "-c", program, f"local/{tiny}"], stdout=subprocess.PIPE, text=True
    )
    with host:
        pid = int(host.stdout.readline())
        assert is_alive(pid)
        host.kill()
    wait_until_gone(pid)


def test_a_process_that_crashes_ends_the_run_with_a_sentence(tiny: Path) -> None:
    with LocalModel(f"local/{tiny}", SETTINGS) as model:
        ask(model)
        os.kill(model.process_id, signal.SIGKILL)
        with pytest.raises(ModelUnreachable, match=r"tiny\.gguf' ended with status -9"):
            ask(model)


def test_nobody_without_the_key_is_answered(shared: LocalModel) -> None:
    ask(shared)
    request = urllib.request.Request(
        f"{shared._server.address}/v1/chat/completions", data=b'{"messages": []}'
    )
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request, timeout=20)
    refusal.value.close()
    assert refusal.value.code == 401
    assert "127.0.0.1" in shared._server.address


def test_the_process_gets_no_keys(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-the-test")
    with LocalModel(f"local/{tiny}", SETTINGS) as model:
        ask(model)
        told = Path(f"/proc/{model.process_id}/environ").read_bytes()
        told += Path(f"/proc/{model.process_id}/cmdline").read_bytes()
        assert model._server.api_key.encode() not in told
    assert b"PATH=" in told
    assert b"sk-secret" not in told


def test_what_is_no_model_is_told_before_a_run(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"'/no/such\.gguf' cannot be read: No such file"):
        LocalModel("local//no/such.gguf", SETTINGS)
    other = tmp_path / "other.gguf"
    other.write_text("something else")
    with pytest.raises(UsageError, match="is no GGUF file"):
        LocalModel(f"local/{other}", SETTINGS)
    with pytest.raises(UsageError, match="asks no server"):
        resolve_model(f"local/{tiny}", base_url="http://127.0.0.1:1/v1", environment={})
    monkeypatch.setattr(local, "is_installed", lambda: False)
    with pytest.raises(UsageError, match=r"pip install 'selftaught\[local\]'"):
        LocalModel(f"local/{tiny}", SETTINGS)


def test_a_file_that_cannot_be_loaded_says_so(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    with (
        LocalModel(f"local/{path}", SETTINGS) as model,
        pytest.raises(ModelRefused, match=r"broken\.gguf' cannot be loaded"),
    ):
        ask(model)


def test_threads_leave_room_for_who_else_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    for load, free in ((0.2, 8), (3.4, 5), (30.0, 1)):
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (load, 0.0, 0.0))
        assert free_cores() == free


def test_a_run_with_a_local_model_costs_nothing_and_leaves_no_process(
    toy_folder: Path, tiny: Path, tmp_path: Path
) -> None:
    store, before = str(tmp_path / "s.db"), servers()
    run = start(
        RunConfig(
            command="improve",
            tasks=(str(toy_folder),),
            improvers=(("greedy", load_improver("greedy").source),),
            model=f"local/{tiny}",
            model_settings=SETTINGS,
            budget=Budget(calls=2, responses=2, utility_calls=5),
            limits=RunLimits(dollars=0.01),
            slots=1,
        ),
        store,
    )
    assert run.status == "done"
    with SQLiteStore.open(store, writable=False) as opened:
        answers = [e for _, _, e in opened.events(run.id) if isinstance(e, Answered)]
    assert answers
    assert {answer.dollars for answer in answers} == {0.0}
    assert all(answer.prompt_tokens > 0 for answer in answers)
    assert servers() <= before
