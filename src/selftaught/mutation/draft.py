"""A program being edited: its tree, and an index of the places where an edit can be made."""

import ast
import builtins
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from selftaught.mutation.syntax import is_docstring, nodes

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef

_BUILTINS = frozenset(dir(builtins))
_IMMOVABLE = (
    ast.Pass,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Import,
    ast.ImportFrom,
    ast.Global,
    ast.Nonlocal,
)


class Place(NamedTuple):
    """Where an expression stands.

    Attributes:
        node: the expression.
        owner: the node that holds it, in the field of that name.
        at: its index in the field where that is a list, otherwise -1.
        function: the innermost function around it, None at module level.
    """

    node: ast.expr
    owner: ast.AST
    field: str
    at: int
    function: FunctionNode | None

    def put(self, new: ast.expr) -> None:
        """Set another expression in this place."""
        if self.at < 0:
            setattr(self.owner, self.field, new)
        else:
            getattr(self.owner, self.field)[self.at] = new


class Block(NamedTuple):
    """A list of statements inside a function.

    Attributes:
        body: the list itself: changing it changes the program.
        owner: the statement that holds it.
        function: the innermost function around it.
        in_loop: whether a loop of that function surrounds it.
    """

    body: list[ast.stmt]
    owner: ast.AST
    function: FunctionNode
    in_loop: bool

    def movable(self) -> list[int]:
        """The indices of statements that an edit may delete, copy or move."""
        return [
            i
            for i, statement in enumerate(self.body)
            if not isinstance(statement, _IMMOVABLE) and not is_docstring(statement)
        ]


class Draft:
    """A program being edited.

    Left out of the index, because no edit there is of use or could be written down: the inside of
    f-strings, signatures, annotations, decorators, docstrings, imports, patterns, and classes
    whose name begins with an underscore.

    Attributes:
        tree: the program; operators change it in place.
        donors: other versions of the program, for crossover.
        places: every expression that may be replaced, outer before inner.
        blocks: every list of statements inside a function, outer before inner.
        functions: every function, outer before inner, with the one around it.
    """

    def __init__(self, tree: ast.Module, donors: tuple[ast.Module, ...] = ()) -> None:
        self.tree = tree
        self.donors = donors
        self.places: list[Place]
        self.blocks: list[Block]
        self.functions: dict[FunctionNode, FunctionNode | None]
        self.refresh()

    def refresh(self) -> None:
        """Build the index again, after an edit."""
        self.places = []
        self.blocks = []
        self.functions = {}
        for statement in self.tree.body:
            self._index_statement(statement, None, in_loop=False)

    def pick(self, random: Random, claim: Callable[[Place], bool]) -> Place | None:
        """Return a random place of which a claim holds, or None where there is none."""
        fitting = [place for place in self.places if claim(place)]
        return random.choice(fitting) if fitting else None

    def fresh(self, wish: str) -> str:
        """Return the name wished for, with a number where the program already uses it."""
        taken = self.names()
        name = wish
        number = 2
        while name in taken or name in _BUILTINS:
            name = f"{wish}_{number}"
            number += 1
        return name

    def names(self) -> set[str]:
        """Every identifier that the program binds or reads."""
        names: set[str] = set()
        for node in nodes(self.tree):
            if isinstance(node, ast.Name):
                names.add(node.id)
            elif isinstance(node, ast.arg):
                names.add(node.arg)
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                names.add(node.name)
            elif isinstance(node, ast.alias):
                names.add((node.asname or node.name).partition(".")[0])
            elif isinstance(node, ast.ExceptHandler) and node.name:
                names.add(node.name)
        return names

    def enclosing(self, function: FunctionNode | None) -> list[FunctionNode]:
        """A function and the functions around it, innermost first."""
        chain: list[FunctionNode] = []
        while function is not None:
            chain.append(function)
            function = self.functions.get(function)
        return chain

    def binder(self, name: str, function: FunctionNode | None) -> FunctionNode | None:
        """The innermost function around a place that has a parameter of this name."""
        for around in self.enclosing(function):
            if name in parameters(around):
                return around
        return None

    def loop_variable(self, loop: ast.For) -> str:
        """The name of a loop's variable; one that has none, or is called `_`, is given one."""
        if not isinstance(loop.target, ast.Name) or loop.target.id == "_":
            loop.target = ast.Name(self.fresh("turn"), ast.Store())
        return loop.target.id

    def _index_statement(
        self, statement: ast.stmt, function: FunctionNode | None, *, in_loop: bool
    ) -> None:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            self.functions[statement] = function
            self._index_block(statement.body, statement, statement, in_loop=False)
            return
        if isinstance(statement, ast.ClassDef):
            if not statement.name.startswith("_"):
                for inner in statement.body:
                    self._index_statement(inner, function, in_loop=False)
            return
        if isinstance(statement, (ast.Import, ast.ImportFrom)) or is_docstring(statement):
            return
        loops = isinstance(statement, (ast.For, ast.AsyncFor, ast.While))
        for field in statement._fields:
            value = getattr(statement, field, None)
            if isinstance(value, ast.expr):
                if field != "annotation":
                    self._index_expression(value, statement, field, -1, function)
            elif isinstance(value, list) and value:
                if isinstance(value[0], ast.stmt):
                    looped = in_loop or (loops and field == "body")
                    self._index_block(value, statement, function, in_loop=looped)
                else:
                    self._index_list(value, statement, field, function, in_loop=in_loop)

    def _index_block(
        self,
        body: list[ast.stmt],
        owner: ast.AST,
        function: FunctionNode | None,
        *,
        in_loop: bool,
    ) -> None:
        if function is not None:
            self.blocks.append(Block(body, owner, function, in_loop))
        for statement in body:
            self._index_statement(statement, function, in_loop=in_loop)

    def _index_list(
        self,
        items: list[ast.AST],
        owner: ast.AST,
        field: str,
        function: FunctionNode | None,
        *,
        in_loop: bool,
    ) -> None:
        for index, item in enumerate(items):
            if isinstance(item, ast.expr):
                self._index_expression(item, owner, field, index, function)
            elif isinstance(item, (ast.ExceptHandler, ast.match_case)):
                self._index_block(item.body, item, function, in_loop=in_loop)
            elif isinstance(item, ast.withitem):
                self._index_expression(item.context_expr, item, "context_expr", -1, function)

    def _index_expression(
        self, node: ast.expr, owner: ast.AST, field: str, index: int, function: FunctionNode | None
    ) -> None:
        if isinstance(node, ast.JoinedStr):
            return
        context = getattr(node, "ctx", None)
        if context is None or isinstance(context, ast.Load):
            self.places.append(Place(node, owner, field, index, function))
        if isinstance(node, (ast.Name, ast.Constant)):
            return
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, ast.expr):
                self._index_expression(value, node, name, -1, function)
            elif isinstance(value, list):
                for i, item in enumerate(value):
                    if isinstance(item, ast.expr):
                        self._index_expression(item, node, name, i, function)
                    elif isinstance(item, ast.keyword):
                        self._index_expression(item.value, item, "value", -1, function)
                    elif isinstance(item, ast.comprehension):
                        self._index_comprehension(item, function)

    def _index_comprehension(self, part: ast.comprehension, function: FunctionNode | None) -> None:
        self._index_expression(part.target, part, "target", -1, function)
        self._index_expression(part.iter, part, "iter", -1, function)
        for i, condition in enumerate(part.ifs):
            self._index_expression(condition, part, "ifs", i, function)


def parameters(function: FunctionNode) -> list[str]:
    """The names of a function's parameters, positional ones first."""
    spec = function.args
    names = [arg.arg for arg in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)]
    names.extend(arg.arg for arg in (spec.vararg, spec.kwarg) if arg is not None)
    return names
