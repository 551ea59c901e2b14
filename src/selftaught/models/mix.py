"""Several models as one: each call goes to one of them, drawn by weight.

The draw is a function of the seed, the content and the occurrence of a request. So improvers that
are compared meet the same model at the same place, and a resumed run goes on with the same ones.
"""

import hashlib
import math
from collections.abc import Sequence
from itertools import accumulate

import msgspec

from selftaught.errors import UsageError
from selftaught.language_model import Answer, LanguageModel, Request
from selftaught.models.lost import announces_requests

_BANDIT = "bandit("


class Part(msgspec.Struct, frozen=True):
    """One model of a mix: its name, as after `--model`, and its weight above 0."""

    name: str
    weight: float


def parse_mix(name: str) -> tuple[Part, ...]:
    """Read `openai/a:0.7,openai/b:0.3`; a name without a comma is no mix and has no parts.

    Raises:
        UsageError: it has a comma and is no mix either.
    """
    if "," not in name or name.startswith(_BANDIT):
        return ()
    parts = []
    for text in name.split(","):
        model, colon, weight = text.strip().rpartition(":")
        try:
            value = float(weight)
        except ValueError:
            value = math.nan
        if not colon or not model or not 0 < value < math.inf:
            raise UsageError(
                f"{text.strip()!r} is no part of a mix of models: each needs a name and a weight "
                "above 0, as in openai/NAME:0.7,openai/OTHER:0.3."
            )
        parts.append(Part(model, value))
    names = [part.name for part in parts]
    if len(set(names)) < len(names):
        raise UsageError(f"A mix names each model once, not: {', '.join(names)}.")
    return tuple(parts)


def parse_bandit(name: str) -> tuple[str, ...]:
    """Read `bandit(openai/a,openai/b)`; another name has no parts.

    Raises:
        UsageError: it begins so and is no bandit.
    """
    if not name.startswith(_BANDIT):
        return ()
    names = tuple(part.strip() for part in name.removeprefix(_BANDIT).removesuffix(")").split(","))
    if not name.endswith(")") or len(set(names)) < max(2, len(names)) or not all(names):
        raise UsageError(
            f"{name!r} is no bandit over models: it names each of two or more once, as in "
            "'bandit(openai/NAME,openai/OTHER)'."
        )
    return names


def members(name: str) -> tuple[str, ...]:
    """The models behind a name: the parts of a mix or a bandit, else the name itself."""
    return parse_bandit(name) or tuple(part.name for part in parse_mix(name)) or (name,)


class MixedModel:
    """Implements `selftaught.language_model.LanguageModel` over others, which it closes.

    Thread safety: as that of its parts.
    Determinism: which part answers follows from the arguments alone; the rest is the parts'.

    Args:
        name: as after `--model`.
        parts: models and their weights, at least one.
    """

    def __init__(self, name: str, parts: Sequence[tuple[LanguageModel, float]]) -> None:
        self.name = name
        self.is_language_model = any(model.is_language_model for model, _ in parts)
        self._models = [model for model, _ in parts]
        self.announces_requests = all(map(announces_requests, self._models))
        self._shares = list(accumulate(weight for _, weight in parts))

    def respond(self, request: Request, *, seed: int, occurrence: int, key: str) -> Answer:
        """Hand the request to the model that is drawn for it; the answer says which.

        Raises:
            ModelError: as that model does.
        """
        model = self._drawn(request, seed, occurrence)
        answer = model.respond(request, seed=seed, occurrence=occurrence, key=key)
        return msgspec.structs.replace(answer, model=model.name)

    def close(self) -> None:
        """Close the models that can be closed."""
        for model in self._models:
            close = getattr(model, "close", None)
            if close is not None:
                close()

    def _drawn(self, request: Request, seed: int, occurrence: int) -> LanguageModel:
        text = f"mix|{seed}|{request.content_hash}|{occurrence}"
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7]) / 2**56
        point = number * self._shares[-1]
        for model, share in zip(self._models, self._shares, strict=True):
            if point < share:
                return model
        return self._models[-1]
