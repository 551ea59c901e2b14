"""What an endpoint has turned out not to take, learned from its refusals and kept."""

import re
import threading
from collections.abc import Sequence
from typing import Any

import msgspec

from selftaught.models.endpoint import Parameter
from selftaught.models.failures import Refusal

_REJECTED = frozenset({400, 422})
BLOCKED = "blocked"


class Chosen(msgspec.Struct, frozen=True):
    """The forms in which parameters are sent: the place of each by its name, and all merged."""

    places: dict[str, int]
    fields: dict[str, Any]


class EndpointLimits:
    """Remembers for one endpoint which forms of parameters it refused. Thread-safe.

    Args:
        one_at_a_time: it gives one response per request, whatever is asked for.
    """

    def __init__(self, *, one_at_a_time: bool = False) -> None:
        self.one_at_a_time = one_at_a_time
        self._places: dict[str, int] = {}
        self._lock = threading.Lock()

    def note_one_at_a_time(self) -> bool:
        """Remember that `n` is of no use; return whether that is new."""
        with self._lock:
            was, self.one_at_a_time = self.one_at_a_time, True
            return not was

    def chosen(self, parameters: Sequence[Parameter]) -> Chosen:
        """Return the forms to send: of each parameter the first that was not refused."""
        fields: dict[str, Any] = {}
        with self._lock:
            places = {one.name: self._places.get(one.name, 0) for one in parameters}
        for one in parameters:
            fields |= one.forms[places[one.name]].fields
        return Chosen(places, fields)

    def learn(self, refusal: Refusal, parameters: Sequence[Parameter], sent: Chosen) -> str | None:
        """Take in a refusal; return what is done differently from now on.

        None means that nothing can be done; "" that another request has taught it meanwhile.
        Each refusal moves a parameter to its next form, so learning comes to an end.
        """
        if refusal.status not in _REJECTED:
            return None
        for one in parameters:
            place = sent.places[one.name]
            if place + 1 < len(one.forms) and blames(refusal, one.words):
                with self._lock:
                    if self._places.get(one.name, 0) > place:
                        return ""
                    self._places[one.name] = place + 1
                return one.forms[place].refused
        return None

    @staticmethod
    def may_be_about_n(refusal: Refusal, n: int, parameters: Sequence[Parameter]) -> bool:
        """Whether a refused request for several responses is worth asking for one by one.

        Servers word this too differently to be recognised ("best_of must be 1"), so every
        rejection of a request for several counts unless it names another parameter that can be
        left out.
        """
        if refusal.status not in _REJECTED or n == 1 or refusal.code == BLOCKED:
            return False
        if blames(refusal, ("n", "candidateCount", "candidate_count")):
            return True
        return not any(len(one.forms) > 1 and blames(refusal, one.words) for one in parameters)


def blames(refusal: Refusal, words: Sequence[str]) -> bool:
    """Whether a refusal is about a parameter: by its field, else by a word in its message."""
    if refusal.param is not None:
        return any(part in words for part in re.split(r"[.\[\]]", refusal.param))
    return any(re.search(rf"(?<!\w){word}(?!\w)", refusal.message, re.IGNORECASE) for word in words)
