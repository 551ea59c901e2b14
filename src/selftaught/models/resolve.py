"""From the name that a user writes after `--model` to something that answers."""

from collections.abc import Mapping

import msgspec

from selftaught.errors import UsageError
from selftaught.language_model import LanguageModel, ModelSettings
from selftaught.models.hosted import Waiting
from selftaught.models.providers import PROVIDERS, provider_of

REPLAY = "replay/"


class ModelForm(msgspec.Struct, frozen=True, kw_only=True):
    """One form that the name of a model may take.

    Attributes:
        form: as it is written, with a word in capitals for what the user fills in.
        meaning: one line on what answers.
        usable: whether it can be used as things are set now; no endpoint is asked.
        remark: why, or what to set.
    """

    form: str
    meaning: str
    usable: bool
    remark: str


def resolve_model(
    name: str,
    *,
    base_url: str | None,
    environment: Mapping[str, str],
    settings: ModelSettings | None = None,
    waiting: Waiting | None = None,
) -> LanguageModel:
    """Return what answers under a name.

    Args:
        name: `mutation`, `mutation-first-order` or PROVIDER/NAME, as `model_names` lists them.
        base_url: the address of another endpoint than the provider's own; None takes it from
            the provider's variable in the environment, such as OPENAI_BASE_URL.
        environment: where keys are looked up, usually `os.environ`.
        settings: how the model is asked.
        waiting: how it repeats and waits, and who is told.

    `replay/RUN` needs the store of a run; see `selftaught.runs.replaying`.

    Raises:
        UsageError: there is no such form of name, or the address is none.
        ModelRefused: a key is missing or cannot be sent.
    """
    if name in ("mutation", "mutation-first-order"):
        if base_url is not None:
            raise UsageError(
                f"A base URL has no meaning for {name!r}, which asks no server. "
                "Leave it out, or name a model of the server as openai/NAME."
            )
        # Imported late: whoever asks an endpoint does not wait for the edit operators.
        from selftaught.mutation.proposer import MutationProposer

        return MutationProposer(templates=name == "mutation")
    found = provider_of(name)
    if found is None:
        forms = "; ".join(
            f"{form.form} ({form.meaning})" for form in model_names(environment=environment)
        )
        raise UsageError(f"There is no model {name!r}. There are: {forms}.")
    provider, model = found
    return provider.make(
        model,
        base_url=provider.base_url(base_url, environment),
        api_key=provider.key(environment),
        settings=settings or ModelSettings(),
        waiting=waiting or Waiting(),
    )


def model_names(*, base_url: str | None = None, environment: Mapping[str, str]) -> list[ModelForm]:
    """Return the forms of name that `resolve_model` takes, and whether each is usable now."""
    hosted = []
    for provider in PROVIDERS:
        usable, remark = provider.remark(base_url, environment)
        hosted.append(
            ModelForm(
                form=f"{provider.prefix}/NAME",
                meaning=provider.meaning,
                usable=usable,
                remark=remark,
            )
        )
    return [
        ModelForm(
            form="mutation",
            meaning="random program mutation, no language model",
            usable=True,
            remark="runs on this machine, needs no key",
        ),
        ModelForm(
            form="mutation-first-order",
            meaning="the same without the templates for whole improvers",
            usable=True,
            remark="runs on this machine, needs no key",
        ),
        *hosted,
        ModelForm(
            form=f"{REPLAY}RUN",
            meaning="the recorded answers of a run, or of a FILE.jsonl that `record` wrote",
            usable=True,
            remark="asks nobody",
        ),
    ]
