"""What a run would take, on the screen, before it is started."""

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar

import msgspec

from selftaught.cli import money, screen
from selftaught.errors import SelftaughtError, StoreError
from selftaught.models.tariff import tariff_of
from selftaught.runs.config import RunConfig, check_config, is_mutation
from selftaught.runs.estimate import Amount, Estimate, estimate
from selftaught.store.event_store import Store
from selftaught.store.opening import open_store

# When a run is under way, so that its start does not wait for the table of prices.
_WARN_AFTER_S = 1.0

_wanted: ContextVar[bool] = ContextVar("_wanted", default=False)


@contextmanager
def instead_of_runs() -> Iterator[None]:
    """Within this, commands that start runs estimate them."""
    token = _wanted.set(True)
    try:
        yield
    finally:
        _wanted.reset(token)


def are_wanted() -> bool:
    """Whether a run is to be estimated and not started."""
    return _wanted.get()


def print_estimate(config: RunConfig, store: str, json: bool) -> None:
    """Print what a run of a configuration would take."""
    check_config(config)
    found = _estimate(config, store)
    if json:
        screen.print_json(msgspec.to_builtins(found))
        return
    table = screen.titled_table(f"What {config.command} may take, with {config.model}")
    table.add_column("")
    for header in ("low", "expected", "high"):
        table.add_column(header, justify="right")
    amounts = (found.low, found.expected, found.high)
    for name in ("calls", "responses", "prompt_tokens", "completion_tokens"):
        table.add_row(name.replace("_", " "), *(f"{getattr(one, name):,}" for one in amounts))
    table.add_row("money", *map(_money, amounts))
    screen.out.print(table)
    for line in found.basis:
        screen.out.print(line, markup=False)
    if found.unpriced:
        screen.out.print(
            f"The price of {', '.join(found.unpriced)} is not known; --price IN,OUT sets it.",
            markup=False,
        )


@contextmanager
def warning(config: RunConfig, store: str, warn_above: float) -> Iterator[None]:
    """Say on stderr where a run is expected to cost more than a threshold in dollars.

    The run goes on within this. Where prices are to be looked up, it is said when it has begun.
    """
    if is_mutation(config):
        yield
        return
    tariff = tariff_of(
        config.model,
        base_url=config.base_url,
        environment=os.environ,
        settings=config.model_settings,
    )
    if not tariff.waits_for_table:
        _warn(config, store, warn_above)
        yield
        return
    later = threading.Timer(_WARN_AFTER_S, _warn_late, (config, store, warn_above))
    later.daemon = True
    later.start()
    try:
        yield
    finally:
        # One that is about to speak is let finish; a run that is over needs no warning.
        later.cancel()
        later.join()


def _warn_late(config: RunConfig, store: str, warn_above: float) -> None:
    # What is wrong with a configuration ends its run, which says so.
    with suppress(SelftaughtError):
        _warn(config, store, warn_above)


def _warn(config: RunConfig, store: str, warn_above: float) -> None:
    found = _estimate(config, store)
    expected, high = found.expected.dollars, found.high.dollars
    if expected is not None and high is not None and expected > warn_above:
        screen.err.print(
            f"[yellow]This run is expected to cost about {money.dollars(expected)}, and "
            f"{money.dollars(high)} at most.[/yellow] --dollars limits it, "
            "`selftaught estimate` says more.",
        )


def _money(amount: Amount) -> str:
    return "not known" if amount.dollars is None else money.dollars(amount.dollars)


def _estimate(config: RunConfig, store: str) -> Estimate:
    with ExitStack() as stack:
        opened: Store | None = None
        # What is wrong with a store, or that there is none, is said where the run is started.
        with suppress(StoreError):
            opened = stack.enter_context(open_store(store, writable=False, must_exist=True))
        return estimate(config, opened, os.environ)
