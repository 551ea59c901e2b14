"""From the name after --model to a model, and the list of the forms of name."""

import sys

import pytest

from selftaught.errors import ModelRefused, UsageError
from selftaught.language_model import LanguageModel, Request
from selftaught.models.openai_compatible import OpenAICompatibleModel
from selftaught.models.resolve import model_names, resolve_model
from selftaught.testing import LoopbackServer

KEY = "sk-abcdefghij0123456789"
HOSTED = ["openai/NAME", "anthropic/NAME", "google/NAME"]


def resolved(name: str, base_url: str | None = None, **environment: str) -> LanguageModel:
    return resolve_model(name, base_url=base_url, environment=environment)


@pytest.mark.parametrize("name", ["mutation", "mutation-first-order"])
def test_the_mutation_proposer_is_found_by_name_and_is_no_language_model(name: str) -> None:
    model = resolved(name)
    assert isinstance(model, LanguageModel)
    assert model.name == name
    assert model.is_language_model is False


def test_a_base_url_is_of_no_use_to_the_mutation_proposer() -> None:
    with pytest.raises(UsageError, match=r"A base URL has no meaning for 'mutation'.*openai/NAME"):
        resolved("mutation", "http://127.0.0.1:1/v1")


def test_a_model_of_openai_takes_the_key_from_the_environment() -> None:
    model = resolved("openai/org/tiny:1b", OPENAI_API_KEY=KEY)
    assert isinstance(model, OpenAICompatibleModel)
    assert model.name == "openai/org/tiny:1b"
    assert model.is_language_model is True
    model.close()


def test_a_model_of_openai_without_a_key_is_refused_at_once() -> None:
    with pytest.raises(ModelRefused, match="Set OPENAI_API_KEY"):
        resolved("openai/tiny")


@pytest.mark.parametrize("by_environment", [False, True])
def test_a_server_of_ones_own_needs_no_key(
    by_environment: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The process's own variables must not leak to a server that was given none.
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    with LoopbackServer() as server:
        if by_environment:
            model = resolved("openai/tiny", OPENAI_BASE_URL=server.url)
        else:
            model = resolved("openai/tiny", server.url, OPENAI_BASE_URL="http://127.0.0.1:1/v1")
        assert isinstance(model, OpenAICompatibleModel)
        with model:
            request = Request(expertise="e", message="hello")
            answer = model.respond(request, seed=0, occurrence=0, key="k")
    assert answer.texts == ("hello",)
    (received,) = server.log
    assert received.body["model"] == "tiny"
    assert "authorization" not in received.headers


@pytest.mark.parametrize("name", ["", "gpt-9", "openai/", "openai/ ", "Mutation", "replay/x"])
def test_any_other_name_is_answered_with_the_forms_there_are(name: str) -> None:
    with pytest.raises(UsageError) as failure:
        resolved(name)
    said = str(failure.value)
    assert said.startswith(f"There is no model {name!r}. There are: mutation (")
    assert "mutation-first-order (" in said
    assert "openai/NAME (" in said


@pytest.mark.parametrize(
    ("base_url", "environment", "usable", "remark"),
    [
        (None, {}, False, "set OPENAI_API_KEY, or give the base URL of a server that needs no key"),
        (None, {"OPENAI_API_KEY": " "}, False, "set OPENAI_API_KEY"),
        (None, {"OPENAI_API_KEY": KEY}, True, "with the key in OPENAI_API_KEY"),
        ("http://u:pw@h:8/v1", {}, True, "asks http://h:8/v1, without a key"),
        (None, {"OPENAI_BASE_URL": "http://h/v1", "OPENAI_API_KEY": KEY}, True, "with a key"),
    ],
)
def test_the_list_says_what_can_be_used_now(
    base_url: str | None, environment: dict[str, str], usable: bool, remark: str
) -> None:
    forms = {form.form: form for form in model_names(base_url=base_url, environment=environment)}
    assert list(forms) == [
        "mutation",
        "mutation-first-order",
        *HOSTED,
        "replay/RUN",
        "local/PATH.gguf",
        "NAME:0.7,OTHER:0.3",
        "bandit(NAME,OTHER)",
    ]
    assert forms["mutation"].usable
    assert "no language model" in forms["mutation"].meaning
    assert forms["openai/NAME"].usable is usable
    assert remark in forms["openai/NAME"].remark
    assert KEY not in repr(forms)
    assert "pw" not in repr(forms)


def test_listing_the_models_loads_no_http_client() -> None:
    import subprocess

    program = (
        "import sys\nfrom selftaught.models.resolve import model_names\n"
        "model_names(environment={})\nprint('httpx2' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
