"""From the name that a user writes after `--model` to something that answers."""

from collections.abc import Mapping

import msgspec

from selftaught.errors import UsageError
from selftaught.language_model import LanguageModel, ModelSettings
from selftaught.models.bandit import BanditModel
from selftaught.models.hosted import Waiting
from selftaught.models.local import EXTRA, LocalModel, is_installed
from selftaught.models.local import PREFIX as LOCAL
from selftaught.models.mix import MixedModel, members, parse_mix
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
        name: `mutation`, `mutation-first-order`, PROVIDER/NAME as `model_names` lists them,
            `local/PATH.gguf`, or several of these as a mix, as in
            `openai/NAME:0.7,openai/OTHER:0.3`, or as a bandit, as in
            `bandit(openai/NAME,openai/OTHER)`.
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
    names = members(name)
    if names != (name,):
        models = [
            resolve_model(
                one,
                base_url=None if one.startswith(("mutation", LOCAL)) else base_url,
                environment=environment,
                settings=settings,
                waiting=waiting,
            )
            for one in names
        ]
        weights = [part.weight for part in parse_mix(name)]
        if not weights:
            return BanditModel(name, models)
        return MixedModel(name, list(zip(models, weights, strict=True)))
    if name in ("mutation", "mutation-first-order") or name.startswith(LOCAL):
        if base_url is not None:
            raise UsageError(
                f"A base URL has no meaning for {name!r}, which asks no server. "
                "Leave it out, or name a model of the server as openai/NAME."
            )
        if name.startswith(LOCAL):
            return LocalModel(name, settings or ModelSettings(), waiting=waiting)
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
    return provider.model(
        model,
        base_url=base_url,
        environment=environment,
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
        ModelForm(
            form=f"{LOCAL}PATH.gguf",
            meaning="the model in a file, computed on this machine",
            usable=is_installed(),
            remark="no key and no server needed"
            if is_installed()
            else f"needs pip install '{EXTRA}'",
        ),
        ModelForm(
            form="NAME:0.7,OTHER:0.3",
            meaning="several models by weight, drawn for each call",
            usable=True,
            remark="usable where each of them is",
        ),
        ModelForm(
            form="bandit(NAME,OTHER)",
            meaning="several models, drawn by what their programs score for the money",
            usable=True,
            remark="usable where each of them is",
        ),
    ]
