"""What a person sees: consoles, the banner, cells of tables.

Programs and models choose many of the words. Nothing that they chose steers the terminal: what is
hidden is written out on its way to the console, whatever prints it. And no secret is shown:
`main` puts `Clean` between Python and its streams.
"""

import sys
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.markup import escape
from rich.segment import Segment

from selftaught.plain_text import visible
from selftaught.utility import Outcome, Scored, kind

if TYPE_CHECKING:
    from rich.table import Table

MUTATION_BANNER = (
    "Proposals come from random program mutation (no language model). "
    "These numbers say nothing about STOP with a language model."
)

# A file or a pipe has no width of its own.
PIPED_WIDTH = 110

out = Console(
    highlight=False,
    soft_wrap=not sys.stdout.isatty(),
    width=None if sys.stdout.isatty() else PIPED_WIDTH,
)
err = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


class _Visible:
    """Renders as something else does, with hidden characters written out."""

    def __init__(self, inner: ConsoleRenderable) -> None:
        self._inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._inner, options):
            if segment.control:
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)


class ShowHidden(RenderHook):
    """Has a console write hidden characters out in whatever it prints."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Wrap what is about to be printed."""
        return [_Visible(one) for one in renderables]


out.push_render_hook(ShowHidden())
err.push_render_hook(ShowHidden())


def plain(text: str) -> str:
    """A text that means no markup, for printing inside one that does."""
    return escape(text)


def print_json(data: object) -> None:
    """One JSON document on stdout, on one line."""
    out.print(msgspec.json.encode(data).decode(), markup=False, soft_wrap=True)


def shown(outcome: Outcome) -> str:
    """An outcome as a cell: value ± standard error, or the kind of failure."""
    if isinstance(outcome, Scored):
        error = f" ±{outcome.standard_error:.3f}" if outcome.standard_error else ""
        return f"{outcome.value:.3f}{error}"
    return kind(outcome)


def titled_table(title: str) -> "Table":
    """A table in which no name means markup."""
    # Late: a run shows its tables at its end, and its start need not wait for them.
    from selftaught.cli.plain_table import PlainTable

    return PlainTable(title)
