"""The strategies of an improver, from its text."""

import ast

import msgspec

from selftaught.strategies.contents import Contents
from selftaught.strategies.rules import STRATEGIES


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A strategy that a text shows.

    Attributes:
        name: of the strategy.
        line: where it shows, from 1.
        evidence: the expression there, on one line, cut to 100 characters.
    """

    name: str
    line: int
    evidence: str


def strategies_in(source: str) -> list[Found]:
    """The strategies in a program's text; none in a text that is not Python.

    Args:
        source: an improver. It is read, never run.
    """
    try:
        flow = Contents(source)
        shown = [(strategy.name, strategy.rule(flow)) for strategy in STRATEGIES]
    except (SyntaxError, ValueError, RecursionError):
        return []
    return [
        Found(
            name=name,
            line=getattr(node, "lineno", 1),
            evidence=" ".join(ast.unparse(node).split())[:100],
        )
        for name, node in shown
        if node is not None
    ]


def named(source: str) -> str:
    """The names of a text's strategies, by commas; a dash for none."""
    return ", ".join(one.name for one in strategies_in(source)) or "-"
