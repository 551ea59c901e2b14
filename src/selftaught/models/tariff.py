"""What a run's model may cost before a call and did cost after it.

The bound of a call needs no tokenizer: a token of a tokenizer that works on bytes holds at least
one of them. What chat templates add around each message is covered by a fixed number of tokens.
"""

from collections.abc import Mapping

import msgspec

from selftaught.budget import RunLimits, Spending
from selftaught.errors import UsageError
from selftaught.language_model import Answer, LanguageModel, ModelSettings, Request
from selftaught.models.mix import members
from selftaught.models.prices import FREE, Price, Prices, price_set

# More than the templates of chat models add; some put a date or a line of their own first.
MESSAGE_OVERHEAD_TOKENS = 64
_MESSAGES = 2
_RECORDING = "replay/"
# Enough for a program with its explanation, and no common model refuses a limit so low.
DEFAULT_OUTPUT_TOKENS = 4096


class Tariff(msgspec.Struct, frozen=True, kw_only=True):
    """Prices of a run's model, and the output limit that it sends.

    Attributes:
        asked: the model's name.
        prices: of the model, or of each of a mix; None where one is not known.
        max_output_tokens: of one response; None where the endpoint decides.
        is_recording: what answers was paid for at another time.
    """

    asked: str
    prices: Mapping[str, Price | None]
    max_output_tokens: int | None = None
    is_recording: bool = False

    @property
    def unknown(self) -> list[str]:
        """The models whose price is not known."""
        return [name for name, price in self.prices.items() if price is None]

    @property
    def waits_for_table(self) -> bool:
        """Whether a price is yet to be looked up, which takes most of a second."""
        return isinstance(self.prices, Prices) and self.prices.wait_for_table

    def worst(self, request: Request, *, in_dollars: bool = True) -> Spending:
        """The most that a request can cost that is sent once.

        The prompt is counted for each response, since some endpoints give one at a time. Prices
        that are not known count as 0, and so does output without a limit.

        Args:
            request: what would be sent.
            in_dollars: whether money is counted; where it is not, no price is looked up.
        """
        if self.is_recording:
            return Spending()
        n = request.n_responses
        prompt_bytes = len(f"{request.expertise}{request.message}".encode(errors="replace"))
        prompt = n * (prompt_bytes + _MESSAGES * MESSAGE_OVERHEAD_TOKENS)
        output = n * (self.max_output_tokens or 0)
        prices = self.prices.values() if in_dollars else ()
        return Spending(
            tokens=prompt + output,
            dollars=max((price.at_most(prompt, output) for price in prices if price), default=0.0),
        )

    def at_most(self, tokens: int) -> float:
        """The most that so many tokens can cost in dollars, whatever kind they are."""
        if self.is_recording:
            return 0.0
        known = [price for price in self.prices.values() if price]
        return max((max(p.at_most(tokens, 0), p.at_most(0, tokens)) for p in known), default=0.0)

    def priced(self, answer: Answer) -> Answer:
        """The answer with what it cost, unless the model says so itself or nobody knows."""
        if answer.usage.dollars is not None:
            return answer
        price = self.prices.get(answer.model or self.asked, self.prices.get(self.asked))
        if price is None:
            return answer
        dollars = price.dollars(answer.usage, answer.attempts)
        usage = msgspec.structs.replace(answer.usage, dollars=dollars)
        return msgspec.structs.replace(answer, usage=usage)


FREE_OF_CHARGE = Tariff(asked="", prices={"": FREE})


def tariff_of(
    name: str,
    *,
    given: LanguageModel | None = None,
    base_url: str | None,
    environment: Mapping[str, str],
    settings: ModelSettings,
) -> Tariff:
    """Look up what a run's model costs.

    Args:
        name: as after `--model`.
        given: an object that answers in its place. It costs what `settings` says, and nothing
            where it is no language model.
        base_url, environment, settings: as for `price_of`.

    Raises:
        UsageError: the prices set are none.
    """
    is_recording = name.startswith(_RECORDING)
    asked = name
    prices: Mapping[str, Price | None]
    if given is not None:
        is_free = is_recording or not given.is_language_model
        asked, prices = given.name, {given.name: FREE if is_free else price_set(settings)}
    else:
        prices = Prices(
            members(name), base_url=base_url, environment=environment, settings=settings
        )
    return Tariff(
        asked=asked,
        prices=prices,
        max_output_tokens=settings.max_output_tokens,
        is_recording=is_recording,
    )


def limited(settings: ModelSettings, limits: RunLimits) -> ModelSettings:
    """The settings with a limit of output, without which a limit of spending bounds nothing."""
    needs_one = limits.tokens is not None or limits.dollars is not None
    if needs_one and settings.max_output_tokens is None:
        return msgspec.structs.replace(settings, max_output_tokens=DEFAULT_OUTPUT_TOKENS)
    return settings


def check_dollars(tariff: Tariff, limits: RunLimits) -> None:
    """Raise UsageError where money is limited and a price is not known."""
    if limits.dollars is not None and tariff.unknown:
        raise UsageError(
            f"--dollars cannot be kept: the price of {', '.join(tariff.unknown)} is not known. "
            "Set it in dollars for a million tokens with --price IN,OUT (0,0 for a server of "
            "your own), or limit --tokens."
        )
