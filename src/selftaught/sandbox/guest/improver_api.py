"""The improver API, version 1, as an improver sees it: `utility`, `language_model`, `helpers`.

Everything here is a front: the host keeps the counts, charges before it serves, and does not look
at what a program writes on these objects. Writing is reported, and then ignored.
"""

import errno
import threading
import types
import typing
from typing import Any, NoReturn


class BudgetSpent(RuntimeError):
    """A language model call was refused: the budget does not cover it."""


class RequestRejected(RuntimeError):
    """The language model did not take this prompt: too long, say."""


class Channel:
    """Requests to the host from any number of threads, over one pipe."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self._ready = threading.Condition()
        self._answers: dict[int, dict[str, Any]] = {}
        self._next = 0
        self._reading = False
        self._notes_left = 50

    def request(self, method: str, **params: Any) -> Any:
        """Ask the host and wait for its answer."""
        with self._ready:
            self._next += 1
            number = self._next
            self._pipe.send({"ask": number, "method": method, "params": params})
            while number not in self._answers:
                if self._reading:
                    self._ready.wait()
                    continue
                # One waiting thread reads for all of them.
                self._reading = True
                self._ready.release()
                try:
                    answer = self._pipe.receive()
                finally:
                    self._ready.acquire()
                    self._reading = False
                self._answers[answer["ask"]] = answer
                self._ready.notify_all()
            answer = self._answers.pop(number)
        if "refused" in answer:
            raise BudgetSpent(answer["refused"])
        if "rejected" in answer:
            raise RequestRejected(answer["rejected"])
        return answer["value"]

    def note(self, what: str, detail: str) -> None:
        """Tell the host of something that the program tried."""
        with self._ready:
            if self._notes_left > 0:
                self._notes_left -= 1
                self._pipe.send({"note": what, "detail": detail[:200]})


class _Front:
    """Reports writes to its attributes and ignores them."""

    _channel: Channel

    def __init__(self, channel: Channel) -> None:
        self.__dict__["_channel"] = channel

    def __repr__(self) -> str:
        # Without an address: a program that prints it must print the same on every run.
        return f"<{type(self).__name__}>"

    def __setattr__(self, name: str, value: Any) -> None:
        self._channel.note("budget", f"{type(self).__name__.lower()}.{name} = {value!r:.80}")

    def __delattr__(self, name: str) -> None:
        self._channel.note("budget", f"del {type(self).__name__.lower()}.{name}")


class Utility(_Front):
    """Scores candidates: `utility(text)` returns a number, higher is better."""

    budget: int
    _uses: int

    def __init__(self, channel: Channel, text: str, budget: int) -> None:
        super().__init__(channel)
        self.__dict__.update(str=text, budget=budget, _uses=0)

    def __call__(self, solution: Any = None, *args: Any, **kwargs: Any) -> float:
        """Return the score of a program text; the task's worst once the budget is spent."""
        if args or kwargs:
            given = ", ".join([*map(repr, args), *(f"{k}={v!r}" for k, v in kwargs.items())])
            self._channel.note("utility_argument", given)
        reply = self._channel.request("score", solutions=[_text(solution)])
        value: float = self._take(reply)[0]["value"]
        return value

    def map(self, solutions: typing.Iterable[Any]) -> list[float]:
        """Return the scores of several program texts, computed at once."""
        texts = [_text(solution) for solution in solutions]
        if not texts:
            return []
        return [one["value"] for one in self._take(self._channel.request("score", solutions=texts))]

    def evaluate(self, solution: Any) -> types.SimpleNamespace:
        """Return value, standard_error, feedback and outcome of a program text."""
        one = self._take(self._channel.request("score", solutions=[_text(solution)]))[0]
        return types.SimpleNamespace(**one)

    @property
    def uses(self) -> int:
        """Scores used so far, as the host counts them."""
        return self._uses

    @property
    def remaining(self) -> int:
        """Scores left."""
        return self.budget - self._uses

    @property
    def initial(self) -> float:
        """The initial solution's score; costs nothing."""
        value: float = self._channel.request("initial")
        return value

    def _take(self, reply: dict[str, Any]) -> list[dict[str, Any]]:
        self.__dict__["_uses"] = reply["uses"]
        scores: list[dict[str, Any]] = reply["scores"]
        return scores


class LanguageModel(_Front):
    """Answers prompts; one call answers up to `max_responses_per_call` of them."""

    budget: int
    max_responses_per_call: int
    _times_used: int

    def __init__(self, channel: Channel, budget: int, max_responses_per_call: int) -> None:
        super().__init__(channel)
        self.__dict__.update(
            budget=budget, max_responses_per_call=max_responses_per_call, _times_used=0
        )

    def prompt(
        self, expertise: str, message: str, n_responses: int = 1, temperature: float = 0.7
    ) -> list[str]:
        """Return n responses to one message."""
        return self._ask(expertise, [message] * int(n_responses), temperature)

    def batch_prompt(
        self, expertise: str, message_batch: typing.Iterable[str], temperature: float = 0.7
    ) -> list[str]:
        """Return one response to each message; one call against the budget."""
        if isinstance(message_batch, str):
            message_batch = [message_batch]
        return self._ask(expertise, list(message_batch), temperature)

    @property
    def times_used(self) -> int:
        """Calls used so far, as the host counts them."""
        return self._times_used

    @property
    def remaining(self) -> int:
        """Calls left."""
        return self.budget - self._times_used

    def _ask(self, expertise: str, messages: list[str], temperature: float) -> list[str]:
        if not messages:
            return []
        reply = self._channel.request(
            "ask",
            expertise=str(expertise),
            messages=[str(message) for message in messages],
            temperature=float(temperature),
        )
        self.__dict__["_times_used"] = reply["uses"]
        return list(reply["texts"])


def _text(solution: Any) -> str | None:
    return solution if isinstance(solution, str) else None


def refusing_module(channel: Channel) -> types.ModuleType:
    """A module `language_model` whose LanguageModel cannot be built, and says so."""
    module = types.ModuleType("language_model")

    def build(*args: Any, **kwargs: Any) -> NoReturn:
        channel.note("language_model", "a language model was built")
        raise PermissionError(errno.EPERM, "an improver uses the language model it is given")

    module.__dict__["LanguageModel"] = build
    return module
