"""What runs cost and may cost, on the screen, and the options about it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from selftaught.cli import screen
from selftaught.errors import UsageError
from selftaught.language_model import ModelSettings

if TYPE_CHECKING:
    from rich.table import Table

    from selftaught.runs.costs import Cost, Costs

Price = Annotated[
    str | None,
    typer.Option(
        "--price",
        metavar="IN,OUT",
        help="Dollars for a million input and output tokens, before the price table.",
    ),
]

WARN_ABOVE = 10.0
WarnAbove = Annotated[
    float,
    typer.Option(
        "--warn-above",
        metavar="DOLLARS",
        help="Say so, and go on, where the run is expected to cost more.",
    ),
]


def with_price(settings: ModelSettings, price: str | None) -> ModelSettings:
    """Settings with the prices of --price.

    Raises:
        UsageError: it is not two numbers.
    """
    if price is None:
        return settings
    try:
        input_price, output_price = map(float, price.split(","))
    except ValueError:
        raise UsageError(
            f"--price takes dollars for a million input and output tokens, as in 0.25,2, "
            f"not {price!r}."
        ) from None
    return msgspec.structs.replace(settings, input_price=input_price, output_price=output_price)


def dollars(amount: float) -> str:
    """An amount of money with at least two digits that say something."""
    return f"${amount:,.2f}" if amount >= 0.1 or amount == 0 else f"${amount:.2g}"


def shown(amount: float, unpriced_calls: int, calls: int) -> str:
    """Money of some calls, and for how many of them the price is not known."""
    if calls and unpriced_calls == calls:
        return "price not known"
    if unpriced_calls:
        return f"{dollars(amount)} and {unpriced_calls:,} calls of unknown price"
    return dollars(amount)


def print_costs(costs: "Costs", json: bool) -> None:
    """The costs of a run as tables, or as JSON with every call."""
    if json:
        screen.print_json(msgspec.to_builtins(costs))
        return
    all_calls = costs.total
    screen.out.print(
        f"[bold]{costs.run}[/bold]  {all_calls.calls:,} calls, "
        f"{all_calls.prompt_tokens:,} + {all_calls.completion_tokens:,} tokens, "
        f"{shown(all_calls.dollars, all_calls.unpriced_calls, all_calls.calls)}"
    )
    if all_calls.lost_tokens:
        screen.out.print(
            f"Failed requests may have cost up to {all_calls.lost_tokens:,} tokens and "
            f"{dollars(all_calls.lost_dollars)} more; the limits of the run count them."
        )
    for title, rows in (
        ("model", costs.by_model),
        ("phase", costs.by_phase),
        ("improver", costs.by_improver),
        ("round", costs.by_round),
    ):
        if rows:
            screen.out.print(_table(title, rows))


def _table(title: str, rows: "Sequence[Cost]") -> "Table":
    table = screen.titled_table(f"By {title}")
    table.add_column(title, no_wrap=True)
    for header in ("calls", "responses", "prompt", "cached", "completion", "reasoning", "money"):
        table.add_column(header, justify="right")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.calls:,}",
            f"{row.responses:,}",
            f"{row.prompt_tokens:,}",
            f"{row.cached_tokens:,}",
            f"{row.completion_tokens:,}",
            f"{row.reasoning_tokens:,}",
            "?" if row.calls and row.unpriced_calls == row.calls else _amount(row),
        )
    return table


def _amount(row: "Cost") -> str:
    return dollars(row.dollars) + (" + ?" if row.unpriced_calls else "")
