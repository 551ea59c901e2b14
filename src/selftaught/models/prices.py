"""What models cost: the price table `genai-prices`, or what the user sets; never a guess.

The table comes with its package and is read offline. It takes longer to load than all else that
a run needs before its first request. So it is loaded where a price is wanted, and not before.
"""

import ipaddress
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from selftaught.errors import UsageError
from selftaught.language_model import ModelSettings, Usage

if TYPE_CHECKING:
    from decimal import Decimal

    from genai_prices.types import ModelPrice, TieredPrices

MILLION = 1_000_000
# Where a provider's models may be asked at another address, which has prices of its own.
_URL_VARIABLES = {
    "openai": "OPENAI_BASE_URL",
    "anthropic": "ANTHROPIC_BASE_URL",
    "google": "GOOGLE_GEMINI_BASE_URL",
}
_FREE = ("mutation", "mutation-first-order")
_FREE_PREFIXES = ("local/",)
# How the price table calls a provider, where the name before the slash is another one.
_PROVIDERS = {"bedrock": "aws", "vertex": "google", "xai": "x-ai"}
# A price with one of these depends on more than the tokens that an endpoint reports.
_BEYOND_TOKENS = frozenset(
    {"requests_kcount", "input_mchars", "output_reasoning_mtok", "output_citation_mtok"}
)


class Rate(msgspec.Struct, frozen=True):
    """Dollars for a million tokens, which may depend on how long the prompt is.

    Attributes:
        base: for short prompts, and all of them where there are no tiers.
        tiers: tokens of the prompt from which on all tokens cost something else, ascending, and
            what they cost then.
    """

    base: float
    tiers: tuple[tuple[int, float], ...] = ()

    def at(self, prompt_tokens: float) -> float:
        """The rate for a prompt of so many tokens."""
        found = self.base
        for start, rate in self.tiers:
            if prompt_tokens > start:
                found = rate
        return found

    @property
    def highest(self) -> float:
        """The rate at its dearest."""
        return max(self.base, *(rate for _, rate in self.tiers), 0.0)


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What a model costs.

    Attributes:
        input: of prompt tokens.
        cached_input: of prompt tokens that the provider read from its cache.
        output: of completion tokens, reasoning included.
        written_input: of prompt tokens that the provider writes to its cache; used in bounds.
    """

    input: Rate
    cached_input: Rate
    output: Rate
    written_input: Rate

    def dollars(self, usage: Usage, requests: int = 1) -> float:
        """What an answer cost that took so many requests, whose prompts were equally long."""
        prompt_tokens = usage.prompt_tokens / max(1, requests)
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        return (
            (usage.prompt_tokens - cached) * self.input.at(prompt_tokens)
            + cached * self.cached_input.at(prompt_tokens)
            + usage.completion_tokens * self.output.at(prompt_tokens)
        ) / MILLION

    def at_most(self, prompt_tokens: int, completion_tokens: int) -> float:
        """The most that so many tokens can cost, cache and tiers whatever they are."""
        dearest = max(self.input.highest, self.cached_input.highest, self.written_input.highest)
        return (prompt_tokens * dearest + completion_tokens * self.output.highest) / MILLION


def flat(input_price: float, output_price: float) -> Price:
    """A price without tiers, at which cached input costs as much as any."""
    rate = Rate(input_price)
    return Price(input=rate, cached_input=rate, output=Rate(output_price), written_input=rate)


FREE = flat(0.0, 0.0)


def price_of(
    name: str,
    *,
    base_url: str | None,
    environment: Mapping[str, str],
    settings: ModelSettings,
) -> Price | None:
    """Return the price of one model, None where it is not known.

    Args:
        name: as after `--model`; of a mix one of its parts.
        base_url: of the endpoint. The same model may cost something else at another one, so the
            table is asked for this address.
        environment: may name another endpoint instead, as in OPENAI_BASE_URL.
        settings: `input_price` and `output_price` count before the table.

    Raises:
        UsageError: the prices set are none.
    """
    if name in _FREE or name.startswith(_FREE_PREFIXES):
        return FREE
    set_by_user = price_set(settings)
    if set_by_user is not None:
        return set_by_user
    provider, slash, model = name.partition("/")
    if not slash or not model:
        return None
    url = _url_of(provider, base_url, environment)
    if url is not None:
        return None if _is_ones_own(url) else _from_table(model, url=url)
    return _from_table(model, provider=_PROVIDERS.get(provider, provider))


class Prices(Mapping[str, Price | None]):
    """Prices of models by name; None where one is not known. Thread-safe.

    What the user set and what is free is known at once. The rest is looked up when it is wanted.

    Args:
        names: of the models.
        base_url, environment, settings: as for `price_of`.

    Raises:
        UsageError: the prices set are none.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        base_url: str | None,
        environment: Mapping[str, str],
        settings: ModelSettings,
    ) -> None:
        price_set(settings)
        self._names = tuple(names)
        self._look_up = partial(
            price_of, base_url=base_url, environment=environment, settings=settings
        )
        self._needs_table = {
            name: needs_table(name, base_url=base_url, environment=environment, settings=settings)
            for name in names
        }
        self._found: dict[str, Price | None] = {}
        self._lock = threading.Lock()

    @property
    def wait_for_table(self) -> bool:
        """Whether one of them is yet to be looked up in the table, which is to be loaded first."""
        return any(needs and name not in self._found for name, needs in self._needs_table.items())

    def __getitem__(self, name: str) -> Price | None:
        if name not in self._needs_table:
            raise KeyError(name)
        with self._lock:
            if name not in self._found:
                self._found[name] = self._look_up(name)
            return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def needs_table(
    name: str,
    *,
    base_url: str | None,
    environment: Mapping[str, str],
    settings: ModelSettings,
) -> bool:
    """Whether `price_of` with the same arguments looks into the price table."""
    if name in _FREE or name.startswith(_FREE_PREFIXES) or settings.input_price is not None:
        return False
    provider, _, model = name.partition("/")
    url = _url_of(provider, base_url, environment)
    return bool(model) and (url is None or not _is_ones_own(url))


def price_set(settings: ModelSettings) -> Price | None:
    """Return the price that the user sets, None where none is.

    Raises:
        UsageError: it is half a price, or a number is out of range.
    """
    prices = (settings.input_price, settings.output_price)
    if prices == (None, None):
        return None
    input_price, output_price = prices
    if input_price is None or output_price is None:
        raise UsageError("A price needs both, for input and for output: --price IN,OUT.")
    for value in (input_price, output_price):
        if not 0 <= value < float("inf"):
            raise UsageError(f"A price must be 0 or more dollars, not {value!r}.")
    return flat(input_price, output_price)


def _url_of(provider: str, base_url: str | None, environment: Mapping[str, str]) -> str | None:
    return base_url or environment.get(_URL_VARIABLES.get(provider, "")) or None


def _is_ones_own(url: str) -> bool:
    """Whether an address is a number or this machine: a server that no table of prices lists."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def _from_table(model: str, *, provider: str | None = None, url: str | None = None) -> Price | None:
    from genai_prices.data_snapshot import get_snapshot

    try:
        _, found = get_snapshot().find_provider_model(model, None, provider, url)
    except LookupError:
        return None
    return _read(found.get_prices(datetime.now(UTC)))


def _read(listed: "ModelPrice") -> Price | None:
    fields = {name: value for name, value in vars(listed).items() if value is not None}
    if "input_mtok" not in fields or "output_mtok" not in fields or _BEYOND_TOKENS & set(fields):
        return None
    rate = _rate(fields["input_mtok"])
    cached = fields.get("cache_read_mtok")
    written = fields.get("cache_write_1h_mtok", fields.get("cache_write_mtok"))
    return Price(
        input=rate,
        cached_input=rate if cached is None else _rate(cached),
        output=_rate(fields["output_mtok"]),
        written_input=rate if written is None else _rate(written),
    )


def _rate(listed: "Decimal | TieredPrices") -> Rate:
    from genai_prices.types import TieredPrices

    if isinstance(listed, TieredPrices):
        tiers = tuple((tier.start, float(tier.price)) for tier in listed.tiers)
        return Rate(float(listed.base), tiers)
    return Rate(float(listed))
