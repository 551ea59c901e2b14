"""The work meter: counts loop passes and function calls of a program, exactly repeatably.

A limit in seconds falls elsewhere on every run; a count of work does not. The program's tree gets
one call at the head of every loop body, function body and comprehension. The call is the
`__next__` of a chain of C iterators, so it costs tens of nanoseconds.

This is no security boundary: a program can avoid it (`exec` of text is not metered). The CPU limit
that the host enforces from outside stands behind it.
"""

import ast
import itertools
from typing import Any, NoReturn, Self

TICK = "__selftaught_tick__"


class WorkLimitReached(BaseException):
    """The program did more work than it may. Not an Exception: `except Exception` lets it pass."""


class _Exhausted:
    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.reached = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> NoReturn:
        self.reached = True
        raise WorkLimitReached(f"the work limit of {self.limit:,} steps was reached")


class Meter:
    """Counts down from a limit; `tick` is what the program calls."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._countdown = itertools.repeat(None, limit)
        self._end = _Exhausted(limit)
        self.tick = itertools.chain(self._countdown, self._end).__next__

    @property
    def reached(self) -> bool:
        """Whether the limit was reached, even if the program swallowed the exception."""
        return self._end.reached


class _Instrument(ast.NodeTransformer):
    def _with_tick(
        self,
        node: ast.For | ast.While | ast.AsyncFor | ast.FunctionDef | ast.AsyncFunctionDef,
    ) -> ast.AST:
        self.generic_visit(node)
        at = 0
        first = node.body[0]
        is_docstring = (
            isinstance(first, ast.Expr)
            and isinstance(first.value, ast.Constant)
            and isinstance(first.value.value, str)
        )
        if is_docstring and len(node.body) > 1:
            at = 1
        node.body.insert(at, ast.copy_location(ast.Expr(_tick(first)), first))
        return node

    visit_For = visit_While = visit_AsyncFor = _with_tick  # noqa: N815 - ast's names
    visit_FunctionDef = visit_AsyncFunctionDef = _with_tick  # noqa: N815 - ast's names

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
    ) -> ast.AST:
        self.generic_visit(node)
        for generator in node.generators:
            test = ast.Compare(
                left=_tick(node), ops=[ast.Is()], comparators=[ast.Constant(value=None)]
            )
            generator.ifs.insert(0, ast.copy_location(test, node))
        return node

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension  # noqa: N815 - ast's names

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        self.generic_visit(node)
        # (tick(), body)[1] keeps a lambda an expression.
        pair = ast.Tuple(elts=[_tick(node), node.body], ctx=ast.Load())
        node.body = ast.copy_location(
            ast.Subscript(value=pair, slice=ast.Constant(value=1), ctx=ast.Load()), node
        )
        return node


def _tick(at: ast.stmt | ast.expr) -> ast.Call:
    return ast.copy_location(
        ast.Call(func=ast.Name(id=TICK, ctx=ast.Load()), args=[], keywords=[]), at
    )


def instrument(source: str, filename: str) -> Any:
    """Return code of a program whose loops and functions tick.

    Raises:
        SyntaxError, ValueError, RecursionError: as `compile` does.
    """
    tree = _Instrument().visit(ast.parse(source, filename))
    return compile(ast.fix_missing_locations(tree), filename, "exec")
