"""A recorded run, answered from its record alone: the same result, or a loud difference."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import write_toy
from test_runs import SMALL, config, result_of

import selftaught as st
from selftaught.errors import ModelError, ReplayMismatch, RequestRejected, UsageError
from selftaught.events import Answered, Rejected
from selftaught.history import export_program, read_history
from selftaught.language_model import Answer, ExchangeKey, LanguageModel, Request
from selftaught.models.recording import (
    Exchange,
    Header,
    Recording,
    read_recording,
    recording_of,
    write_recording,
)
from selftaught.models.replay import ReplayModel
from selftaught.mutation.proposer import MutationProposer
from selftaught.runs.launch import resume, start
from selftaught.runs.result import Run
from selftaught.store.sqlite import SQLiteStore
from selftaught.testing import LoopbackServer
from selftaught.testing.loopback_server import MutationAnswers
from selftaught.testing.model_contract import LanguageModelContract


@pytest.fixture(scope="module")
def recorded(toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """A whole run against a server that has gone, and its store."""
    store = tmp_path_factory.mktemp("recorded") / "recorded.db"
    with LoopbackServer(MutationAnswers(MutationProposer())) as server:
        run = start(
            config(toy_folder, model="openai/tiny", base_url=server.url, held_out=("tsp",)),
            str(store),
            environment={},
        )
    return run, store


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object, **more: object) -> Any:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket.socket, "connect_ex", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


def replayed(recorded: tuple[Run, Path], store: Path, **changes: object) -> Run:
    run, original = recorded
    settings: dict[str, Any] = {
        "model": f"replay/{original}:{run.id}", "base_url": None, **changes
    }  # fmt: skip
    return start(msgspec.structs.replace(run.config, **settings), str(store), environment={})


def everything(run: Run) -> bytes:
    """All of a result, tables included, as bytes."""
    rows = [(row.name, row.improver, row.measured, row.difference, row.difference_error)
            for row in (*run.sealed_rows, *run.rows)]  # fmt: skip
    sources = [(one.improver.source, one.candidate and one.candidate.source) for one in run.rounds]
    return repr((result_of(run), rows, sources, run.scores, run.status)).encode()


def exported(store: Path, run: str) -> str:
    """The exported program without the comments on where it comes from."""
    with SQLiteStore.open(store, writable=False) as opened:
        return export_program(opened, run).partition("\n\n")[2]


def test_a_replay_gives_the_same_result_byte_for_byte_without_a_network(
    recorded: tuple[Run, Path], tmp_path: Path, no_network: None
) -> None:
    original, store = recorded
    again = replayed(recorded, tmp_path / "again.db", slots=1)
    assert everything(again) == everything(original)
    assert exported(tmp_path / "again.db", again.id) == exported(store, original.id)
    assert again.spent["live_calls"] == again.spent["tokens"] == 0
    assert again.spent["calls_from_recording"] == original.spent["live_calls"] > 0


def test_a_replay_is_recorded_as_one_and_spends_nothing(
    recorded: tuple[Run, Path], tmp_path: Path
) -> None:
    original, store = recorded
    again = replayed(recorded, tmp_path / "again.db")
    assert again.config.model == f"replay/{store}:{original.id}"
    assert again.config.replay_of == "openai/tiny"
    with SQLiteStore.open(tmp_path / "again.db", writable=False) as opened:
        history = read_history(opened, again.id)
        events = [e for _, _, e in opened.events(again.id, ("answered",))]
        assert opened.check() == []
    answers = [event for event in events if isinstance(event, Answered)]
    assert {(e.source, e.dollars, e.model) for e in answers} == {("replay", 0.0, "openai/tiny")}
    assert sum(event.completion_tokens for event in answers) > 0
    assert history.sources == {"replay": len(answers)}
    assert history.calls == history.prompt_tokens == 0


def test_a_run_is_replayed_out_of_its_own_store_and_resumed(
    toy_folder: Path, tmp_path: Path
) -> None:
    store = str(tmp_path / "s.db")
    original = start(config(toy_folder), store)
    again = start(config(toy_folder, model="replay/latest"), store)
    assert again.config.model == f"replay/{original.id}"
    assert again.config.replay_of == "mutation"
    assert everything(again) == everything(original)
    third = start(config(toy_folder, model=f"replay/{again.id}"), store)
    assert third.config.replay_of == "mutation"
    assert everything(resume(third.id, store)) == everything(original)


def test_a_file_of_exchanges_replays_like_the_run(
    recorded: tuple[Run, Path], tmp_path: Path, no_network: None
) -> None:
    original, _ = recorded
    file = tmp_path / "run.jsonl"
    write_file(recorded, file)
    again = replayed(recorded, tmp_path / "again.db", model=f"replay/{file}")
    assert everything(again) == everything(original)
    header, *lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert (header["model"], header["run"]) == ("openai/tiny", original.id)
    assert header["exchanges"] == len(lines) == original.spent["live_calls"]
    assert "def improve_algorithm" not in json.dumps(header)


def write_file(recorded: tuple[Run, Path], file: Path) -> None:
    run, store = recorded
    with SQLiteStore.open(store, writable=False) as opened, file.open("wb") as out:
        write_recording(recording_of(opened, run.id), out)


def test_another_setting_is_named_where_a_replay_does_not_fit(
    recorded: tuple[Run, Path], tmp_path: Path
) -> None:
    more = st.Budget(calls=2, responses=2, utility_calls=7)
    with pytest.raises(ReplayMismatch) as failure:
        replayed(recorded, tmp_path / "again.db", budget=more, meta_budget=more)
    said = str(failure.value)
    assert "budget.responses was 3, is 2" in said
    assert "budget.calls" not in said
    with SQLiteStore.open(tmp_path / "again.db", writable=False) as opened:
        assert opened.runs()[0].status == "failed"


def test_another_improver_is_named_where_a_replay_does_not_fit(
    recorded: tuple[Run, Path], tmp_path: Path
) -> None:
    source = recorded[0].config.improvers[0][1].replace("expertise = ", "expertise = 'New. ' + ")
    assert source != recorded[0].config.improvers[0][1]
    with pytest.raises(ReplayMismatch, match=r"Settings that differ.*improver seed was"):
        replayed(recorded, tmp_path / "again.db", improvers=(("seed", source),))


def key(job: str, request: Request, occurrence: int = 0) -> str:
    return str(ExchangeKey(run="r", job=job, content=request.content_hash, occurrence=occurrence))


@pytest.fixture(scope="module")
def model(recorded: tuple[Run, Path]) -> ReplayModel:
    run, store = recorded
    with SQLiteStore.open(store, writable=False) as opened:
        return ReplayModel(recording_of(opened, run.id), name="replay/x")


@pytest.fixture(scope="module")
def first(recorded: tuple[Run, Path]) -> Any:
    run, store = recorded
    with SQLiteStore.open(store, writable=False) as opened:
        return next(iter(recording_of(opened, run.id).exchanges.values()))


def test_a_changed_prompt_is_shown_as_a_difference_to_the_nearest_one(
    model: ReplayModel, first: Any
) -> None:
    changed = msgspec.structs.replace(first.request, message=first.message + "\nBe quick.")
    with pytest.raises(ReplayMismatch) as failure:
        model.respond(changed, seed=0, occurrence=0, key=key(first.job, changed))
    said = str(failure.value)
    assert "--- recorded\n+++ asked now" in said
    assert "+Be quick." in said
    assert "Check that tasks, improvers, options" in said
    assert len(said) < 4_000


def test_other_numbers_temperatures_and_jobs_are_told_apart(model: ReplayModel, first: Any) -> None:
    more = msgspec.structs.replace(first.request, n_responses=9)
    warmer = msgspec.structs.replace(first.request, temperature=1.5)
    for request, job, occurrence, message in (
        (more, first.job, 0, "for other responses: 3 from number 1.* Asked for are 9"),
        (first.request, first.job, 5, "Asked for are 3 from number 6"),
        (warmer, first.job, 0, "asked at 1.5"),
        (first.request, first.job + "0", 0, f"no request of that job; .*{first.job}'"),
    ):
        with pytest.raises(ReplayMismatch, match=message):
            model.respond(request, seed=0, occurrence=occurrence, key=key(job, request, occurrence))


def test_a_recording_that_ended_early_says_so(toy_folder: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "s.db")
    early = start(config(toy_folder, limits=st.RunLimits(tokens=4_000), model="custom:x"),
                  store, model=Costly())  # fmt: skip
    assert early.status == "budget"
    with pytest.raises(ReplayMismatch, match=r"ended early, as budget \(.*4,000 tokens"):
        start(config(toy_folder, model="replay/latest", limits=st.RunLimits()), store)


class Costly(MutationProposer):
    def respond(self, request: Request, *, seed: int, occurrence: int, key: str) -> Answer:
        answer = super().respond(request, seed=seed, occurrence=occurrence, key=key)
        usage = msgspec.structs.replace(answer.usage, prompt_tokens=500)
        return msgspec.structs.replace(answer, usage=usage)


class Choosy(MutationProposer):
    """Rejects every third request, by its content."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def respond(self, request: Request, *, seed: int, occurrence: int, key: str) -> Answer:
        self.asked += 1
        if int(request.content_hash, 16) % 3 == 0:
            raise RequestRejected("This prompt is too long.")
        return super().respond(request, seed=seed, occurrence=occurrence, key=key)


CAREFUL = """
def improve_algorithm(initial_solution, utility, language_model):
    from helpers import extract_code
    best = initial_solution
    for line in range(6):
        try:
            answers = language_model.prompt("You improve.", f"{line} {line * 7}\\n```python\\n{best}\\n```", 2)
        except RuntimeError as error:
            best += f"\\n# {error}"
            continue
        best = max([best, *filter(None, extract_code(answers))], key=utility)
    return best
"""


def test_rejections_are_recorded_and_repeated(toy_folder: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "s.db")
    budget = st.Budget(calls=6, responses=3, utility_calls=20)
    settings = config(toy_folder, improvers=(("careful", CAREFUL),), rounds=1, budget=budget)
    original = start(msgspec.structs.replace(settings, model="custom:x"), store, model=Choosy())
    with SQLiteStore.open(store, writable=False) as opened:
        rejected = [e for _, _, e in opened.events(original.id) if isinstance(e, Rejected)]
        assert read_history(opened, original.id).rejections == len(rejected) > 0
        recording = recording_of(opened, original.id)
        assert opened.check() == []
    assert "This prompt is too long." in {one.rejected for one in recording.exchanges.values()}
    silent = Choosy()
    assert result_of(resume(original.id, store, model=silent)) == result_of(original)
    assert silent.asked == 0
    again = start(msgspec.structs.replace(settings, model="replay/latest"), store)
    assert everything(again) == everything(original)


def lines_with(change: Callable[[list[bytes]], object], file: Path) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    change(lines)
    file.write_bytes(b"".join(lines))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines.pop(), r"cut off: it holds \d+ whole exchanges of \d+"),
        (lambda lines: lines.append(lines.pop()[:-1]), "cut off"),
        (lambda lines: lines.append(lines.pop()[:-40] + b"\n"), r"Line \d+ .* is no exchange"),
        (lambda lines: lines.insert(1, b"\n"), "Line 2 .* is no exchange"),
        (lambda lines: lines.insert(2, b"\xff\xfe{}\n"), "Line 3 .* is no exchange"),
        (lambda lines: lines.insert(2, lines[1]), "Line 3 .* holds an exchange that an earlier"),
        (lambda lines: lines.append(lines[1].replace(b'"job":"', b'"job":"x')), "stands behind the last"),
        (lambda lines: lines.pop(0), "Line 1 .* is no header"),
        (lambda lines: lines.__setitem__(0, lines[0].replace(b'"version":1', b'"version":9')),
         "has version 9"),
        (lambda lines: lines.__setitem__(0, lines[0].replace(b'"seed":3', b'"seed":4')),
         "Line 1 .* was changed"),
        (lambda lines: lines.__setitem__(0, lines[0].replace(b"selftaught-exch", b"other-exch")),
         "names the format 'other-exchanges'"),
        (lambda lines: lines.__setitem__(1, lines[1].replace(b"You are", b"You were")),
         "Line 2 .* was changed: its prompt"),
        (lambda lines: lines.__setitem__(1, lines[1].replace(b'"texts":[', b'"texts":["x",')),
         "Line 2 .* holds 4 texts of 3"),
        (lambda lines: lines.clear(), "Line 1 .* is no header"),
    ],
)  # fmt: skip
def test_a_damaged_file_of_exchanges_is_told_by_its_line(
    recorded: tuple[Run, Path], tmp_path: Path, change: Any, message: str
) -> None:
    file = tmp_path / "run.jsonl"
    write_file(recorded, file)
    before = file.read_bytes()
    lines_with(change, file)
    assert file.read_bytes() != before
    with pytest.raises(ModelError, match=message) as failure:
        read_recording(str(file))
    assert str(file) in str(failure.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "replay/nowhere.jsonl"}, "cannot be read .*selftaught record"),
        ({"model": "replay/"}, "names no run"),
        ({"model": "replay/r-1"}, "r-1|holds no run yet"),
        ({"model": "replay/nowhere.db:latest"}, "There is no store '.*nowhere.db'"),
        ({"base_url": "http://127.0.0.1:1/v1"}, "asks no server"),
        ({"cache": True}, "leave --cache out"),
    ],
)
def test_a_replay_that_cannot_be_meant_records_nothing(
    recorded: tuple[Run, Path], tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(st.SelftaughtError, match=message):
        replayed(recorded, tmp_path / "s.db", **changes)
    with SQLiteStore.open(tmp_path / "s.db", writable=True) as opened:
        assert opened.runs() == []


def test_a_run_that_asked_nothing_has_nothing_to_repeat(toy_folder: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "s.db")
    with SQLiteStore.open(store, writable=True) as opened:
        opened.new_run({"seed": 3}, "selftaught run toy")
    with pytest.raises(ModelError, match="asked its model nothing"):
        start(config(toy_folder, model="replay/latest"), store)


def test_keys_of_exchanges_can_be_taken_apart() -> None:
    asked = ExchangeKey(run="r-1", job="validation/ab/toy/0", content="c", occurrence=3)
    assert ExchangeKey.parse(str(asked)) == asked
    for other in ("", "r-1", "r/1/2", "contract|0|1", "r/job/content/x"):
        assert ExchangeKey.parse(other) is None


class TestReplayModel(LanguageModelContract):
    """A replay of the very requests that the contract makes."""

    repeats_itself = True

    @pytest.fixture
    def model(self) -> LanguageModel:
        asked = [(number, n) for number in range(20) for n in (1, 2, 3, 5)]
        return of_exchanges([of_contract(number, n) for number, n in asked])

    @pytest.fixture
    def broken_model(self) -> LanguageModel:
        return of_exchanges([])


def of_contract(number: int, n: int) -> Exchange:
    request = Request(
        expertise="You are an expert.",
        message=f"{LanguageModelContract.request_text}\n{number}",
        n_responses=n,
    )
    return Exchange(
        job=f"contract|{number}|{n}",
        content_hash=request.content_hash,
        occurrence=0,
        expertise=request.expertise,
        message=request.message,
        temperature=request.temperature,
        n_responses=n,
        texts=tuple(f"{number} {i}" for i in range(n)),
    )


def of_exchanges(exchanges: list[Exchange]) -> ReplayModel:
    header = Header(
        run="r", model="echo", is_language_model=True, exchanges=len(exchanges), config={},
        config_hash="",
    )  # fmt: skip
    found = {one.key: one for one in exchanges}
    return ReplayModel(Recording(header=header, exchanges=found), name="replay/r")


def test_the_command_line_records_and_replays(tmp_path: Path) -> None:
    write_toy(tmp_path / "toy")
    settings = ["--calls", "2", "--responses", "3", "--slots", "2", "--rounds", "1",
                "--held-out", "none", "--json"]  # fmt: skip

    def cli(*arguments: str, expect: int = 0) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "selftaught", *arguments],
            cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == expect, done.stderr
        return done

    whole = json.loads(cli("run", "./toy", *settings).stdout)
    said = cli("record", "latest", "run.jsonl")
    assert f"{whole['spent']['live_calls']} exchanges of run {whole['run']}" in said.stdout
    assert "run.jsonl exists" in cli("record", "latest", "run.jsonl", expect=1).stderr
    assert "must end in .jsonl" in cli("record", "latest", "run.txt", expect=1).stderr
    done = cli("run", "./toy", *settings, "--model", "replay/run.jsonl", "--store", "other.db")
    again = json.loads(done.stdout)
    assert (again["rounds"], again["sealed"]) == (whole["rounds"], whole["sealed"])
    assert "no language model" in done.stderr
    assert again["spent"]["calls_from_recording"] == whole["spent"]["live_calls"]
    shown = cli("show", "latest", "--store", "other.db").stdout
    assert f"replay {whole['spent']['live_calls']}" in shown
    cli("export", "latest", "mine.py", "--store", "other.db")
    assert "model mutation, replayed from a record" in (tmp_path / "mine.py").read_text()
    other = [*settings, "--model", "replay/run.jsonl"]
    assert "has seed 0, not 5" in cli("run", "./toy", *other, "--seed", "5", expect=2).stderr
    failed = cli("run", "./toy", *other, "--utility-calls", "3", expect=1)
    assert "budget.utility_calls was 7, is 3" in failed.stderr


def test_a_base_url_and_a_replay_do_not_go_together(toy_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="asks no server"):
        start(
            config(toy_folder, model="replay/latest", base_url="http://h/v1", budget=SMALL),
            str(tmp_path / "s.db"),
        )
