"""Google's Gemini models, by `generateContent`."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from selftaught.language_model import ModelSettings, Usage
from selftaught.models.endpoint import (
    Completion,
    Form,
    Parameter,
    Question,
    seed_parameter,
    temperature_parameter,
)
from selftaught.models.endpoint_limits import BLOCKED
from selftaught.models.failures import MAX_ANSWER_BYTES, PassingTrouble, Refusal, target
from selftaught.models.hosted import HostedModel, Waiting
from selftaught.models.http_endpoint import HttpEndpoint
from selftaught.models.reasoning import thinking_tokens

GOOGLE_URL = "https://generativelanguage.googleapis.com"
KEY_VARIABLES = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
# All models and all that is sent here are in it; `/v1` lacks previews and names like `-latest`.
_VERSION = "/v1beta"
_LEVELS = ("minimal", "low", "medium", "high")


class _Part(msgspec.Struct):
    text: str = ""
    thought: bool = False


class _Content(msgspec.Struct):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    index: int | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct, rename="camel"):
    prompt_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    cached_content_token_count: int | None = None


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None


class _Body(msgspec.Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: _Usage | None = None


class _Listed(msgspec.Struct):
    name: str


class _ModelList(msgspec.Struct):
    models: list[_Listed]


_BODIES = msgspec.json.Decoder(_Body)
_MODEL_LISTS = msgspec.json.Decoder(_ModelList)


class GenerateEndpoint(HttpEndpoint):
    """Implements `selftaught.models.endpoint.Endpoint` by `generateContent`."""

    takes_n = True
    key_header = "x-goog-api-key"
    key_prefix = ""

    def parameters(self, question: Question) -> list[Parameter]:
        """Temperature, seed, effort and output limit."""
        found = [temperature_parameter(question.temperature)]
        if question.seed is not None:
            found.append(seed_parameter(question.seed))
        if question.reasoning_effort is not None:
            words = (
                "thinkingLevel", "thinking_level", "thinkingBudget", "thinking_budget",
                "thinkingConfig", "thinking_config", "thinking",
            )  # fmt: skip
            found.append(Parameter("effort", words, _efforts(question.reasoning_effort)))
        if question.max_output_tokens is not None:
            limit = Form({"maxOutputTokens": question.max_output_tokens})
            found.append(Parameter("maxOutputTokens", ("maxOutputTokens",), (limit,)))
        return found

    def send(self, question: Question, fields: dict[str, Any], key: str) -> Completion:
        """Make one exchange; see `Endpoint.send`."""
        sampling = dict(fields)
        if question.n > 1:
            sampling["candidateCount"] = question.n
        body: dict[str, Any] = {
            "contents": [{"role": "user", "parts": [{"text": question.message}]}],
            "generationConfig": sampling,
        }
        if question.expertise:
            body["systemInstruction"] = {"parts": [{"text": question.expertise}]}
        is_path = self.model.startswith(("models/", "tunedModels/"))
        name = self.model if is_path else f"models/{self.model}"
        return self._parsed(self.post(f"{_VERSION}/{quote(name)}:generateContent", body, key))

    def model_names(self) -> list[str] | None:
        """Return the names of the models that the endpoint lists, None where it lists none."""
        found = self.listed(f"{_VERSION}/models", _MODEL_LISTS)
        return None if found is None else [one.name.removeprefix("models/") for one in found.models]

    def _parsed(self, raw: bytes) -> Completion:
        body = self.decoded(raw, _BODIES, "generated content")
        if not body.candidates:
            reason = body.prompt_feedback and body.prompt_feedback.block_reason
            if reason:
                raise Refusal(400, f"the prompt is blocked ({reason})", BLOCKED)
            raise PassingTrouble(
                f"{self.url} answered without a single candidate", "Check the model's name."
            )
        candidates = sorted(body.candidates, key=lambda one: one.index or 0)
        return Completion(
            texts=tuple(_text(one) for one in candidates),
            cut=tuple(one.finish_reason == "MAX_TOKENS" for one in candidates),
            usage=_counted(body.usage_metadata or _Usage()),
        )


class GoogleModel(HostedModel):
    """Answers by Gemini.

    Args:
        model: the model's name at Google, without `models/`.
        base_url: another server that speaks the protocol, up to and without the version.
        api_key: the key; may be missing where `base_url` is given.
        settings: how it is asked.
        waiting: how it repeats and waits.
        send_seed: whether to send a seed.
        max_answer_bytes: a longer body counts as a failure.
        headers: sent with each request besides.

    Raises:
        UsageError: `base_url` is no address, or a number is out of range.
        ModelRefused: no key is given for Google's own endpoint, or the key cannot be sent.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        settings: ModelSettings | None = None,
        waiting: Waiting | None = None,
        send_seed: bool = False,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        name = f"google/{model}"
        settings = settings or ModelSettings()
        if settings.reasoning_effort is not None:
            thinking_tokens(settings.reasoning_effort)
        where = target(
            base_url or GOOGLE_URL,
            api_key,
            key_variable=KEY_VARIABLES[0],
            timeout_s=settings.timeout_s,
            max_answer_bytes=max_answer_bytes,
            connections=settings.concurrency,
            needs_key=base_url is None,
        )
        super().__init__(
            name,
            GenerateEndpoint(model, where, headers),
            settings,
            waiting or Waiting(),
            send_seed=send_seed,
        )


def _efforts(effort: str) -> tuple[Form, ...]:
    """The two ways in which generations of models are told how hard to think, newest first."""
    forms = []
    if effort.lower() in _LEVELS:
        level = {"thinkingConfig": {"thinkingLevel": effort.upper()}}
        forms.append(Form(level, "a thinking level is not accepted; a budget is sent instead"))
    budget = {"thinkingConfig": {"thinkingBudget": thinking_tokens(effort)}}
    forms.append(Form(budget, "a budget for thinking is not accepted and left out"))
    return (*forms, Form({}))


def _text(candidate: _Candidate) -> str:
    parts = (candidate.content and candidate.content.parts) or ()
    return "".join(part.text for part in parts if not part.thought)


def _counted(usage: _Usage) -> Usage:
    """Google counts cached tokens among those of the prompt, thoughts beside the candidates'."""
    thoughts = max(0, usage.thoughts_token_count or 0)
    tools = max(0, usage.tool_use_prompt_token_count or 0)
    return Usage(
        prompt_tokens=max(0, usage.prompt_token_count or 0) + tools,
        completion_tokens=max(0, usage.candidates_token_count or 0) + thoughts,
        cached_tokens=max(0, usage.cached_content_token_count or 0),
        reasoning_tokens=thoughts,
    )
