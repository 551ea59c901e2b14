"""Rules that other rules ask for are applied to a program once."""

import ast
import functools
from collections.abc import Callable

from selftaught.strategies.contents import Contents

Rule = Callable[[Contents], ast.AST | None]


def once(rule: Rule) -> Rule:
    """The rule, with its answer kept as long as the program is."""

    @functools.wraps(rule)
    def apply(flow: Contents) -> ast.AST | None:
        if rule not in flow.shown:
            flow.shown[rule] = rule(flow)
        return flow.shown[rule]

    return apply
