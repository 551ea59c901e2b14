"""Every hosted model keeps the contract of language models, over HTTP."""

from collections.abc import Iterator
from typing import Any

import pytest
from test_models_asking import made

from selftaught.language_model import LanguageModel, Request
from selftaught.models.anthropic_messages import AnthropicModel
from selftaught.models.google_generate import GoogleModel
from selftaught.models.openai_compatible import OpenAICompatibleModel
from selftaught.testing import (
    ANTHROPIC,
    GEMINI,
    OPENAI,
    Fault,
    LanguageModelContract,
    LoopbackServer,
    ReceivedRequest,
)


def served(received: ReceivedRequest, index: int) -> str:
    return f"{received.asked.message}|{index}"


class OverHttp(LanguageModelContract):
    repeats_itself = True
    honours_n = True
    make: Any = OpenAICompatibleModel
    dialect = OPENAI

    @pytest.fixture
    def model(self) -> Iterator[LanguageModel]:
        with (
            LoopbackServer(served, honours_n=self.honours_n, dialect=self.dialect) as server,
            made(server.url, self.make) as model,
        ):
            yield model

    @pytest.fixture
    def broken_model(self) -> Iterator[LanguageModel]:
        with (
            LoopbackServer(
                faults=lambda number, body: Fault.EMPTY_BODY, dialect=self.dialect
            ) as server,
            made(server.url, self.make, max_retries=1) as model,
        ):
            yield model

    def expected(self, request: Request, seed: int, occurrence: int) -> list[str]:
        return [f"{request.message}|{index}" for index in range(request.n_responses)]


class TestOpenAIWhereNIsHonoured(OverHttp):
    pass


class TestOpenAIWhereNIsIgnored(OverHttp):
    honours_n = False


class TestAnthropic(OverHttp):
    make = AnthropicModel
    dialect = ANTHROPIC


class TestGoogleWhereSeveralCandidatesAreGiven(OverHttp):
    make = GoogleModel
    dialect = GEMINI


class TestGoogleWhereOneCandidateIsGiven(OverHttp):
    make = GoogleModel
    dialect = GEMINI
    honours_n = False
