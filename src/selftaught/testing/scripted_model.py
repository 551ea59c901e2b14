"""A language model that says what it was told to."""

import threading
from collections.abc import Callable, Sequence

import msgspec

from selftaught.errors import ModelRefused, ModelUnreachable
from selftaught.language_model import Answer, Request

Script = Callable[[Request, int, int], list[str]]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One exchange that a ScriptedModel had: what it was asked and what it said."""

    request: Request
    seed: int
    occurrence: int
    key: str
    texts: tuple[str, ...]


class ScriptedModel:
    """Answers from a list, or by a function; implements `selftaught.language_model.LanguageModel`.

    Thread safety: `respond` may be called from many threads; a list is then dealt out in the
    order of their arrival, and a function is called by one thread at a time.
    Determinism: as the function's; with a list, by the order of the calls.

    Args:
        script: the responses, one after another, or a function of the request, the seed and the
            occurrence that returns as many responses as the request asks for.
        name: what the model is called.
    """

    is_language_model = True

    def __init__(self, script: Sequence[str] | Script, *, name: str = "scripted") -> None:
        self.name = name
        self._script = script if callable(script) else tuple(script)
        self._dealt = 0
        self._history: list[Asked] = []
        self._lock = threading.Lock()

    @property
    def history(self) -> tuple[Asked, ...]:
        """The exchanges so far, in order; those that failed are not among them."""
        with self._lock:
            return tuple(self._history)

    def respond(self, request: Request, *, seed: int, occurrence: int, key: str) -> Answer:
        """Return the next responses.

        Raises:
            ModelUnreachable: the list has fewer responses left than are asked for.
            ModelRefused: the function returned another number of responses than asked for.
        """
        with self._lock:
            texts = self._next(request, seed, occurrence)
            self._history.append(
                Asked(request=request, seed=seed, occurrence=occurrence, key=key, texts=texts)
            )
        return Answer(texts=texts)

    def _next(self, request: Request, seed: int, occurrence: int) -> tuple[str, ...]:
        wanted = request.n_responses
        if callable(self._script):
            texts = tuple(self._script(request, seed, occurrence))
            if len(texts) != wanted:
                raise ModelRefused(
                    f"The script of {self.name!r} returned {len(texts)} responses where {wanted} "
                    "were asked for."
                )
            return texts
        left = len(self._script) - self._dealt
        if wanted > left:
            raise ModelUnreachable(
                f"The script of {self.name!r} has {left} of its {len(self._script)} responses "
                f"left and is asked for {wanted}."
            )
        texts = self._script[self._dealt : self._dealt + wanted]
        self._dealt += wanted
        return texts
