"""The protocols that a LoopbackServer can speak: how each asks, answers and fails."""

import re
import time
from typing import Any, Protocol

from selftaught.language_model import Request
from selftaught.testing.loopback_faults import HttpError


class Dialect(Protocol):
    """One protocol.

    Attributes:
        name: what it is called.
        base_path: what a client's base URL ends in.
        list_path: where the models are listed.
        without_choices: an answer that lacks what it is for.
    """

    name: str
    base_path: str
    list_path: str
    without_choices: bytes

    def is_ask(self, path: str) -> bool:
        """Whether a path is that for asking the model."""
        ...

    def model(self, path: str, body: dict[str, Any]) -> str:
        """Return whom a request asks."""
        ...

    def sampling(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the part of a request that holds temperature, seed and the like."""
        ...

    def asked(self, body: dict[str, Any]) -> Request:
        """Return what is asked."""
        ...

    def key(self, headers: dict[str, str]) -> str:
        """Return the key that was sent; header names are lower-case."""
        ...

    def answer(
        self, number: int, model: str, texts: list[str | None], *, cut: bool, prompt_tokens: int
    ) -> dict[str, Any]:
        """Return the body of an answer; None for a text that is missing; tokens are words."""
        ...

    def error(self, error: HttpError) -> dict[str, Any]:
        """Return the body of an error."""
        ...

    def listed(self, names: list[str]) -> dict[str, Any]:
        """Return the body of the list of models."""
        ...


class OpenAIDialect:
    """Chat completions."""

    name = "openai"
    base_path = "/v1"
    list_path = "/v1/models"
    without_choices = b'{"id": "x"}'

    def is_ask(self, path: str) -> bool:
        """See `Dialect`."""
        return path.rstrip("/") == "/v1/chat/completions"

    def model(self, path: str, body: dict[str, Any]) -> str:
        """See `Dialect`."""
        return str(body.get("model", ""))

    def sampling(self, body: dict[str, Any]) -> dict[str, Any]:
        """See `Dialect`."""
        return body

    def asked(self, body: dict[str, Any]) -> Request:
        """See `Dialect`."""
        texts = {"system": "", "user": ""}
        for message in body["messages"]:
            texts[message["role"]] = message["content"]
        return _request(texts["system"], texts["user"], body.get("n", 1), body)

    def key(self, headers: dict[str, str]) -> str:
        """See `Dialect`."""
        return headers.get("authorization", "").removeprefix("Bearer ")

    def answer(
        self, number: int, model: str, texts: list[str | None], *, cut: bool, prompt_tokens: int
    ) -> dict[str, Any]:
        """See `Dialect`."""
        written = _words(texts)
        return {
            "id": f"chatcmpl-{number}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
            "choices": [
                {
                    "index": place,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "length" if cut else "stop",
                }
                for place, text in enumerate(texts)
            ],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": written,
                "total_tokens": prompt_tokens + written,
            },
        }

    def error(self, error: HttpError) -> dict[str, Any]:
        """See `Dialect`."""
        told = {"message": error.message, "code": error.code, "param": error.param}
        return {"error": told}

    def listed(self, names: list[str]) -> dict[str, Any]:
        """See `Dialect`."""
        return {"object": "list", "data": [{"id": name, "object": "model"} for name in names]}


class AnthropicDialect:
    """Anthropic's messages."""

    name = "anthropic"
    base_path = ""
    list_path = "/v1/models"
    without_choices = b'{"id": "x", "type": "message"}'

    def is_ask(self, path: str) -> bool:
        """See `Dialect`."""
        return path.rstrip("/") == "/v1/messages"

    def model(self, path: str, body: dict[str, Any]) -> str:
        """See `Dialect`."""
        return str(body.get("model", ""))

    def sampling(self, body: dict[str, Any]) -> dict[str, Any]:
        """See `Dialect`."""
        return body

    def asked(self, body: dict[str, Any]) -> Request:
        """See `Dialect`."""
        return _request(body.get("system", ""), body["messages"][-1]["content"], 1, body)

    def key(self, headers: dict[str, str]) -> str:
        """See `Dialect`."""
        return headers.get("x-api-key", "")

    def answer(
        self, number: int, model: str, texts: list[str | None], *, cut: bool, prompt_tokens: int
    ) -> dict[str, Any]:
        """See `Dialect`."""
        (text,) = texts
        return {
            "id": f"msg_{number}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": None if text is None else [{"type": "text", "text": text}],
            "stop_reason": "max_tokens" if cut else "end_turn",
            "usage": {"input_tokens": prompt_tokens, "output_tokens": _words(texts)},
        }

    def error(self, error: HttpError) -> dict[str, Any]:
        """See `Dialect`."""
        kind = {429: "rate_limit_error", 529: "overloaded_error"}.get(error.status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": error.message}}

    def listed(self, names: list[str]) -> dict[str, Any]:
        """See `Dialect`."""
        return {"data": [{"id": name, "type": "model"} for name in names], "has_more": False}


class GeminiDialect:
    """Google's generateContent."""

    name = "google"
    base_path = ""
    list_path = "/v1beta/models"
    without_choices = b'{"usageMetadata": {}}'

    def is_ask(self, path: str) -> bool:
        """See `Dialect`."""
        return re.fullmatch(r"/v1(beta)?/models/[^/]+:generateContent", path) is not None

    def model(self, path: str, body: dict[str, Any]) -> str:
        """See `Dialect`."""
        return path.rpartition("/")[2].partition(":")[0]

    def sampling(self, body: dict[str, Any]) -> dict[str, Any]:
        """See `Dialect`."""
        found: dict[str, Any] = body.get("generationConfig", {})
        return found

    def asked(self, body: dict[str, Any]) -> Request:
        """See `Dialect`."""
        sampling = self.sampling(body)
        system = body.get("systemInstruction", {"parts": []})["parts"]
        return _request(
            "".join(part["text"] for part in system),
            "".join(part["text"] for part in body["contents"][-1]["parts"]),
            sampling.get("candidateCount", 1),
            sampling,
        )

    def key(self, headers: dict[str, str]) -> str:
        """See `Dialect`."""
        return headers.get("x-goog-api-key", "")

    def answer(
        self, number: int, model: str, texts: list[str | None], *, cut: bool, prompt_tokens: int
    ) -> dict[str, Any]:
        """See `Dialect`."""
        written = _words(texts)
        return {
            "candidates": [
                {
                    "index": place,
                    "content": {"role": "model"}
                    | ({} if text is None else {"parts": [{"text": text}]}),
                    "finishReason": "MAX_TOKENS" if cut else "STOP",
                }
                for place, text in enumerate(texts)
            ],
            "modelVersion": model,
            "usageMetadata": {
                "promptTokenCount": prompt_tokens,
                "candidatesTokenCount": written,
                "totalTokenCount": prompt_tokens + written,
            },
        }

    def error(self, error: HttpError) -> dict[str, Any]:
        """See `Dialect`."""
        return {
            "error": {
                "code": error.status,
                "message": error.message,
                "status": error.code or "UNKNOWN",
            }
        }

    def listed(self, names: list[str]) -> dict[str, Any]:
        """See `Dialect`."""
        return {"models": [{"name": f"models/{name}"} for name in names]}


OPENAI: Dialect = OpenAIDialect()
ANTHROPIC: Dialect = AnthropicDialect()
GEMINI: Dialect = GeminiDialect()
DIALECTS = {dialect.name: dialect for dialect in (OPENAI, ANTHROPIC, GEMINI)}


def _request(expertise: Any, message: Any, n: Any, sampling: dict[str, Any]) -> Request:
    return Request(
        expertise=str(expertise),
        message=str(message),
        n_responses=int(n),
        temperature=float(sampling.get("temperature", 1.0)),
    )


def _words(texts: list[str | None]) -> int:
    return sum(len((text or "").split()) for text in texts)
