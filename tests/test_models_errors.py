"""The sentences in which the OpenAI-compatible model says why there is no answer."""

import traceback
from typing import Any

import pytest
from test_models_asking import (
    KEY,
    Waits,
    ask,
    free_port,
    made,
    model_of,
    numbered,
    raw_server,
)

from selftaught.errors import (
    ModelError,
    ModelRefused,
    ModelUnreachable,
    RequestRejected,
    UsageError,
)
from selftaught.models.openai_compatible import OpenAICompatibleModel
from selftaught.testing import Fault, HttpError, LoopbackServer


def failure_of(server: LoopbackServer, **options: Any) -> str:
    with model_of(server, **options) as model, pytest.raises(ModelError) as failure:
        ask(model)
    return str(failure.value)


def test_a_missing_key_for_openai_is_said_before_anything_is_sent() -> None:
    with pytest.raises(ModelRefused) as failure:
        OpenAICompatibleModel("gpt-9")
    assert str(failure.value) == (
        "Set OPENAI_API_KEY to a key for https://api.openai.com/v1, or name another server by "
        "its base URL: a local one needs no key."
    )


def test_a_key_that_cannot_be_sent_is_said_by_place_and_not_shown() -> None:
    with pytest.raises(ModelRefused) as failure:
        OpenAICompatibleModel("gpt-9", api_key="abc\u201ddef")
    assert "OPENAI_API_KEY" in str(failure.value)
    assert "character 4" in str(failure.value)
    assert "abc" not in str(failure.value)


def test_white_space_around_a_key_is_no_part_of_it() -> None:
    with (
        LoopbackServer(numbered, require_key=KEY) as server,
        model_of(server, api_key=f" {KEY}\n") as model,
    ):
        assert ask(model) == ["m #0"]


def test_a_wrong_key_is_said_without_the_key_that_the_server_repeats() -> None:
    with LoopbackServer(numbered, require_key="another") as server:
        said = failure_of(server)
    assert said == (
        f"{server.url} rejects the key (401): Incorrect API key provided: [key]. "
        "Check OPENAI_API_KEY."
    )


def test_a_key_that_the_server_wants_and_none_was_given() -> None:
    with LoopbackServer(numbered, require_key="another") as server:
        said = failure_of(server, api_key=None)
    assert said.startswith(f"{server.url} wants a key (401)")
    assert said.endswith("Set OPENAI_API_KEY.")


def test_an_unknown_model_is_named_with_those_that_the_endpoint_lists() -> None:
    with LoopbackServer(numbered, models=["small", "large"]) as server:
        said = failure_of(server)
    assert said == f"{server.url} does not know the model 'tiny' (404). It offers small, large."


def test_a_long_list_of_models_is_cut_and_an_empty_one_said() -> None:
    with LoopbackServer(numbered, models=[f"m{number}" for number in range(25)]) as server:
        assert failure_of(server).endswith("m18, m19 and 5 more.")
    with LoopbackServer(numbered, models=[]) as server:
        assert failure_of(server).endswith("It offers no model at all.")


def test_a_404_without_a_list_of_models_points_at_the_address() -> None:
    with LoopbackServer(numbered) as server:
        wrong = server.url.removesuffix("/v1")
        with (
            OpenAICompatibleModel("tiny", base_url=wrong) as model,
            pytest.raises(ModelRefused) as failure,
        ):
            ask(model)
    assert str(failure.value) == (
        f"{wrong} does not know the model 'tiny' or the page (404): No such page: "
        "/chat/completions. If the model is right, the address is not: those of OpenAI-compatible "
        "servers mostly end in /v1, and for anthropic/ and google/ the version is left out."
    )


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            HttpError(status=403, message="Country not supported."),
            "forbids the request (403): Country not supported. The key may not be meant for 't",
        ),
        (
            HttpError(status=429, message="You exceeded your quota", code="insufficient_quota"),
            "(429): You exceeded your quota.",
        ),
        (HttpError(status=402, message="Pay first"), "nothing left to spend at"),
        (
            HttpError(status=400, message="This is too long"),
            "rejects the request to 'tiny' (400): This is too long.",
        ),
        (HttpError(status=405, message=""), "refuses to answer for 'tiny' (405)."),
    ],
)
def test_a_refusal_says_the_status_and_the_servers_words(error: HttpError, says: str) -> None:
    with LoopbackServer(numbered, faults=[error]) as server:
        said = failure_of(server)
    assert says in said
    assert server.url in said


def test_a_timeout_is_said_in_seconds() -> None:
    faults = [Fault.STALL, Fault.STALL]
    with LoopbackServer(numbered, faults=faults) as server:
        said = failure_of(server, timeout_s=0.2, max_retries=1)
    assert said == (
        f"'tiny' gave no answer in 2 requests; the last one failed because {server.url} did not "
        "answer within 0.2 s. Allow more time, or fewer requests at once."
    )


def test_an_endpoint_that_is_not_there_is_named() -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    with (
        made(url, max_retries=0) as model,
        pytest.raises(ModelUnreachable) as failure,
    ):
        ask(model)
    assert str(failure.value) == (
        f"'tiny' gave no answer in 1 request; the last one failed because {url} cannot be reached "
        "([Errno 111] Connection refused). Check the address, and that the server is running."
    )


def test_a_page_that_is_no_api_is_shown_by_its_beginning() -> None:
    with (
        raw_server("<!doctype html>\x1b[31m") as url,
        made(url, max_retries=0) as model,
        pytest.raises(ModelUnreachable) as failure,
    ):
        ask(model)
    assert "<!doctype html>" in str(failure.value)
    assert "\x1b" not in str(failure.value)
    assert "a server that sends a chat completion" in str(failure.value)


def test_no_part_of_a_key_is_shown_where_the_beginning_of_an_answer_is_cut() -> None:
    key = "qwertyuiopasdfgh"
    with (
        raw_server("x" * 190 + key + "y" * 500) as url,
        made(url, api_key=key, max_retries=0) as model,
        pytest.raises(ModelUnreachable) as failure,
    ):
        ask(model)
    assert key[:4] not in str(failure.value)
    assert "xxx[key]yyy" in str(failure.value)


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://127.0.0.1/v1", "http://", "http://[1", "http://a:b/"]
)
def test_what_is_no_address_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError, match=r"must look like http://127\.0\.0\.1:8000/v1"):
        OpenAICompatibleModel("tiny", base_url=url)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout_s": 0},
        {"concurrency": 0},
        {"max_retries": -1},
        {"backoff_s": -1},
        {"patience_s": -1},
        {"requests_per_minute": 0},
        {"tokens_per_minute": -5},
        {"max_output_tokens": 0},
    ],
)
def test_numbers_that_cannot_be_meant_are_usage_errors(options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        made("http://127.0.0.1:1/v1", **options)


def test_requests_that_cannot_be_sent_are_rejected_before_they_are() -> None:
    with LoopbackServer(numbered) as server, model_of(server) as model:
        with pytest.raises(RequestRejected, match="not valid Unicode"):
            ask(model, message="\ud800")
        with pytest.raises(RequestRejected, match="At least 1 response"):
            ask(model, 0)
        assert server.log == ()


def test_credentials_in_an_address_are_sent_but_not_shown() -> None:
    url = f"http://user:{KEY}@127.0.0.1:{free_port()}/v1?token={KEY}"
    with (
        made(url, max_retries=0) as model,
        pytest.raises(ModelUnreachable) as failure,
    ):
        ask(model)
    assert KEY not in str(failure.value)
    assert "user" not in str(failure.value)


@pytest.mark.parametrize(
    "error",
    [
        HttpError(status=status, message=f"Bad key {KEY}, sk-proj-ab*****6789, gsk_ab*****89")
        for status in (400, 401, 403, 404, 418, 429, 500)
    ],
    ids=lambda error: str(error.status),
)
def test_a_key_never_stands_in_a_message_nor_in_a_traceback(error: HttpError) -> None:
    waits = Waits()
    with (
        LoopbackServer(numbered, faults=lambda number, body: error) as server,
        model_of(server, max_retries=1, on_wait=waits) as model,
        pytest.raises(ModelError) as failure,
    ):
        ask(model, 2)
    shown = "".join(traceback.format_exception(failure.value)) + repr(model) + repr(waits)
    assert KEY not in shown
    assert "sk-proj" not in shown
    assert "gsk_" not in shown
    assert str(error.status) in shown
