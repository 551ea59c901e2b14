"""What of a program can run: dead branches, statements after a return and unused functions go."""

import ast
from collections import Counter

from selftaught.improver import ENTRY_POINT
from selftaught.strategies.syntax import walk

_ENDS = (ast.Return, ast.Raise, ast.Continue, ast.Break)


def without_dead_code(tree: ast.Module) -> ast.Module:
    """Take out, in place, what never runs, and what is defined for nothing beside the improver."""
    for node in walk(tree):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list):
                setattr(node, field, _reached(block))
    _drop_unused(tree)
    return tree


def _reached(block: list[ast.stmt]) -> list[ast.stmt]:
    kept: list[ast.stmt] = []
    for statement in block:
        if isinstance(statement, ast.If) and isinstance(statement.test, ast.Constant):
            kept += _reached(statement.body if statement.test.value else statement.orelse)
            continue
        kept.append(statement)
        if isinstance(statement, _ENDS):
            break
    return kept


def _drop_unused(tree: ast.Module) -> None:
    """Drop top-level functions and classes that nothing but themselves refers to."""
    names = {id(node): _names(node) for node in tree.body}
    uses = Counter(name for node in tree.body for name in names[id(node)])
    if not any(getattr(node, "name", None) == ENTRY_POINT for node in tree.body):
        return
    before = -1
    while len(tree.body) != before:
        before = len(tree.body)
        for node in tree.body[:]:
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name == ENTRY_POINT:
                continue
            if uses[node.name] - (node.name in names[id(node)]) == 0:
                uses.subtract(names[id(node)])
                tree.body.remove(node)


def _names(node: ast.AST) -> set[str]:
    parts = list(walk(node))
    variables = {n.id for n in parts if isinstance(n, ast.Name)}
    return variables | {n.attr for n in parts if isinstance(n, ast.Attribute)}
