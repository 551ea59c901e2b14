"""Text to tree and back, without a word on standard error.

A mutated program may earn a warning of the compiler (`x is 5`), and a program from a prompt may
hold an odd escape. Such warnings would reach the terminal of whoever runs the host, and under
`-W error` they would even change what counts as a program; so they are switched off here.
"""

import ast
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

NOT_A_PROGRAM = (SyntaxError, ValueError, RecursionError, MemoryError)

# Walking a tree takes several frames of the interpreter per level, writing it down most.
_LARGEST_DEPTH = 120

# The list of warning filters belongs to the whole process: two threads that change and restore it
# at once could leave it changed for good.
_WARNING_FILTERS = threading.Lock()

# Where a node of a kind may hold other nodes that matter here. Walking trees is most of what this
# package does, and most fields hold a name, a mark or nothing.
_NAMES_OF_THINGS = frozenset(("arg", "attr", "id", "level", "module", "name", "rest"))
_MARKS = frozenset(("conversion", "ctx", "kind", "n", "op", "ops", "s", "type_comment"))
_CHILD_FIELDS: dict[type[ast.AST], tuple[str, ...]] = {
    kind: tuple(field for field in kind._fields if field not in _NAMES_OF_THINGS | _MARKS)
    for kind in vars(ast).values()
    if isinstance(kind, type) and issubclass(kind, ast.AST)
} | {ast.Constant: ()}

N = TypeVar("N", bound=ast.AST)


@contextmanager
def _quiet() -> Iterator[None]:
    with _WARNING_FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def parse(text: str) -> ast.Module | None:
    """Return the tree of a program, or None where the text is none or is nested absurdly deep."""
    try:
        with _quiet():
            tree = ast.parse(text)
    except NOT_A_PROGRAM:
        return None
    return tree if _is_shallow(tree) else None


def compiles(text: str) -> bool:
    """Whether a text is a program that Python compiles; nothing of it is executed."""
    tree = parse(text)
    if tree is None:
        return False
    try:
        with _quiet():
            compile(tree, "<proposal>", "exec", dont_inherit=True)
    except NOT_A_PROGRAM:
        return False
    return True


def unparse(tree: ast.AST) -> str | None:
    """Return the text of a tree, or None where it has none.

    Before Python 3.12 an f-string cannot hold a backslash in an expression, so some trees that an
    edit makes cannot be written down.
    """
    try:
        return ast.unparse(tree)
    except NOT_A_PROGRAM:
        return None


def statements(text: str) -> list[ast.stmt]:
    """Return the statements of a text of this package's own making."""
    return ast.parse(text).body


def expression(text: str) -> ast.expr:
    """Return the expression of a text of this package's own making."""
    return ast.parse(text, mode="eval").body


def built(kind: type[N], text: str) -> N:
    """Return the one statement or expression of a text of this package's own making, by kind."""
    statement = ast.parse(text).body[0]
    node = statement.value if isinstance(statement, ast.Expr) else statement
    assert isinstance(node, kind)
    return node


def nodes(tree: ast.AST) -> list[ast.AST]:
    """Every node of a tree, itself first, level by level; several times faster than `ast.walk`.

    Operators and contexts (`ast.Add`, `ast.Load`) are left out.
    """
    found = [tree]
    for node in found:
        found += children(node)
    return found


def children(node: ast.AST) -> list[ast.AST]:
    """The nodes right below a node, operators and contexts left out."""
    found: list[ast.AST] = []
    held = node.__dict__
    for field in _CHILD_FIELDS[type(node)]:
        value = held.get(field)
        if type(value) is list:
            found += [item for item in value if isinstance(item, ast.AST)]
        elif isinstance(value, ast.AST):
            found.append(value)
    return found


def clone(node: N) -> N:
    """Return a copy of a tree that shares no node with it; several times faster than deepcopy."""
    kind = type(node)
    copy = kind.__new__(kind)
    for name, value in node.__dict__.items():
        if isinstance(value, ast.AST):
            value = clone(value)
        elif isinstance(value, list):
            value = [clone(item) if isinstance(item, ast.AST) else item for item in value]
        setattr(copy, name, value)
    return copy


def same(one: ast.AST, other: ast.AST) -> bool:
    """Whether two trees are the same program text."""
    return type(one) is type(other) and ast.dump(one) == ast.dump(other)


def is_docstring(statement: ast.stmt) -> bool:
    """Whether a statement is a bare string."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def loads(node: ast.AST, name: str) -> int:
    """How often a name is read within a tree."""
    return sum(
        isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Load)
        for n in nodes(node)
    )


def stored_names(node: ast.AST) -> list[str]:
    """The plain names that are assigned anywhere within a tree, in order, each once."""
    names: dict[str, None] = {}
    for n in nodes(node):
        if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store):
            names[n.id] = None
    return list(names)


def contains(node: ast.AST, claim: Callable[[ast.AST], bool]) -> bool:
    """Whether a claim holds of any node of a tree, the root included."""
    return any(claim(n) for n in nodes(node))


def _is_shallow(tree: ast.Module) -> bool:
    """Whether the tree can be walked by recursion: a hostile prompt may nest without end."""
    level: list[ast.AST] = [tree]
    for _ in range(_LARGEST_DEPTH):
        level = [child for node in level for child in children(node)]
        if not level:
            return True
    return False
