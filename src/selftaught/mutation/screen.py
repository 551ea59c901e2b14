"""The static screen: what a proposal must be before it is answered with.

A proposal that fails costs no run; one that is let through and crashes costs a whole evaluation.
"""

import ast
from typing import NamedTuple

from selftaught.mutation.names import unbound_names
from selftaught.mutation.syntax import compiles, contains, loads, nodes, parse, unparse
from selftaught.mutation.tidy import tidy

# A program may grow to GROWTH times its size in one proposal, but never past MOST_CHARS. A very
# short one may grow to ROOM characters: 2.5 times two lines hold no loop.
GROWTH = 2.5
ROOM = 600
MOST_CHARS = 10_000

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Verdict(NamedTuple):
    """The text of a proposal that passed, or why it did not."""

    source: str | None
    fault: str = ""


class Screen:
    """What every proposal for one program must keep.

    Attributes:
        source: the program, as `ast.unparse` writes it.
    """

    def __init__(self, program: str) -> None:
        """Take the measure of a program.

        Args:
            program: a text that parses.

        Raises:
            ValueError: it does not parse, or cannot be written down again.
        """
        tree = parse(program)
        source = None if tree is None else unparse(tree)
        if tree is None or source is None:
            raise ValueError("The program does not parse, or cannot be written down again.")
        self.source = source
        self._signatures = _signatures(tree)
        self._unbound = unbound_names(tree)
        tidy(tree)
        self._known = {source, unparse(tree)}
        self._most_chars = max(len(source), min(round(max(GROWTH * len(source), ROOM)), MOST_CHARS))

    def judge(self, tree: ast.Module) -> Verdict:
        """Tidy a proposal in place and say whether it may be answered with.

        Its faults, in the order of the tests: `signature` (an entry point is gone or takes other
        parameters), `endless` (a `while` that cannot end), `unbound` (a name that nothing binds),
        `text` (it cannot be written down), `unchanged`, `size`, `syntax` (it does not compile).
        """
        tidy(tree)
        kept = _signatures(tree)
        if any(kept.get(name) != signature for name, signature in self._signatures.items()):
            return Verdict(None, "signature")
        if contains(tree, lambda node: isinstance(node, ast.While) and is_endless(node)):
            return Verdict(None, "endless")
        if not unbound_names(tree) <= self._unbound:
            return Verdict(None, "unbound")
        source = unparse(tree)
        if source is None:
            return Verdict(None, "text")
        if source in self._known:
            return Verdict(None, "unchanged")
        if len(source) > self._most_chars:
            return Verdict(None, "size")
        if not compiles(source):
            return Verdict(None, "syntax")
        return Verdict(source)


def _signatures(tree: ast.Module) -> dict[str, str]:
    """The parameters of each function of the module that is not marked as its own by `_`."""
    return {
        node.name: ast.dump(node.args)
        for node in tree.body
        if isinstance(node, _FUNCTIONS) and not node.name.startswith("_")
    }


def is_endless(loop: ast.While) -> bool:
    """Whether a `while` plainly never ends.

    It has no way out (`break`, `return`, `raise`), and its condition is a constant or reads only
    variables that its body neither assigns nor can change through a call.
    """
    if contains(loop, lambda n: isinstance(n, (ast.Break, ast.Return, ast.Raise))):
        return False
    if contains(loop.test, lambda n: isinstance(n, (ast.Call, ast.Attribute, ast.NamedExpr))):
        return False
    if isinstance(loop.test, ast.Constant):
        return bool(loop.test.value)
    read = {n.id for n in nodes(loop.test) if isinstance(n, ast.Name)}
    for node in nodes(loop):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in read:
            return False
        if isinstance(node, ast.Call) and any(loads(node, name) for name in read):
            return False
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, (ast.Store, ast.Del)):
            return False
    return True
