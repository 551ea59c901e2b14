"""The improver API, version 1, as an improver sees it: `utility`, `language_model`, `helpers`.

Everything here is a front: the host keeps the counts, charges before it serves, and does not look
at what a program writes on these objects. Writing is reported, and then ignored.
"""

import errno
import threading
import types


class BudgetSpent(RuntimeError):
    """A language model call was refused: the budget does not cover it."""


class Channel:
    """Requests to the host from any number of threads, over one pipe."""

    def __init__(self, pipe):
        self._pipe = pipe
        self._ready = threading.Condition()
        self._answers = {}
        self._next = 0
        self._reading = False
        self._notes_left = 50

    def request(self, method, **params):
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
        return answer["value"]

    def note(self, what, detail):
        """Tell the host of something that the program tried."""
        with self._ready:
            if self._notes_left > 0:
                self._notes_left -= 1
                self._pipe.send({"note": what, "detail": detail[:200]})


class _Front:
    """Reports writes to its attributes and ignores them."""

    def __init__(self, channel):
        self.__dict__["_channel"] = channel

    def __setattr__(self, name, value):
        self._channel.note("budget", f"{type(self).__name__.lower()}.{name} = {value!r:.80}")

    def __delattr__(self, name):
        self._channel.note("budget", f"del {type(self).__name__.lower()}.{name}")


class Utility(_Front):
    """Scores candidates: `utility(text)` returns a number, higher is better."""

    def __init__(self, channel, text, budget):
        super().__init__(channel)
        self.__dict__.update(str=text, budget=budget, _uses=0)

    def __call__(self, solution=None, *args, **kwargs):
        """Return the score of a program text; 0 once the budget is spent."""
        if args or kwargs:
            given = ", ".join([*map(repr, args), *(f"{k}={v!r}" for k, v in kwargs.items())])
            self._channel.note("utility_argument", given)
        return self._take(self._channel.request("score", solutions=[_text(solution)]))[0]["value"]

    def map(self, solutions):
        """Return the scores of several program texts, computed at once."""
        texts = [_text(solution) for solution in solutions]
        if not texts:
            return []
        return [one["value"] for one in self._take(self._channel.request("score", solutions=texts))]

    def evaluate(self, solution):
        """Return value, standard_error, feedback and outcome of a program text."""
        one = self._take(self._channel.request("score", solutions=[_text(solution)]))[0]
        return types.SimpleNamespace(**one)

    @property
    def uses(self):
        """Scores used so far, as the host counts them."""
        return self._uses

    @property
    def remaining(self):
        """Scores left."""
        return self.budget - self._uses

    @property
    def initial(self):
        """The initial solution's score; costs nothing."""
        return self._channel.request("initial")

    def _take(self, reply):
        self.__dict__["_uses"] = reply["uses"]
        return reply["scores"]


class LanguageModel(_Front):
    """Answers prompts; one call answers up to `max_responses_per_call` of them."""

    def __init__(self, channel, budget, max_responses_per_call):
        super().__init__(channel)
        self.__dict__.update(
            budget=budget, max_responses_per_call=max_responses_per_call, _times_used=0
        )

    def prompt(self, expertise, message, n_responses=1, temperature=0.7):
        """Return n responses to one message."""
        return self._ask(expertise, [message] * int(n_responses), temperature)

    def batch_prompt(self, expertise, message_batch, temperature=0.7):
        """Return one response to each message; one call against the budget."""
        if isinstance(message_batch, str):
            message_batch = [message_batch]
        return self._ask(expertise, list(message_batch), temperature)

    @property
    def times_used(self):
        """Calls used so far, as the host counts them."""
        return self._times_used

    @property
    def remaining(self):
        """Calls left."""
        return self.budget - self._times_used

    def _ask(self, expertise, messages, temperature):
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


def _text(solution):
    return solution if isinstance(solution, str) else None


def refusing_module(channel):
    """A module `language_model` whose LanguageModel cannot be built, and says so."""
    module = types.ModuleType("language_model")

    def build(*args, **kwargs):
        channel.note("language_model", "a language model was built")
        raise PermissionError(errno.EPERM, "an improver uses the language model it is given")

    module.LanguageModel = build
    return module
