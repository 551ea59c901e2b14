"""What a provider is to the rest: something that makes one HTTP exchange of one question.

An endpoint neither waits nor repeats. It raises `PassingTrouble` where asking again may help and
`Refusal` where it does not; all else is done once for all providers, in `HostedModel`.
"""

from typing import Any, Protocol

import msgspec

from selftaught.language_model import Usage


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What one HTTP request asks.

    Attributes:
        n: responses wanted from it, at least 1.
        seed: to be sent along; None for none.
        max_output_tokens, reasoning_effort: as in `ModelSettings`.
    """

    expertise: str
    message: str
    n: int
    temperature: float
    seed: int | None
    max_output_tokens: int | None
    reasoning_effort: str | None


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """What one HTTP request brought: at least one text.

    Attributes:
        texts: the responses in order; surplus ones may be among them.
        cut: for each text whether the endpoint stopped it at an output limit.
        usage: as the endpoint counted it, in the meaning of `Usage`; 0 where it does not count.
    """

    texts: tuple[str, ...]
    cut: tuple[bool, ...]
    usage: Usage = Usage()


class Form(msgspec.Struct, frozen=True):
    """One way to send a parameter.

    Attributes:
        fields: what is added to the request.
        refused: what is said where an endpoint turns out not to take it.
    """

    fields: dict[str, Any]
    refused: str = ""


class Parameter(msgspec.Struct, frozen=True):
    """Something that an endpoint may refuse.

    Attributes:
        name: what is learned about it is kept under this.
        words: by which endpoints name it in a refusal.
        forms: tried in this order; a refusal of the last one is an error.
    """

    name: str
    words: tuple[str, ...]
    forms: tuple[Form, ...]


class Endpoint(Protocol):
    """Makes one exchange at a time per thread. Thread-safe.

    Attributes:
        model: the model's name as the endpoint knows it.
        url: the address without credentials, for messages.
        has_key, key_variable: whether a key is sent, and where users set it.
        takes_n: whether its protocol can ask for several responses in one request.
    """

    model: str
    url: str
    has_key: bool
    key_variable: str
    takes_n: bool

    def parameters(self, question: Question) -> list[Parameter]:
        """Return what may be refused of a request, in the order in which to suspect it."""
        ...

    def send(self, question: Question, fields: dict[str, Any], key: str) -> Completion:
        """Make one exchange.

        Args:
            question: what is asked.
            fields: the chosen forms of the parameters, merged.
            key: equal for repetitions of the same request; any text.

        Raises:
            PassingTrouble: network, timeout, rate limit, server fault, or an unusable body.
            Refusal: any other answer that is none.
            ModelUnreachable: the endpoint was closed.
        """
        ...

    def model_names(self) -> list[str] | None:
        """Return the names of the models that the endpoint lists, None where it lists none."""
        ...

    def prepare(self) -> None:
        """Load what the first request would wait for; called from any thread."""
        ...

    def close(self) -> None:
        """Close the connections; requests under way fail. Safe to call twice."""
        ...


def temperature_parameter(temperature: float) -> Parameter:
    """The temperature, left out by value: many endpoints take some temperatures only."""
    return Parameter(
        f"temperature {temperature:g}",
        ("temperature",),
        (
            Form(
                {"temperature": temperature},
                f"temperature {temperature:g} is not accepted and left out: "
                "the endpoint samples at its own",
            ),
            Form({}),
        ),
    )


def seed_parameter(seed: int) -> Parameter:
    """A seed, left out for good where it is refused."""
    refused = "a seed is not accepted and left out"
    return Parameter("seed", ("seed",), (Form({"seed": seed}, refused), Form({})))
