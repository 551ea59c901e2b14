"""From the name that a user writes after `--model` to something that answers."""

from collections.abc import Mapping

import msgspec

from selftaught.errors import UsageError
from selftaught.language_model import LanguageModel, ModelSettings
from selftaught.models.bandit import BanditModel
from selftaught.models.failures import KEY_VARIABLE, shown_url
from selftaught.models.local import EXTRA, LocalModel, is_installed
from selftaught.models.local import PREFIX as LOCAL
from selftaught.models.mix import MixedModel, members, parse_mix
from selftaught.models.openai_compatible import (
    OPENAI_URL,
    OnWait,
    OpenAICompatibleModel,
    say_nothing,
)

URL_VARIABLE = "OPENAI_BASE_URL"
_OPENAI = "openai/"


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
    on_wait: OnWait = say_nothing,
) -> LanguageModel:
    """Return what answers under a name.

    Args:
        name: `mutation`, `mutation-first-order`, `openai/NAME`, `local/PATH.gguf`, or several of
            these as a mix, as in `openai/NAME:0.7,openai/OTHER:0.3`, or as a bandit, as in
            `bandit(openai/NAME,openai/OTHER)`.
        base_url: the address of an OpenAI-compatible endpoint; None takes OPENAI_BASE_URL from
            the environment, else OpenAI's own.
        environment: where keys are looked up, usually `os.environ`.
        settings: how the model is asked.
        on_wait: see `OpenAICompatibleModel`.

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
                on_wait=on_wait,
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
                f"Leave it out, or name a model of the server as {_OPENAI}NAME."
            )
        if name.startswith(LOCAL):
            return LocalModel(name, settings or ModelSettings(), on_wait=on_wait)
        # Imported late: whoever asks an endpoint does not wait for the edit operators.
        from selftaught.mutation.proposer import MutationProposer

        return MutationProposer(templates=name == "mutation")
    model = name.removeprefix(_OPENAI)
    if model == name or not model.strip():
        forms = "; ".join(
            f"{form.form} ({form.meaning})" for form in model_names(environment=environment)
        )
        raise UsageError(f"There is no model {name!r}. There are: {forms}.")
    settings = settings or ModelSettings()
    return OpenAICompatibleModel(
        model,
        timeout_s=settings.timeout_s,
        max_concurrency=settings.concurrency,
        max_output_tokens=settings.max_output_tokens,
        base_url=base_url or environment.get(URL_VARIABLE) or None,
        api_key=environment.get(KEY_VARIABLE),
        on_wait=on_wait,
    )


def model_names(*, base_url: str | None = None, environment: Mapping[str, str]) -> list[ModelForm]:
    """Return the forms of name that `resolve_model` takes, and whether each is usable now."""
    url = base_url or environment.get(URL_VARIABLE) or None
    has_key = bool(environment.get(KEY_VARIABLE, "").strip())
    if url is not None:
        remark = f"asks {shown_url(url)}, {'with' if has_key else 'without'} a key"
    elif has_key:
        remark = f"asks {OPENAI_URL} with the key in {KEY_VARIABLE}"
    else:
        remark = f"set {KEY_VARIABLE}, or give the base URL of a server that needs no key"
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
        ModelForm(
            form=f"{_OPENAI}NAME",
            meaning="the model NAME of OpenAI or of any OpenAI-compatible server",
            usable=has_key or url is not None,
            remark=remark,
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
