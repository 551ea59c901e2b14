"""What an endpoint has turned out not to take, learned from its refusals and kept."""

import re
import threading
from typing import Any

from selftaught.models.failures import Refusal

_REJECTED = frozenset({400, 422})


class EndpointLimits:
    """Remembers for one endpoint which parameters it refused. Thread-safe.

    Attributes:
        one_at_a_time: it gives one response per request, whatever `n` asks for.
    """

    def __init__(self) -> None:
        self.one_at_a_time = False
        self._temperatures: set[float] = set()
        self._output_limit = "max_tokens"
        self._no_seed = False
        self._lock = threading.Lock()

    def note_one_at_a_time(self) -> bool:
        """Remember that `n` is of no use; return whether that is new."""
        with self._lock:
            was, self.one_at_a_time = self.one_at_a_time, True
            return not was

    def sampling(
        self, *, temperature: float, max_output_tokens: int | None, seed: int | None
    ) -> dict[str, Any]:
        """Return the parameters to send, less what was refused before."""
        with self._lock:
            wanted: dict[str, Any] = {}
            if temperature not in self._temperatures:
                wanted["temperature"] = temperature
            if max_output_tokens is not None:
                wanted[self._output_limit] = max_output_tokens
            if seed is not None and not self._no_seed:
                wanted["seed"] = seed
            return wanted

    def learn(self, refusal: Refusal, sent: dict[str, Any]) -> str | None:
        """Take in a refusal of a request; return what is done differently from now on.

        None means that nothing can be done. Otherwise the same request, built anew, differs from
        what was sent, so learning comes to an end.
        """
        if refusal.status not in _REJECTED:
            return None
        with self._lock:
            if "temperature" in sent and blames(refusal, "temperature"):
                # By value and not for good: many endpoints take some temperatures only.
                self._temperatures.add(sent["temperature"])
                return (
                    f"temperature {sent['temperature']:g} is not accepted and left out: "
                    "the endpoint samples at its own"
                )
            if "max_tokens" in sent and blames(refusal, "max_tokens"):
                self._output_limit = "max_completion_tokens"
                return "the output limit goes by the name of max_completion_tokens"
            if "seed" in sent and blames(refusal, "seed"):
                self._no_seed = True
                return "a seed is not accepted and left out"
            return None


def blames(refusal: Refusal, parameter: str) -> bool:
    """Whether a refusal is about a parameter: by its field, else by the word in its message."""
    if refusal.param is not None:
        return refusal.param == parameter
    return re.search(rf"(?<!\w){parameter}(?!\w)", refusal.message) is not None


def may_be_about_n(refusal: Refusal, sent: dict[str, Any]) -> bool:
    """Whether a refused request for several responses is worth asking for one by one.

    Servers word this too differently to be recognised ("best_of must be 1"), so every rejection
    of a request for several counts unless it names another parameter that can be left out.
    """
    if refusal.status not in _REJECTED or "n" not in sent:
        return False
    if blames(refusal, "n"):
        return True
    return not any(
        name in sent and blames(refusal, name) for name in ("temperature", "max_tokens", "seed")
    )
