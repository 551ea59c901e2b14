"""One endpoint that speaks OpenAI's chat completions, asked once at a time and never retried."""

from typing import Any

import msgspec

from selftaught.language_model import Usage
from selftaught.models.endpoint import (
    Completion,
    Form,
    Parameter,
    Question,
    seed_parameter,
    temperature_parameter,
)
from selftaught.models.failures import PassingTrouble
from selftaught.models.http_endpoint import MODEL_LISTS, HttpEndpoint


class _Part(msgspec.Struct):
    text: str = ""


class _Message(msgspec.Struct):
    content: str | list[_Part] | None = None


class _Choice(msgspec.Struct):
    message: _Message
    index: int | None = None
    finish_reason: str | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _Body(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


_BODIES = msgspec.json.Decoder(_Body)


class ChatEndpoint(HttpEndpoint):
    """Implements `selftaught.models.endpoint.Endpoint` by `/chat/completions`."""

    takes_n = True

    def parameters(self, question: Question) -> list[Parameter]:
        """Temperature, seed, effort and output limit, whose name has changed with the years."""
        found = [temperature_parameter(question.temperature)]
        if question.seed is not None:
            found.append(seed_parameter(question.seed))
        effort, limit = question.reasoning_effort, question.max_output_tokens
        if effort is not None:
            refused = f"the reasoning effort {effort!r} is not accepted and left out"
            forms = (Form({"reasoning_effort": effort}, refused), Form({}))
            found.append(Parameter("effort", ("reasoning_effort",), forms))
        if limit is not None:
            renamed = "the output limit goes by the name of max_completion_tokens"
            forms = (Form({"max_tokens": limit}, renamed), Form({"max_completion_tokens": limit}))
            found.append(Parameter("max_tokens", ("max_tokens",), forms))
        return found

    def send(self, question: Question, fields: dict[str, Any], key: str) -> Completion:
        """Make one exchange; see `Endpoint.send`."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [
                {"role": "system", "content": question.expertise},
                {"role": "user", "content": question.message},
            ],
        }
        if question.n > 1:
            body["n"] = question.n
        return self._parsed(self.post("/chat/completions", body | fields, key))

    def model_names(self) -> list[str] | None:
        """Return the names of the models that the endpoint lists, None where it lists none."""
        found = self.listed("/models", MODEL_LISTS)
        return None if found is None else [one.id for one in found.data]

    def _parsed(self, raw: bytes) -> Completion:
        body = self.decoded(raw, _BODIES, "chat completion")
        if not body.choices:
            raise PassingTrouble(
                f"{self.url} answered without a single choice", "Check the server's log."
            )
        choices = sorted(body.choices, key=lambda choice: choice.index or 0)
        return Completion(
            texts=tuple(_text(choice.message) for choice in choices),
            cut=tuple(choice.finish_reason == "length" for choice in choices),
            usage=_counted(body.usage or _Usage()),
        )


def _text(message: _Message) -> str:
    if isinstance(message.content, list):
        return "".join(part.text for part in message.content)
    return message.content or ""


def _counted(usage: _Usage) -> Usage:
    """OpenAI counts cached tokens among those of the prompt, reasoning among the completion's."""
    cached = usage.prompt_tokens_details
    reasoning = usage.completion_tokens_details
    return Usage(
        prompt_tokens=max(0, usage.prompt_tokens or 0),
        completion_tokens=max(0, usage.completion_tokens or 0),
        cached_tokens=max(0, (cached and cached.cached_tokens) or 0),
        reasoning_tokens=max(0, (reasoning and reasoning.reasoning_tokens) or 0),
    )
