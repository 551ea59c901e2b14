"""What a run would take, on the screen, before it is started."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar

import msgspec

from selftaught.cli import money, screen
from selftaught.errors import StoreError
from selftaught.runs.config import RunConfig, check_config, is_mutation
from selftaught.runs.estimate import Amount, Estimate, estimate
from selftaught.store.event_store import Store
from selftaught.store.opening import open_store

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
        screen.out.print(line)
    if found.unpriced:
        screen.out.print(
            f"The price of {', '.join(found.unpriced)} is not known; --price IN,OUT sets it."
        )


def warn(config: RunConfig, store: str, warn_above: float) -> None:
    """Say on stderr where a run is expected to cost more than a threshold in dollars."""
    if is_mutation(config):
        return
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
