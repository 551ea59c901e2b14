"""A table whose words mean themselves: names of files and tasks may look like Rich's markup."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text


class PlainTable(Table):
    """Few lines, so that the numbers fit into 80 columns; no markup in title, headers and cells."""

    def __init__(self, title: str) -> None:
        super().__init__(
            title=Text(title, style="bold"),
            title_justify="left",
            box=SIMPLE_HEAD,
            pad_edge=False,
            collapse_padding=True,
        )

    def add_column(self, header: Any = "", *rest: Any, **options: Any) -> None:
        """As of `Table`."""
        super().add_column(_as_text(header), *rest, **options)

    def add_row(self, *cells: Any, **options: Any) -> None:
        """As of `Table`."""
        super().add_row(*map(_as_text, cells), **options)


def _as_text(cell: Any) -> Any:
    return Text(cell) if isinstance(cell, str) else cell
