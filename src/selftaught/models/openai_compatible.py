"""Models of OpenAI, and of any server that speaks its chat completions.

OpenRouter, vLLM, Ollama, llama.cpp and others differ in what they take: some ignore `n`, some
reject it, some take no temperature. What an endpoint refuses is learned once and then left out.
"""

from collections.abc import Mapping

from selftaught.language_model import ModelSettings
from selftaught.models.chat_endpoint import ChatEndpoint
from selftaught.models.failures import MAX_ANSWER_BYTES, target
from selftaught.models.hosted import HostedModel, Waiting

OPENAI_URL = "https://api.openai.com/v1"
KEY_VARIABLE = "OPENAI_API_KEY"
# Which account of those that a key may use is charged.
ACCOUNT_VARIABLES = {"OPENAI_ORG_ID": "OpenAI-Organization", "OPENAI_PROJECT_ID": "OpenAI-Project"}


class OpenAICompatibleModel(HostedModel):
    """Answers by chat completions.

    Args:
        model: the model's name as the endpoint knows it.
        base_url: the endpoint's address up to and without `/chat/completions`; None is OpenAI's.
        api_key: the key; may be missing where `base_url` is given.
        settings: how it is asked.
        waiting: how it repeats and waits.
        send_seed: whether to send a seed, which some servers reject.
        max_answer_bytes: a longer body counts as a failure.
        headers: sent with each request besides.
        name: as the user writes it after `--model`; `openai/MODEL` where left out.

    Raises:
        UsageError: `base_url` is no address, or a number is out of range.
        ModelRefused: no key is given for OpenAI's own endpoint, or the key cannot be sent.
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
        name: str | None = None,
    ) -> None:
        settings = settings or ModelSettings()
        where = target(
            base_url or OPENAI_URL,
            api_key,
            key_variable=KEY_VARIABLE,
            timeout_s=settings.timeout_s,
            max_answer_bytes=max_answer_bytes,
            connections=settings.concurrency,
            needs_key=base_url is None,
        )
        super().__init__(
            name or f"openai/{model}",
            ChatEndpoint(model, where, headers),
            settings,
            waiting or Waiting(),
            send_seed=send_seed,
        )
