"""The OpenAI-compatible model keeps the contract of language models, over HTTP."""

from collections.abc import Iterator

import pytest

from selftaught.language_model import LanguageModel, Request
from selftaught.models.openai_compatible import OpenAICompatibleModel
from selftaught.testing import Fault, LanguageModelContract, LoopbackServer, ReceivedRequest


def served(received: ReceivedRequest, index: int) -> str:
    return f"{received.body['messages'][-1]['content']}|{index}"


class OverHttp(LanguageModelContract):
    repeats_itself = True
    honours_n = True

    @pytest.fixture
    def model(self) -> Iterator[LanguageModel]:
        with (
            LoopbackServer(served, honours_n=self.honours_n) as server,
            OpenAICompatibleModel("tiny", base_url=server.url) as model,
        ):
            yield model

    @pytest.fixture
    def broken_model(self) -> Iterator[LanguageModel]:
        with (
            LoopbackServer(faults=lambda number, body: Fault.EMPTY_BODY) as server,
            OpenAICompatibleModel(
                "tiny", base_url=server.url, backoff_s=0.001, max_retries=1
            ) as model,
        ):
            yield model

    def expected(self, request: Request, seed: int, occurrence: int) -> list[str]:
        return [f"{request.message}|{index}" for index in range(request.n_responses)]


class TestModelOverHttpWhereNIsHonoured(OverHttp):
    pass


class TestModelOverHttpWhereNIsIgnored(OverHttp):
    honours_n = False
