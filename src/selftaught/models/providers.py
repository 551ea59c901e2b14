"""The providers of hosted models, as a table: a name's first part, its key, its address."""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from selftaught.language_model import ModelSettings
from selftaught.models import anthropic_messages, google_generate, openai_compatible
from selftaught.models.failures import shown_url, usable_key
from selftaught.models.hosted import HostedModel, Waiting
from selftaught.models.keys import find_key, has_key


class Make(Protocol):
    """Makes a model of a provider; `base_url` is None for the provider's own address."""

    def __call__(
        self,
        model: str,
        *,
        base_url: str | None,
        api_key: str | None,
        settings: ModelSettings,
        waiting: Waiting,
        headers: Mapping[str, str],
    ) -> HostedModel:
        """Return the model; an HTTP client is loaded with its first request."""
        ...


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """One provider.

    Attributes:
        prefix: what stands before the slash in a model's name.
        meaning: one line on what answers.
        key_variables: environment variables for the key; the first that is set counts.
        url_variable: the environment variable for another address.
        url: the provider's own address.
        make: the class of its models.
        account_variables: environment variables that are sent along, with the header of each.
    """

    prefix: str
    meaning: str
    key_variables: tuple[str, ...]
    url_variable: str
    url: str
    make: Make
    account_variables: Mapping[str, str] = {}

    def key(self, environment: Mapping[str, str]) -> str | None:
        """Return the key that is set, None where none is.

        Raises:
            ModelRefused, UsageError: see `selftaught.models.keys.find_key`.
        """
        found = (find_key(variable, environment) for variable in self.key_variables)
        return next((key for key in found if key), None)

    def base_url(self, given: str | None, environment: Mapping[str, str]) -> str | None:
        """Return the address of another server, None for the provider's own."""
        return given or environment.get(self.url_variable) or None

    def model(
        self,
        name: str,
        *,
        base_url: str | None,
        environment: Mapping[str, str],
        settings: ModelSettings,
        waiting: Waiting,
    ) -> HostedModel:
        """Return a model of this provider as things are set.

        Raises:
            UsageError: the address is none.
            ModelRefused: a key is missing, or what is set cannot be sent.
        """
        account = {
            header: usable_key(environment.get(variable), variable)
            for variable, header in self.account_variables.items()
        }
        return self.make(
            name,
            base_url=self.base_url(base_url, environment),
            api_key=self.key(environment),
            settings=settings,
            waiting=waiting,
            headers={header: value for header, value in account.items() if value},
        )

    def remark(self, given: str | None, environment: Mapping[str, str]) -> tuple[bool, str]:
        """Return whether it can be used as things are set, and why, or what to set."""
        url = self.base_url(given, environment)
        is_keyed = any(has_key(variable, environment) for variable in self.key_variables)
        variables = " or ".join(self.key_variables)
        if url is not None:
            return True, f"asks {shown_url(url)}, {'with' if is_keyed else 'without'} a key"
        if is_keyed:
            return True, f"asks {self.url} with the key in {variables}"
        return False, f"set {variables}, or give the base URL of a server that needs no key"


PROVIDERS = (
    Provider(
        prefix="openai",
        meaning="the model NAME of OpenAI or of any OpenAI-compatible server",
        key_variables=(openai_compatible.KEY_VARIABLE,),
        url_variable="OPENAI_BASE_URL",
        url=openai_compatible.OPENAI_URL,
        make=openai_compatible.OpenAICompatibleModel,
        account_variables=openai_compatible.ACCOUNT_VARIABLES,
    ),
    Provider(
        prefix="anthropic",
        meaning="the model NAME of Anthropic",
        key_variables=(anthropic_messages.KEY_VARIABLE,),
        url_variable="ANTHROPIC_BASE_URL",
        url=anthropic_messages.ANTHROPIC_URL,
        make=anthropic_messages.AnthropicModel,
    ),
    Provider(
        prefix="google",
        meaning="the Gemini model NAME of Google",
        key_variables=google_generate.KEY_VARIABLES,
        url_variable="GOOGLE_GEMINI_BASE_URL",
        url=google_generate.GOOGLE_URL,
        make=google_generate.GoogleModel,
    ),
)


def address_of(name: str, given: str | None, environment: Mapping[str, str]) -> str | None:
    """Return the address that a model of this name is asked at; None for its provider's own."""
    found = provider_of(name)
    return given if found is None else found[0].base_url(given, environment)


def provider_of(name: str) -> tuple[Provider, str] | None:
    """Return the provider of a model's name and what follows its prefix, None for none."""
    prefix, _, model = name.partition("/")
    for one in PROVIDERS:
        if prefix == one.prefix and model.strip():
            return one, model
    return None
