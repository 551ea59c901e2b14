"""Whether an argument of a prompt differs from call to call."""

import ast

from selftaught.strategies.contents import Contents
from selftaught.strategies.dataflow import Place, called
from selftaught.strategies.patterns import is_draw, is_index_draw, is_luck, names_in
from selftaught.strategies.syntax import walk

_ADVANCES = ("next", "pop", "popleft", "rotate")


def varies(
    flow: Contents, node: ast.AST, loops: list[ast.AST], seen: frozenset[str] = frozenset()
) -> bool:
    """Whether an expression has another value from one pass of the loops to the next.

    Args:
        flow: the improver.
        node: the expression.
        loops: around the prompt that it is in.
        seen: names that are being looked at already.
    """
    for part in walk(node):
        if is_draw(part) or is_luck(part) or is_index_draw(part):
            return True
        if isinstance(part, ast.Call) and called(part) in _ADVANCES:
            return True
        if isinstance(part, Place):
            continue
        if isinstance(part, (ast.Attribute, ast.Subscript)) and _is_set_anew(flow, part):
            return True
    names = {name.id for name in names_in(node)} - seen
    return any(_name_varies(flow, name, loops, seen | {name}) for name in sorted(names))


def _is_set_anew(flow: Contents, node: ast.Attribute | ast.Subscript) -> bool:
    """Whether a field, or a place of a container, is changed where no object is being made."""
    text = ast.unparse(node)
    for other in flow.nodes:
        targets: list[ast.expr] = []
        if isinstance(other, ast.AugAssign):
            targets = [other.target]
        elif isinstance(other, ast.Assign) and not isinstance(other.value, ast.Constant):
            targets = other.targets
        if any(not isinstance(t, ast.Name) and ast.unparse(t) == text for t in targets):
            makers = (n for n in flow.parents(other) if isinstance(n, ast.FunctionDef))
            return next((n.name for n in makers), "") != "__init__"
    return False


def _name_varies(flow: Contents, name: str, loops: list[ast.AST], seen: frozenset[str]) -> bool:
    constants = set()
    for loop in loops:
        for node in walk(loop):
            if isinstance(node, (ast.For, ast.comprehension)) and _is_in(name, node.target):
                return True
            if isinstance(node, ast.AugAssign) and _is_in(name, node.target):
                return True
            if isinstance(node, ast.Assign) and any(_is_in(name, t) for t in node.targets):
                if any(n.id == name for n in names_in(node.value)):
                    return True
                if isinstance(node.value, ast.Constant):
                    constants.add(node.value.value)
    values = flow.assigned_to(name)
    if constants:
        constants |= {v.value for v in values if isinstance(v, ast.Constant)}
    return len(constants) > 1 or any(varies(flow, value, loops, seen) for value in values)


def _is_in(name: str, target: ast.AST) -> bool:
    return any(n.id == name and isinstance(n.ctx, ast.Store) for n in names_in(target))
