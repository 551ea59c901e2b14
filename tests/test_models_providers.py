"""What the providers do alike, over the same faults, and how each translates what is asked."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from test_models_asking import KEY, Waits, asking, made, raw_server
from test_models_contract import served

from selftaught.errors import ModelError, ModelRefused, RequestRejected, UsageError
from selftaught.language_model import Answer, Usage
from selftaught.models.anthropic_messages import AnthropicModel
from selftaught.models.google_generate import GoogleModel
from selftaught.models.hosted import HostedModel
from selftaught.models.openai_compatible import OpenAICompatibleModel
from selftaught.models.resolve import model_names, resolve_model
from selftaught.testing import (
    ANTHROPIC,
    GEMINI,
    OPENAI,
    Fault,
    HttpError,
    LoopbackServer,
    ReceivedRequest,
)

MODELS = {OPENAI: OpenAICompatibleModel, ANTHROPIC: AnthropicModel, GEMINI: GoogleModel}
every_provider = pytest.mark.parametrize("dialect", MODELS, ids=lambda one: one.name)


def answer_of(model: HostedModel, n: int = 1, **more: Any) -> Answer:
    return model.respond(asking(n, **more), seed=1, occurrence=0, key="job|c|0")


def bodies_after(
    dialect: Any, refuse: Callable[[dict[str, Any]], HttpError | None], **options: Any
) -> tuple[list[dict[str, Any]], Waits]:
    """The parameters of the requests that it took until there was an answer."""
    waits = Waits()
    with (
        LoopbackServer(served, dialect=dialect, faults=lambda _, body: refuse(body)) as server,
        made(server.url, MODELS[dialect], on_wait=waits, **options) as model,
    ):
        assert answer_of(model).texts == ("m|0",)
        assert answer_of(model).texts == ("m|0",)
    return [dialect.sampling(received.body) for received in server.log], waits


def answer_from(make: Any, body: object, **options: Any) -> Answer:
    with raw_server(body) as url, made(url, make, **options) as model:
        return answer_of(model)


# --- alike -----------------------------------------------------------------------------------------


@every_provider
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault.RATE_LIMITED, "answered 429: Rate limit reached"),
        (Fault.SERVER_ERROR, "answered 500: Internal error"),
        (Fault.UNAVAILABLE, "answered 503: Overloaded"),
        (Fault.OVERLOADED, "answered 529: Overloaded"),
        (Fault.RESET, "broke ("),
        (Fault.CUT_BODY, "broke ("),
        (Fault.BAD_JSON, "answered with what is no"),
        (Fault.EMPTY_BODY, "answered with what is no"),
        (Fault.NO_CHOICES, "answered with"),
        (Fault.STALL, "did not answer within 1.5 s"),
        (Fault.SLOW_DRIP, "had not finished its answer after 1.5 s"),
        (Fault.HUGE, "sent more than 100,000 bytes"),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else None,
)
def test_a_passing_fault_is_retried_once_and_counted(dialect: Any, fault: Fault, says: str) -> None:
    waits = Waits()
    timeout_s = 1.5 if fault in (Fault.STALL, Fault.SLOW_DRIP) else 30.0
    with (
        LoopbackServer(
            served, faults=[fault], retry_after="0.01", huge_chars=200_000, drip_s=0.02,
            dialect=dialect,
        ) as server,
        made(
            server.url, MODELS[dialect], on_wait=waits, api_key=KEY, timeout_s=timeout_s,
            max_answer_bytes=100_000,
        ) as model,
    ):  # fmt: skip
        answer = answer_of(model)
    assert answer.texts == ("m|0",)
    assert answer.attempts == len(server.log) == 2
    assert len({received.idempotency_key for received in server.log}) == 1
    ((detail, _),) = waits.of("model_retry")
    assert says in detail
    assert KEY not in repr(waits)


@every_provider
def test_texts_cut_at_the_limit_are_named_and_missing_ones_are_empty(dialect: Any) -> None:
    faults = [Fault.TRUNCATED_FENCE, Fault.NULL_CONTENT]
    with (
        LoopbackServer(lambda *_: "a\n```x```", faults=faults, dialect=dialect) as server,
        made(server.url, MODELS[dialect]) as model,
    ):
        first, second = answer_of(model), answer_of(model)
    assert (first.texts, first.truncated) == (("a\n```x",), (0,))
    assert (second.texts, second.truncated) == (("",), ())


@every_provider
def test_a_wrong_key_is_said_without_the_key(dialect: Any) -> None:
    with (
        LoopbackServer(served, require_key="other", dialect=dialect) as server,
        made(server.url, MODELS[dialect], api_key=KEY) as model,
        pytest.raises(ModelRefused) as failure,
    ):
        answer_of(model)
    assert f"{server.url} rejects the key (401): Incorrect API key provided: [key]" in str(
        failure.value
    )


@every_provider
def test_an_unknown_model_is_named_with_those_there_are(dialect: Any) -> None:
    with (
        LoopbackServer(served, models=["small", "large"], dialect=dialect) as server,
        made(server.url, MODELS[dialect]) as model,
        pytest.raises(ModelRefused, match=r"the model 'tiny' \(404\). It offers small, large\."),
    ):
        answer_of(model)
    assert len(server.log) == 1


@every_provider
def test_a_wrong_model_is_not_asked_again(dialect: Any) -> None:
    with (
        LoopbackServer(served, faults=[Fault.WRONG_MODEL], dialect=dialect) as server,
        made(server.url, MODELS[dialect]) as model,
        pytest.raises(ModelRefused, match="does not know the model 'tiny'"),
    ):
        answer_of(model)
    assert len(server.log) == 1


@every_provider
def test_a_rejected_temperature_is_left_out_from_then_on(dialect: Any) -> None:
    def refuse(body: dict[str, Any]) -> HttpError | None:
        if "temperature" in dialect.sampling(body):
            return HttpError(status=400, message="`temperature` is not supported for this model")
        return None

    bodies, waits = bodies_after(dialect, refuse)
    assert ["temperature" in body for body in bodies] == [True, False, False]
    ((detail, _),) = waits.of("model_adapted")
    assert "temperature 0.7 is not accepted and left out" in detail


@every_provider
def test_what_the_prompt_is_rejected_for_is_said(dialect: Any) -> None:
    with (
        LoopbackServer(
            served, faults=[HttpError(status=400, message="Too long.")] * 9, dialect=dialect
        ) as server,
        made(server.url, MODELS[dialect]) as model,
        pytest.raises(RequestRejected, match=r"\(400\): Too long\."),
    ):
        answer_of(model, 2)


@every_provider
def test_a_missing_key_is_said_before_anything_is_sent(dialect: Any) -> None:
    with pytest.raises(ModelRefused, match=r"Set \w+_API_KEY to a key for https://"):
        MODELS[dialect]("tiny")


# --- OpenAI ----------------------------------------------------------------------------------------


def test_openai_counts_cached_tokens_in_the_prompt_and_reasoning_in_the_completion() -> None:
    body = {
        "choices": [{"message": {"content": "x"}}],
        "usage": {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "prompt_tokens_details": {"cached_tokens": 80},
            "completion_tokens_details": {"reasoning_tokens": 30},
        },
    }
    assert answer_from(OpenAICompatibleModel, body).usage == Usage(
        prompt_tokens=100, completion_tokens=50, cached_tokens=80, reasoning_tokens=30
    )


def test_a_reasoning_effort_is_sent_to_openai_and_left_out_where_it_is_refused() -> None:
    def refuse(body: dict[str, Any]) -> HttpError | None:
        if "reasoning_effort" in body:
            return HttpError(status=400, message="unknown", param="reasoning_effort")
        return None

    bodies, waits = bodies_after(OPENAI, refuse, reasoning_effort="low")
    assert [body.get("reasoning_effort") for body in bodies] == ["low", None, None]
    assert "effort 'low' is not accepted" in waits.of("model_adapted")[0][0]


# --- Anthropic -------------------------------------------------------------------------------------


def test_anthropic_is_asked_in_its_own_form() -> None:
    with (
        LoopbackServer(served, dialect=ANTHROPIC) as server,
        made(
            server.url, AnthropicModel, api_key=KEY, max_output_tokens=500, reasoning_effort="low"
        ) as model,
    ):
        answer = answer_of(model, 2)
    assert answer.texts == ("m|0", "m|1")
    assert answer.usage.prompt_tokens == 4  # "e" and "m", twice
    assert answer.attempts == 2
    for received in server.log:
        assert received.body == {
            "model": "tiny",
            "system": "e",
            "messages": [{"role": "user", "content": "m"}],
            "temperature": 0.7,
            "max_tokens": 500,
            "thinking": {"type": "adaptive"},
            "output_config": {"effort": "low"},
        }
        assert received.headers["x-api-key"] == KEY
        assert "authorization" not in received.headers
        assert received.headers["anthropic-version"] == "2023-06-01"


def test_anthropics_default_limit_is_lowered_for_a_model_that_takes_less() -> None:
    def refuse(body: dict[str, Any]) -> HttpError | None:
        if body["max_tokens"] > 8192:
            return HttpError(status=400, message="max_tokens: 16384 > 8192, which is the maximum")
        return None

    bodies, waits = bodies_after(ANTHROPIC, refuse)
    assert [body["max_tokens"] for body in bodies] == [16_384, 8_192, 8_192]
    assert "16,384 output tokens are too many" in waits.of("model_adapted")[0][0]


def test_an_effort_is_sent_to_older_models_of_anthropic_as_a_budget() -> None:
    def refuse(body: dict[str, Any]) -> HttpError | None:
        if body.get("thinking", {}).get("type") == "adaptive":
            return HttpError(status=400, message="adaptive thinking is not supported")
        if "output_config" in body:
            return HttpError(status=400, message="This model does not support the effort parameter")
        if "thinking" in body and "temperature" in body:
            return HttpError(
                status=400, message="`temperature` may only be set to 1 when thinking is enabled"
            )
        return None

    bodies, _ = bodies_after(ANTHROPIC, refuse, reasoning_effort="medium")
    assert len(bodies) == 5
    assert bodies[-1]["thinking"] == {"type": "enabled", "budget_tokens": 8192}
    assert "temperature" not in bodies[-1]
    assert bodies[-1]["max_tokens"] == 16_384


def test_anthropic_counts_cached_tokens_beside_the_prompt() -> None:
    body = {
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "a"},
            {"type": "text", "text": "b"},
        ],
        "stop_reason": "model_context_window_exceeded",
        "usage": {
            "input_tokens": 10,
            "cache_read_input_tokens": 80,
            "cache_creation_input_tokens": 10,
            "output_tokens": 50,
            "output_tokens_details": {"thinking_tokens": 30},
        },
    }
    answer = answer_from(AnthropicModel, body)
    assert answer.texts == ("ab",)
    assert answer.truncated == (0,)
    assert answer.usage == Usage(
        prompt_tokens=100, completion_tokens=50, cached_tokens=80, reasoning_tokens=30
    )


def test_an_empty_account_at_anthropic_ends_the_run_and_not_one_request() -> None:
    empty = HttpError(status=400, message="Your credit balance is too low to access the API")
    with (
        LoopbackServer(served, faults=[empty], dialect=ANTHROPIC) as server,
        made(server.url, AnthropicModel) as model,
        pytest.raises(ModelRefused, match="has nothing left to spend") as failure,
    ):
        answer_of(model)
    assert not isinstance(failure.value, RequestRejected)


# --- Google ----------------------------------------------------------------------------------------


def test_google_is_asked_in_its_own_form() -> None:
    with (
        LoopbackServer(served, dialect=GEMINI) as server,
        made(
            server.url, GoogleModel, api_key=KEY, max_output_tokens=500, reasoning_effort="low",
            send_seed=True,
        ) as model,
    ):  # fmt: skip
        assert answer_of(model, 2).texts == ("m|0", "m|1")
    (received,) = server.log
    sampling = received.body.pop("generationConfig")
    assert isinstance(sampling.pop("seed"), int)
    assert sampling == {
        "temperature": 0.7,
        "candidateCount": 2,
        "maxOutputTokens": 500,
        "thinkingConfig": {"thinkingLevel": "LOW"},
    }
    assert received.body["systemInstruction"]["parts"] == [{"text": "e"}]
    assert received.body["contents"] == [{"role": "user", "parts": [{"text": "m"}]}]
    assert received.model == "tiny"
    assert received.headers["x-goog-api-key"] == KEY


def test_an_effort_is_sent_to_older_models_of_google_as_a_budget_or_not_at_all() -> None:
    def refuse(body: dict[str, Any]) -> HttpError | None:
        thinking = GEMINI.sampling(body).get("thinkingConfig", {})
        if "thinkingLevel" in thinking:
            return HttpError(status=400, message="Thinking level is not supported for this model.")
        return HttpError(status=400, message="Budget: thinking is off") if thinking else None

    bodies, waits = bodies_after(GEMINI, refuse, reasoning_effort="medium")
    assert [body.get("thinkingConfig") for body in bodies] == [
        {"thinkingLevel": "MEDIUM"},
        {"thinkingBudget": 8192},
        None,
        None,
    ]
    assert len(waits.of("model_adapted")) == 2


def test_an_effort_that_google_does_not_know_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no reasoning effort 'hardest'"):
        made("http://127.0.0.1:1", GoogleModel, reasoning_effort="hardest")


def test_google_counts_thoughts_beside_the_candidates() -> None:
    body = {
        "candidates": [
            {
                "content": {"parts": [{"text": "hm", "thought": True}, {"text": "a"}]},
                "finishReason": "MAX_TOKENS",
            }
        ],
        "usageMetadata": {
            "promptTokenCount": 90,
            "toolUsePromptTokenCount": 10,
            "cachedContentTokenCount": 80,
            "candidatesTokenCount": 20,
            "thoughtsTokenCount": 30,
        },
    }
    answer = answer_from(GoogleModel, body)
    assert (answer.texts, answer.truncated) == (("a",), (0,))
    assert answer.usage == Usage(
        prompt_tokens=100, completion_tokens=50, cached_tokens=80, reasoning_tokens=30
    )


def test_a_prompt_that_google_blocks_is_rejected_and_not_asked_again() -> None:
    body = {"promptFeedback": {"blockReason": "SAFETY"}}
    with (
        raw_server(body) as url,
        made(url, GoogleModel) as model,
        pytest.raises(RequestRejected, match=r"the prompt is blocked \(SAFETY\)"),
    ):
        answer_of(model, 3)


def test_googles_400_for_a_wrong_key_and_its_delay_in_the_body_are_understood() -> None:
    from selftaught.models.failures import PassingTrouble, Refusal, target
    from selftaught.models.http_status import status_trouble

    where = target("http://h", None, key_variable="GEMINI_API_KEY", timeout_s=1)
    wrong = {"error": {"message": "API key not valid.", "details": [{"reason": "API_KEY_INVALID"}]}}
    refusal = status_trouble(where, 400, {}, json.dumps(wrong).encode())
    assert isinstance(refusal, Refusal)
    assert refusal.status == 401
    limited = {"error": {"message": "Quota", "details": [{"x": 1}, {"retryDelay": "18.5s"}]}}
    trouble = status_trouble(where, 429, {}, json.dumps([limited]).encode())
    assert isinstance(trouble, PassingTrouble)
    assert trouble.retry_after_s == 18.5
    assert trouble.says == "http://h answered 429: Quota"


# --- names, keys, extras ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "environment", "sent"),
    [
        ("anthropic/x", {"ANTHROPIC_API_KEY": "k-1"}, "k-1"),
        ("google/x", {"GOOGLE_API_KEY": "k-2"}, "k-2"),
        ("google/x", {"GOOGLE_API_KEY": "k-2", "GEMINI_API_KEY": "k-3"}, "k-3"),
        ("anthropic/x", {}, ""),
    ],
)
def test_a_key_comes_from_the_environment_that_is_given_and_from_no_other(
    name: str,
    environment: dict[str, str],
    sent: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "GEMINI_API_KEY"):
        monkeypatch.setenv(variable, "from-the-process")
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    dialect = ANTHROPIC if name.startswith("anthropic") else GEMINI
    with LoopbackServer(served, dialect=dialect) as server:
        model = resolve_model(name, base_url=server.url, environment=environment)
        assert isinstance(model, HostedModel)
        with model:
            answer_of(model)
    (received,) = server.log
    assert dialect.key(received.headers) == sent
    assert "from-the-process" not in msgspec.json.encode(received.headers).decode()


def test_the_list_of_models_says_what_each_provider_wants() -> None:
    environment = {"GOOGLE_API_KEY": KEY, "ANTHROPIC_BASE_URL": "http://h:9"}
    forms = {form.form: form for form in model_names(environment=environment)}
    assert not forms["openai/NAME"].usable
    assert forms["anthropic/NAME"].remark == "asks http://h:9, without a key"
    assert forms["google/NAME"].remark.endswith("with the key in GEMINI_API_KEY or GOOGLE_API_KEY")


@pytest.mark.parametrize("name", ["openai/x", "anthropic/x", "google/x"])
def test_no_http_client_is_loaded_before_the_first_request(name: str) -> None:
    program = (
        "import sys, selftaught.models.resolve as r\n"
        f"r.resolve_model({name!r}, base_url='http://127.0.0.1:1', environment={{}})\n"
        "print([m for m in ('httpx2', 'pydantic', 'ssl') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@every_provider
def test_any_text_can_be_a_key_of_an_exchange(dialect: Any) -> None:
    with (
        LoopbackServer(served, dialect=dialect) as server,
        made(server.url, MODELS[dialect]) as model,
    ):
        model.respond(asking(), seed=0, occurrence=0, key="ü\n|0")
    assert server.log[0].idempotency_key == "%C3%BC%0A|0/0"


@every_provider
@pytest.mark.parametrize("error", [401, 400, 500], ids=str)
def test_a_key_never_stands_in_a_traceback(dialect: Any, error: int) -> None:
    import traceback

    fault = HttpError(status=error, message=f"Bad key {KEY}")
    with (
        LoopbackServer(served, faults=lambda number, body: fault, dialect=dialect) as server,
        made(server.url, MODELS[dialect], api_key=KEY, max_retries=1) as model,
        pytest.raises(ModelError) as failure,
    ):
        answer_of(model)
    assert KEY not in "".join(traceback.format_exception(failure.value))


def test_the_protocol_of_a_request_does_not_change_what_is_asked() -> None:
    seen: dict[str, ReceivedRequest] = {}
    for dialect, make in MODELS.items():
        with LoopbackServer(served, dialect=dialect) as server, made(server.url, make) as model:
            answer_of(model)
        seen[dialect.name] = server.log[0]
    assert {one.asked.content_hash for one in seen.values()} == {asking().content_hash}
