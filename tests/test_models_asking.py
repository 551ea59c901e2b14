"""What the OpenAI-compatible model sends, and how it gets n responses."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from selftaught.errors import RequestRejected
from selftaught.language_model import ModelSettings, Request
from selftaught.models.hosted import HostedModel, Waiting
from selftaught.models.openai_compatible import OpenAICompatibleModel
from selftaught.testing import Fault, HttpError, LoopbackServer, ReceivedRequest

KEY = "sk-proj-abcdefghij0123456789"


class Waits(list[tuple[str, str, float]]):
    """Collects what `on_wait` is told."""

    def __call__(self, what: str, detail: str, seconds: float) -> None:
        self.append((what, detail, seconds))

    def of(self, what: str) -> list[tuple[str, float]]:
        return [(detail, seconds) for kind, detail, seconds in self if kind == what]


def numbered(received: ReceivedRequest, index: int) -> str:
    return f"{received.body['messages'][-1]['content']} #{index}"


def asking(n: int = 1, message: str = "m", temperature: float = 0.7) -> Request:
    return Request(expertise="e", message=message, n_responses=n, temperature=temperature)


def ask(model: HostedModel, n: int = 1, *, key: str = "job|c|0", **more: Any) -> list[str]:
    answer = model.respond(asking(n, **more), seed=1, occurrence=0, key=key)
    return list(answer.texts)


def made(url: str, make: Any = OpenAICompatibleModel, **options: Any) -> HostedModel:
    """A model whose settings and ways of waiting are given by name."""
    parts: dict[type, dict[str, Any]] = {ModelSettings: {}, Waiting: {"backoff_s": 0.001}}
    for part, values in parts.items():
        values |= {name: options.pop(name) for name in part.__struct_fields__ if name in options}
    settings, waiting = (part(**values) for part, values in parts.items())
    return make("tiny", base_url=url, settings=settings, waiting=waiting, **options)


@contextmanager
def model_of(server: LoopbackServer, **options: Any) -> Iterator[HostedModel]:
    with made(server.url, **({"api_key": KEY} | options)) as model:
        yield model


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def raw_server(body: object) -> Iterator[str]:
    """Serve one fixed body, which LoopbackServer would never send."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            raw = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()
            thread.join()


def test_one_request_brings_all_responses_where_n_is_honoured() -> None:
    with LoopbackServer(numbered) as server, model_of(server) as model:
        answer = model.respond(asking(3), seed=1, occurrence=0, key="job|c|0")
    assert answer.texts == ("m #0", "m #1", "m #2")
    assert answer.usage.prompt_tokens == 2  # "e" and "m", counted once
    assert answer.usage.completion_tokens == 6
    assert answer.truncated == ()
    (received,) = server.log
    assert received.body == {
        "model": "tiny",
        "messages": [{"role": "system", "content": "e"}, {"role": "user", "content": "m"}],
        "n": 3,
        "temperature": 0.7,
    }
    assert received.idempotency_key == "job|c|0/0"
    assert received.headers["authorization"] == f"Bearer {KEY}"


def test_where_n_is_ignored_the_rest_is_asked_for_and_that_is_remembered() -> None:
    waits = Waits()
    with (
        LoopbackServer(numbered, honours_n=False) as server,
        model_of(server, on_wait=waits) as model,
    ):
        answer = model.respond(asking(4), seed=1, occurrence=0, key="a")
        again = ask(model, 3, key="b")
    assert answer.texts == ("m #0", "m #1", "m #2", "m #3")
    assert again == ["m #0", "m #1", "m #2"]
    assert answer.usage.prompt_tokens == 8
    assert answer.usage.completion_tokens == 8
    assert sorted(r.idempotency_key for r in server.log) == sorted(
        ["a/0", "a/1", "a/2", "a/3", "b/0", "b/1", "b/2"]
    )
    assert [r.idempotency_key for r in server.log if "n" in r.body] == ["a/0"]
    assert len(waits.of("model_adapted")) == 1


@pytest.mark.parametrize(
    "refusal",
    [
        HttpError(status=400, message="n must be 1", param="n"),
        HttpError(status=400, message="n must be 1 when temperature is 0"),
        HttpError(status=422, message="best_of must be 1 here"),
    ],
)
def test_where_n_is_rejected_each_response_is_asked_for_by_itself(refusal: HttpError) -> None:
    def rejects(number: int, body: dict[str, Any]) -> HttpError | None:
        return refusal if "n" in body else None

    waits = Waits()
    with (
        LoopbackServer(numbered, faults=rejects) as server,
        model_of(server, on_wait=waits) as model,
    ):
        assert ask(model, 3) == ["m #0", "m #1", "m #2"]
        assert ask(model, 2) == ["m #0", "m #1"]
    refused, learned = waits.of("model_adapted")
    assert f"a request for 3 responses is refused ({refusal.message})" in refused[0]
    assert "from now on each is asked for by itself" in learned[0]
    assert sum("n" in received.body for received in server.log) == 1
    assert all("temperature" in received.body for received in server.log)


def test_a_rejection_that_is_not_about_n_does_not_end_the_use_of_n() -> None:
    faults = [HttpError(status=400, message="The prompt is too long"), Fault.N_REJECTED]
    with LoopbackServer(numbered, faults=[faults[0], faults[0]]) as server:
        with model_of(server) as model:
            with pytest.raises(RequestRejected, match="prompt is too long"):
                ask(model, 3)
            assert ask(model, 3) == ["m #0", "m #1", "m #2"]
        assert [r.body.get("n") for r in server.log] == [3, None, 3]


def test_choices_are_ordered_by_their_index_and_surplus_ones_dropped() -> None:
    bodies = [
        {"index": index, "message": {"content": text}} for index, text in ((2, "c"), (0, "a"))
    ]
    with (
        raw_server({"choices": [*bodies, {"index": 1, "message": {"content": "b"}}]}) as url,
        OpenAICompatibleModel("tiny", base_url=url) as model,
    ):
        assert ask(model, 2) == ["a", "b"]


def test_content_in_parts_is_joined_and_missing_usage_counts_as_nothing() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "other"}, {"type": "text", "text": "b"}]
    body = {"choices": [{"message": {"content": parts}}], "usage": None}
    with raw_server(body) as url, OpenAICompatibleModel("tiny", base_url=url) as model:
        answer = model.respond(asking(), seed=0, occurrence=0, key="k")
    assert answer.texts == ("ab",)
    assert answer.usage.prompt_tokens == 0
    assert answer.usage.completion_tokens == 0


def test_null_content_is_an_empty_text() -> None:
    with LoopbackServer(numbered, faults=[Fault.NULL_CONTENT]) as server:
        with model_of(server) as model:
            assert ask(model, 2) == ["", ""]
        assert len(server.log) == 1


def test_texts_cut_at_the_output_limit_are_named() -> None:
    def fenced(received: ReceivedRequest, index: int) -> str:
        return f"Here:\n```python\nx = {index}\n```"

    with (
        LoopbackServer(fenced, honours_n=False, faults=[None, Fault.TRUNCATED_FENCE]) as server,
        model_of(server, concurrency=1) as model,
    ):
        answer = model.respond(asking(3), seed=0, occurrence=0, key="k")
    assert answer.truncated == (1,)
    assert answer.texts[1] == "Here:\n```python\nx = 1\n"
    assert answer.texts[2].endswith("```")


def test_a_seed_is_sent_only_if_told_to_and_differs_between_responses() -> None:
    with LoopbackServer(numbered, honours_n=False) as server:
        with model_of(server) as plain:
            ask(plain, 2)
        unseeded = len(server.log)
        with model_of(server, send_seed=True) as seeded:
            ask(seeded, 3)
            seeded.respond(asking(1), seed=1, occurrence=2, key="later")
    assert all("seed" not in received.body for received in server.log[:unseeded])
    seeds = {r.idempotency_key: r.body["seed"] for r in server.log[unseeded:]}
    assert len(set(seeds.values())) == 3
    assert seeds["later/0"] == seeds["job|c|0/2"], "the third response is the same either way"


def test_a_rejected_seed_is_left_out_from_then_on() -> None:
    def rejects(number: int, body: dict[str, Any]) -> HttpError | None:
        if "seed" in body:
            return HttpError(status=400, message="Unrecognized request argument: seed")
        return None

    waits = Waits()
    with (
        LoopbackServer(numbered, faults=rejects) as server,
        model_of(server, send_seed=True, on_wait=waits) as model,
    ):
        assert ask(model, 2) == ["m #0", "m #1"]
        ask(model)
    assert ["seed" in received.body for received in server.log] == [True, False, False]
    assert waits.of("model_adapted") == [("openai/tiny: a seed is not accepted and left out.", 0.0)]


def test_a_rejected_temperature_is_left_out_but_another_one_is_tried() -> None:
    def only_one(number: int, body: dict[str, Any]) -> Fault | None:
        return Fault.TEMPERATURE_REJECTED if body.get("temperature", 1.0) != 1.0 else None

    waits = Waits()
    with (
        LoopbackServer(numbered, faults=only_one) as server,
        model_of(server, on_wait=waits) as model,
    ):
        assert ask(model, 2, temperature=0.3) == ["m #0", "m #1"]
        ask(model, temperature=0.3)
        ask(model, temperature=1.0)
    assert [r.body.get("temperature") for r in server.log] == [0.3, None, None, 1.0]
    assert [r.body.get("n") for r in server.log] == [2, 2, None, None]
    ((detail, seconds),) = waits.of("model_adapted")
    assert detail.startswith("openai/tiny: temperature 0.3 is not accepted and left out")
    assert seconds == 0.0


def test_the_output_limit_is_renamed_where_its_old_name_is_rejected() -> None:
    def new_name(number: int, body: dict[str, Any]) -> HttpError | None:
        if "max_tokens" in body:
            return HttpError(
                status=400,
                message="Unsupported parameter: use 'max_completion_tokens', not 'max_tokens'",
                param="max_tokens",
            )
        return None

    with (
        LoopbackServer(numbered, faults=new_name) as server,
        model_of(server, max_output_tokens=50) as model,
    ):
        ask(model, 2)
        ask(model)
    assert [r.body.get("max_tokens") for r in server.log] == [50, None, None]
    assert [r.body.get("max_completion_tokens") for r in server.log] == [None, 50, 50]


def test_a_limit_that_is_rejected_by_either_name_is_an_error() -> None:
    too_large = HttpError(status=400, message="max_tokens is too large: 50")
    with LoopbackServer(numbered, faults=lambda number, body: too_large) as server:
        with (
            model_of(server, max_output_tokens=50) as model,
            pytest.raises(RequestRejected, match="too large: 50"),
        ):
            ask(model)
        assert len(server.log) == 2


def test_any_text_can_be_an_idempotency_key() -> None:
    with LoopbackServer(numbered) as server, model_of(server) as model:
        ask(model, key="Aufgabe ü\n|0")
        ask(model, key="Aufgabe ü\r|0")
    assert [r.idempotency_key for r in server.log] == [
        "Aufgabe %C3%BC%0A|0/0",
        "Aufgabe %C3%BC%0D|0/0",
    ]
