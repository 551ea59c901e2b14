"""The stand-ins that ship with the package: the scripted model, the server, the contract."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from selftaught.errors import ModelRefused, ModelUnreachable
from selftaught.language_model import LanguageModel, Request
from selftaught.models.openai_compatible import OpenAICompatibleModel
from selftaught.testing import (
    Fault,
    HttpError,
    LanguageModelContract,
    LoopbackServer,
    ReceivedRequest,
    ScriptedModel,
)
from selftaught.testing.loopback_server import MutationAnswers, kill_process_in, request_of


def by_arguments(request: Request, seed: int, occurrence: int) -> list[str]:
    last = request.message.rpartition("\n")[2]
    return [f"{last}|{seed}|{occurrence + place}" for place in range(request.n_responses)]


def served(received: ReceivedRequest, index: int) -> str:
    return f"{received.body['messages'][-1]['content']}|{index}"


def asking(n: int = 1, message: str = "m") -> Request:
    return Request(expertise="e", message=message, n_responses=n)


def post(url: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """Send one chat completion request as any HTTP client would."""
    address = url.removeprefix("http://").removesuffix("/v1")
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body).encode(), headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def question(text: str = "m", **more: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": "e"}, {"role": "user", "content": text}]
    return {"model": "tiny", "messages": messages} | more


# --- the contract ---------------------------------------------------------------------------------


class TestScriptedModel(LanguageModelContract):
    repeats_itself = True

    @pytest.fixture
    def model(self) -> LanguageModel:
        return ScriptedModel(by_arguments)

    @pytest.fixture
    def broken_model(self) -> LanguageModel:
        return ScriptedModel([])

    def expected(self, request: Request, seed: int, occurrence: int) -> list[str]:
        return by_arguments(request, seed, occurrence)


@pytest.mark.parametrize(
    ("flaw", "case"),
    [
        (lambda texts: texts[:-1], "test_it_gives_as_many_texts_as_asked_for"),
        (lambda texts: [*texts, "x"], "test_it_gives_as_many_texts_as_asked_for"),
        (lambda texts: ["\ud800"] * len(texts), "test_a_text_can_be_stored_as_utf8"),
    ],
)
def test_the_contract_finds_a_flawed_model(flaw: Any, case: str) -> None:
    """A contract that accepts a model which breaks it would be worth nothing."""

    class Flawed(ScriptedModel):
        def _next(self, request: Request, seed: int, occurrence: int) -> tuple[str, ...]:
            return tuple(flaw(by_arguments(request, seed, occurrence)))

    arguments = [3] if case == "test_it_gives_as_many_texts_as_asked_for" else []
    with pytest.raises((AssertionError, UnicodeEncodeError)):
        getattr(LanguageModelContract(), case)(Flawed(by_arguments), *arguments)


# --- ScriptedModel -------------------------------------------------------------------------------


def test_a_list_is_dealt_out_and_then_exhausted() -> None:
    model = ScriptedModel(["a", "b", "c"])
    assert model.respond(asking(2), seed=1, occurrence=0, key="k").texts == ("a", "b")
    with pytest.raises(ModelUnreachable) as failure:
        model.respond(asking(2), seed=1, occurrence=2, key="l")
    assert str(failure.value) == (
        "The script of 'scripted' has 1 of its 3 responses left and is asked for 2."
    )
    assert model.respond(asking(), seed=1, occurrence=2, key="m").texts == ("c",)
    assert [(asked.key, asked.texts) for asked in model.history] == [
        ("k", ("a", "b")),
        ("m", ("c",)),
    ]


def test_a_function_that_returns_another_number_is_an_error() -> None:
    model = ScriptedModel(lambda request, seed, occurrence: ["only one"], name="short")
    with pytest.raises(ModelRefused, match="'short' returned 1 responses where 2 were asked for"):
        model.respond(asking(2), seed=0, occurrence=0, key="k")
    assert model.history == ()


def test_the_history_holds_what_was_asked() -> None:
    model = ScriptedModel(by_arguments)
    model.respond(asking(2), seed=5, occurrence=3, key="k")
    (asked,) = model.history
    assert (asked.request, asked.seed, asked.occurrence, asked.key) == (asking(2), 5, 3, "k")
    assert asked.texts == ("m|5|3", "m|5|4")


def test_a_list_is_dealt_out_once_among_threads() -> None:
    model = ScriptedModel([str(number) for number in range(400)])
    with ThreadPoolExecutor(8) as threads:
        answers = threads.map(
            lambda key: model.respond(asking(4), seed=0, occurrence=0, key=str(key)), range(100)
        )
        texts = [text for answer in answers for text in answer.texts]
    assert sorted(texts, key=int) == [str(number) for number in range(400)]


# --- LoopbackServer ------------------------------------------------------------------------------


def test_any_client_gets_an_answer_in_openais_form() -> None:
    with LoopbackServer(served) as server:
        status, raw = post(server.url, question("a b", n=2))
    assert status == 200
    body = json.loads(raw)
    assert [choice["message"]["content"] for choice in body["choices"]] == ["a b|0", "a b|1"]
    assert [choice["finish_reason"] for choice in body["choices"]] == ["stop", "stop"]
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def test_the_log_tells_who_was_answered() -> None:
    faults = [None, Fault.SERVER_ERROR, Fault.BAD_JSON, Fault.CUT_BODY, Fault.RESET]
    with LoopbackServer(served, faults=faults) as server:
        for number in range(3):
            post(server.url, question(), {"Idempotency-Key": f"job/{number}"})
        with pytest.raises(http.client.IncompleteRead):
            post(server.url, question())
        with pytest.raises(ConnectionResetError):
            post(server.url, question())
    log = server.log
    assert [received.number for received in log] == [1, 2, 3, 4, 5]
    assert [received.status for received in log] == [200, 500, 200, 200, 0]
    assert [received.answered for received in log] == [True, False, False, False, False]
    assert [received.idempotency_key for received in log] == ["job/0", "job/1", "job/2", "", ""]
    assert log[0].received_at <= log[1].received_at


def test_an_answer_is_logged_before_its_client_has_it() -> None:
    with LoopbackServer(served) as server:
        for number in range(1, 30):
            post(server.url, question())
            assert server.log[-1].answered
            assert len(server.log) == number


def test_a_client_that_has_gone_is_not_logged_as_answered() -> None:
    arrived, gone = threading.Event(), threading.Event()

    def late(received: ReceivedRequest, index: int) -> str:
        arrived.set()
        assert gone.wait(20)
        time.sleep(0.05)  # until the closing has crossed the loopback
        return "late"

    with LoopbackServer(late) as server:
        address = server.url.removeprefix("http://").removesuffix("/v1")
        connection = http.client.HTTPConnection(address)
        connection.request("POST", "/v1/chat/completions", json.dumps(question()))
        assert arrived.wait(10)
        connection.close()
        gone.set()
    (received,) = server.log
    assert not received.answered
    assert received.status == 0


def test_the_key_of_a_part_names_its_exchange_and_index() -> None:
    def received(key: str) -> ReceivedRequest:
        return ReceivedRequest(
            number=1, received_at=0.0, body=question(), headers={}, idempotency_key=key
        )

    assert (received("run/job|x/12").exchange, received("run/job|x/12").first_index) == (
        "run/job|x",
        12,
    )
    assert (received("free").exchange, received("free").first_index) == ("free", 0)
    assert received("").exchange == ""


def test_faults_may_be_a_function_of_number_and_body() -> None:
    def plan(number: int, body: dict[str, Any]) -> HttpError | None:
        return HttpError(status=418, message=str(body["n"])) if number == 2 else None

    with LoopbackServer(served, faults=plan) as server:
        statuses = [post(server.url, question(n=1))[0] for _ in range(3)]
    assert statuses == [200, 418, 200]


def test_what_is_no_request_for_a_completion_gets_an_error_and_no_log_entry() -> None:
    with LoopbackServer(served) as server:
        address = server.url.removeprefix("http://").removesuffix("/v1")
        connection = http.client.HTTPConnection(address)
        for method, path, body, status in (
            ("GET", "/v1/models", None, 404),
            ("POST", "/v1/elsewhere", "{}", 404),
            ("POST", "/v1/chat/completions", "no json", 400),
        ):
            connection.request(method, path, body)
            response = connection.getresponse()
            response.read()
            assert response.status == status
        connection.close()
        assert server.log == ()


def test_leaving_the_server_ends_what_it_has_under_way() -> None:
    begin = time.monotonic()
    with ThreadPoolExecutor(2) as threads:
        with LoopbackServer(served, faults=[Fault.STALL, Fault.SLOW_DRIP], drip_s=30) as server:
            futures = [threads.submit(post, server.url, question()) for _ in range(2)]
            while len(server.log) < 2:
                time.sleep(0.01)
        for future in futures:
            with pytest.raises((http.client.HTTPException, OSError)):
                future.result(timeout=10)
    assert time.monotonic() - begin < 20


# --- answers that depend on content and key alone ------------------------------------------------


def texts_over_http(
    honours_n: bool, keys: list[str], n: int = 3, model: LanguageModel | None = None
) -> dict[str, tuple[str, ...]]:
    answers = MutationAnswers(model or ScriptedModel(by_arguments))
    with (
        LoopbackServer(answers, honours_n=honours_n) as server,
        OpenAICompatibleModel("tiny", base_url=server.url) as client,
        ThreadPoolExecutor(4) as threads,
    ):
        found = threads.map(
            lambda key: client.respond(asking(n), seed=0, occurrence=0, key=key).texts, keys
        )
        return dict(zip(keys, found, strict=True))


def test_answers_depend_on_the_key_and_not_on_the_order_or_the_number_of_requests() -> None:
    keys = [f"job{number}" for number in range(6)]
    together = texts_over_http(True, keys)
    assert texts_over_http(False, keys[::-1]) == together
    assert len({text for texts in together.values() for text in texts}) == 18


def test_the_place_among_the_responses_counts_and_neither_run_nor_job_does() -> None:
    first = texts_over_http(True, ["run1/job1/c/0"], n=4)["run1/job1/c/0"]
    assert len(set(first)) == 4
    assert texts_over_http(False, ["run2/job2/c/0"], n=4)["run2/job2/c/0"] == first
    assert texts_over_http(True, ["run1/job1/c/2"], n=2)["run1/job1/c/2"] == first[2:]


def test_requests_without_a_key_are_told_apart_by_how_often_they_came() -> None:
    answers = MutationAnswers(ScriptedModel(by_arguments))
    with LoopbackServer(answers) as server:
        bodies = [post(server.url, question(text))[1] for text in ("a", "b", "a")]
    texts = [json.loads(raw)["choices"][0]["message"]["content"] for raw in bodies]
    assert len(set(texts)) == 3


def test_the_mutation_proposer_answers_over_http_as_its_contract_says() -> None:
    from selftaught.models.resolve import resolve_model

    program = "```python\ndef algorithm(x):\n    y = 3 * x + 1\n    return max(y, 10)\n```"
    answers = MutationAnswers(resolve_model("mutation", base_url=None, environment={}))
    received = ReceivedRequest(
        number=1, received_at=0.0, body=question(program), headers={}, idempotency_key="job/0"
    )
    texts = [answers(received, index) for index in range(4)]
    assert texts == [answers(received, index) for index in range(4)]
    assert len(set(texts)) > 1
    assert all("def algorithm" in text for text in texts)


def test_a_request_is_read_back_as_it_was_asked() -> None:
    with LoopbackServer(served) as server:
        with OpenAICompatibleModel("tiny", base_url=server.url) as model:
            model.respond(asking(2), seed=0, occurrence=0, key="k")
        assert request_of(server.log[0]).content_hash == asking().content_hash


# --- the server as a program ---------------------------------------------------------------------


@contextmanager
def program(*options: str) -> Iterator[str]:
    """Run the server in a process of its own and yield its base URL."""
    command = [sys.executable, "-W", "error", "-m", "selftaught.testing.loopback_server"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(timeout=20) == 0
        finally:
            process.stdout.close()


def test_the_program_prints_its_url_and_logs_each_answered_request(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with program("--port", "0", "--log", str(log), "--ignore-n") as url:
        with OpenAICompatibleModel("tiny", base_url=url) as model:
            answer = model.respond(asking(2), seed=0, occurrence=0, key="job")
        lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert url.startswith("http://127.0.0.1:")
    assert answer.texts == ("m", "m")
    assert [line["idempotency_key"] for line in lines] == ["job/0", "job/1"]
    assert [line["n"] for line in lines] == [2, 1]
    assert [line["number"] for line in lines] == [1, 2]
    assert {line["content_hash"] for line in lines} == {asking().content_hash}
    assert {line["model"] for line in lines} == {"tiny"}


def test_the_program_kills_a_process_on_the_request_that_it_was_told(tmp_path: Path) -> None:
    log, pid_file = tmp_path / "log.jsonl", tmp_path / "pid"
    client = (
        "import sys\n"
        "from selftaught.language_model import Request\n"
        "from selftaught.models.openai_compatible import OpenAICompatibleModel\n"
        "model = OpenAICompatibleModel('tiny', base_url=sys.argv[1])\n"
        "for number in range(5):\n"
        "    request = Request(expertise='e', message='m')\n"
        "    model.respond(request, seed=0, occurrence=0, key=f'job{number}')\n"
    )
    options = ("--log", str(log), "--on-request-number", "3", "--kill-pid-file", str(pid_file))
    with program(*options) as url:
        for expected in (-signal.SIGKILL, 0):
            child = subprocess.Popen([sys.executable, "-c", client, url])
            pid_file.write_text(str(child.pid), encoding="ascii")
            assert child.wait(timeout=30) == expected
        lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["idempotency_key"] for line in lines] == [
        f"job{number}/0" for number in (0, 1, 0, 1, 2, 3, 4)
    ]
    assert [line["number"] for line in lines] == [1, 2, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    "text", ["0", "1", "-5", str(os.getpid()), "none"], ids=["0", "1", "-5", "itself", "none"]
)
def test_what_is_no_process_to_kill_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "pid"
    file.write_text(text, encoding="ascii")
    with pytest.raises(ValueError, match=r"no process to kill|invalid literal"):
        kill_process_in(file)


def test_options_that_belong_together_are_asked_for_together() -> None:
    command = [sys.executable, "-m", "selftaught.testing.loopback_server"]
    done = subprocess.run(
        [*command, "--on-request-number", "3"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--on-request-number and --kill-pid-file belong together." in done.stderr


def test_the_server_needs_no_pytest() -> None:
    code = "import sys, selftaught.testing.loopback_server\nprint('pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
