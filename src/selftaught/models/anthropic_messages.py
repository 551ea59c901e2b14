"""Anthropic's models, by its Messages API."""

from collections.abc import Mapping
from typing import Any

import msgspec

from selftaught.language_model import ModelSettings, Usage
from selftaught.models.endpoint import (
    Completion,
    Form,
    Parameter,
    Question,
    temperature_parameter,
)
from selftaught.models.failures import MAX_ANSWER_BYTES, target
from selftaught.models.hosted import HostedModel, Waiting
from selftaught.models.http_endpoint import MODEL_LISTS, HttpEndpoint
from selftaught.models.reasoning import thinking_tokens

ANTHROPIC_URL = "https://api.anthropic.com"
KEY_VARIABLE = "ANTHROPIC_API_KEY"
# Of the protocol. 2026-10-21, the one after, refuses every request that has a temperature, and
# improvers choose one; with this it is up to the model.
API_VERSION = "2023-06-01"
# The protocol demands a limit. Where the user sets none, the first that the model takes.
OUTPUT_LIMITS = (16_384, 8_192, 4_096)
_LEAST_BUDGET = 1_024
_CUT = frozenset({"max_tokens", "model_context_window_exceeded"})


class _Block(msgspec.Struct):
    type: str = ""
    text: str = ""


class _OutputDetails(msgspec.Struct):
    thinking_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None


class _Body(msgspec.Struct):
    content: list[_Block] | None
    stop_reason: str | None = None
    usage: _Usage | None = None


_BODIES = msgspec.json.Decoder(_Body)


class MessagesEndpoint(HttpEndpoint):
    """Implements `selftaught.models.endpoint.Endpoint` by `/v1/messages`."""

    takes_n = False
    key_header = "x-api-key"
    key_prefix = ""

    def parameters(self, question: Question) -> list[Parameter]:
        """Temperature, effort and output limit; the protocol knows no seed."""
        limit, effort = question.max_output_tokens, question.reasoning_effort
        found = [temperature_parameter(question.temperature)]
        if effort is not None:
            words = ("effort", "output_config", "thinking", "budget_tokens")
            found.append(Parameter("effort", words, _efforts(effort, limit or OUTPUT_LIMITS[0])))
        limits = OUTPUT_LIMITS if limit is None else (limit,)
        forms = [
            Form({"max_tokens": tokens}, f"{tokens:,} output tokens are too many; fewer are asked")
            for tokens in limits
        ]
        found.append(Parameter("max_tokens", ("max_tokens",), tuple(forms)))
        return found

    def send(self, question: Question, fields: dict[str, Any], key: str) -> Completion:
        """Make one exchange; see `Endpoint.send`."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": question.message}],
        }
        if question.expertise:
            # An empty one is rejected.
            body["system"] = question.expertise
        return self._parsed(self.post("/v1/messages", body | fields, key))

    def model_names(self) -> list[str] | None:
        """Return the names of the models that the endpoint lists, None where it lists none."""
        found = self.listed("/v1/models", MODEL_LISTS)
        return None if found is None else [one.id for one in found.data]

    def _parsed(self, raw: bytes) -> Completion:
        body = self.decoded(raw, _BODIES, "message")
        text = "".join(block.text for block in body.content or () if block.type == "text")
        return Completion(
            texts=(text,),
            cut=(body.stop_reason in _CUT,),
            usage=_counted(body.usage or _Usage()),
        )


class AnthropicModel(HostedModel):
    """Answers by Anthropic's messages.

    Args:
        model: the model's name at Anthropic.
        base_url: another server that speaks the protocol, up to and without `/v1`.
        api_key: the key; may be missing where `base_url` is given.
        settings: how it is asked.
        waiting: how it repeats and waits.
        max_answer_bytes: a longer body counts as a failure.
        headers: sent with each request besides.

    Raises:
        UsageError: `base_url` is no address, or a number is out of range.
        ModelRefused: no key is given for Anthropic's own endpoint, or the key cannot be sent.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        settings: ModelSettings | None = None,
        waiting: Waiting | None = None,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        name = f"anthropic/{model}"
        settings = settings or ModelSettings()
        where = target(
            base_url or ANTHROPIC_URL,
            api_key,
            key_variable=KEY_VARIABLE,
            timeout_s=settings.timeout_s,
            max_answer_bytes=max_answer_bytes,
            connections=settings.concurrency,
            needs_key=base_url is None,
        )
        endpoint = MessagesEndpoint(
            model, where, {"anthropic-version": API_VERSION} | dict(headers or {})
        )
        super().__init__(name, endpoint, settings, waiting or Waiting())


def _efforts(effort: str, limit: int) -> tuple[Form, ...]:
    """The ways in which generations of models are told how hard to think, newest first."""
    forms = [
        Form(
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": effort}},
            "adaptive thinking is not accepted; the effort is sent without",
        ),
        Form({"output_config": {"effort": effort}}, f"the effort {effort!r} is not accepted"),
    ]
    budget = min(thinking_tokens(effort), limit - _LEAST_BUDGET)
    if budget >= _LEAST_BUDGET:
        thinking = {"type": "enabled", "budget_tokens": budget}
        forms.append(Form({"thinking": thinking}, "a budget for thinking is not accepted"))
    return (*forms, Form({}))


def _counted(usage: _Usage) -> Usage:
    """Anthropic counts cached tokens beside those of the prompt, thinking among the output's."""
    read = max(0, usage.cache_read_input_tokens or 0)
    written = max(0, usage.cache_creation_input_tokens or 0)
    details = usage.output_tokens_details
    return Usage(
        prompt_tokens=max(0, usage.input_tokens or 0) + read + written,
        completion_tokens=max(0, usage.output_tokens or 0),
        cached_tokens=read,
        reasoning_tokens=max(0, (details and details.thinking_tokens) or 0),
    )
