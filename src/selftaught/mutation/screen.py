"""The static screen: what a proposal must be before it is answered with.

A proposal that fails costs no run; one that is let through and crashes costs a whole evaluation.
"""

import ast
from collections.abc import Sequence
from typing import NamedTuple

from selftaught.mutation.draft import parameters
from selftaught.mutation.names import unbound_names
from selftaught.mutation.syntax import compiles, contains, loads, nodes, parse, unparse
from selftaught.mutation.tidy import tidy

# A program may grow to GROWTH times its size in one proposal, but never past MOST_CHARS. A very
# short one may grow to ROOM characters: 2.5 times two lines hold no loop.
GROWTH = 2.5
ROOM = 1_000
MOST_CHARS = 8_000

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

    def __init__(self, program: str, donors: Sequence[str] = ()) -> None:
        """Take the measure of a program.

        Args:
            program: a text that parses.
            donors: other versions of it, whose statements a proposal may hold.

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
        self._asked = _asked_of_parameters(tree, nodes(tree))
        for donor in map(parse, donors):
            if donor is not None:
                self._asked |= _asked_of_parameters(donor, nodes(donor))
        tidy(tree)
        self._known = {source, unparse(tree)}
        self._most_chars = max(len(source), min(round(max(GROWTH * len(source), ROOM)), MOST_CHARS))

    def draft(self) -> ast.Module:
        """Return a fresh tree of the program, to be edited."""
        return ast.parse(self.source)

    def judge(self, tree: ast.Module) -> Verdict:
        """Tidy a proposal in place and say whether it may be answered with.

        Its faults, in the order of the tests: `signature` (an entry point is gone or takes other
        parameters), `endless` (a `while` that cannot end), `attribute` (a parameter is asked for
        what it was never asked for), `unbound` (a name that nothing binds),
        `text` (it cannot be written down), `unchanged`, `size`, `syntax` (it does not compile).
        """
        tidy(tree)
        kept = _signatures(tree)
        if any(kept.get(name) != signature for name, signature in self._signatures.items()):
            return Verdict(None, "signature")
        everything = nodes(tree)
        if any(isinstance(node, ast.While) and is_endless(node) for node in everything):
            return Verdict(None, "endless")
        if not _asked_of_parameters(tree, everything) <= self._asked:
            return Verdict(None, "attribute")
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


def _asked_of_parameters(tree: ast.Module, everything: list[ast.AST]) -> frozenset[tuple[str, str]]:
    """Each parameter of a function of the module with each attribute that it is asked for.

    What a parameter is cannot be known, but what the program already asks of it must be there.
    """
    names = {
        name for node in tree.body if isinstance(node, _FUNCTIONS) for name in parameters(node)
    }
    return frozenset(
        (node.value.id, node.attr)
        for node in everything
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in names
    )


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
