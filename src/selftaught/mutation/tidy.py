"""Tidying: what an edit left behind that does nothing is taken out, or programs would only grow."""

import ast

from selftaught.mutation.syntax import children, is_docstring, loads, nodes, same

_MOST_PASSES = 4
_LEAVES = (ast.Return, ast.Raise, ast.Break, ast.Continue)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_PURE = (
    ast.Constant,
    ast.Name,
    ast.BinOp,
    ast.UnaryOp,
    ast.BoolOp,
    ast.Compare,
    ast.IfExp,
    ast.Tuple,
    ast.List,
    ast.Dict,
    ast.Set,
    ast.Lambda,
    ast.JoinedStr,
    ast.Subscript,
    ast.FormattedValue,
    ast.Slice,
)


def tidy(tree: ast.Module) -> None:
    """Take out, in place, what cannot change what a program returns.

    Statements after a `return`, `raise`, `break` or `continue`; `x = x`; the same pure assignment
    twice in a row; a bare value; a pure assignment that nothing reads; an empty `if` or `for`;
    functions inside a function that nothing calls, and such at module level whose name begins with
    an underscore.
    """
    for _ in range(_MOST_PASSES):
        changed = _drop_unread_definitions(tree)
        for statement in tree.body:
            changed |= _tidy_definition(statement)
        if not changed:
            return


def _tidy_definition(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.ClassDef):
        return sum([_tidy_definition(inner) for inner in statement.body]) > 0
    if not isinstance(statement, _FUNCTIONS):
        return False
    unread = _unread_locals(statement)
    return _tidy_blocks(statement, unread)


def _tidy_blocks(node: ast.AST, unread: set[str]) -> bool:
    changed = False
    if isinstance(node, ast.ClassDef):
        return changed
    for field in ("body", "orelse", "finalbody"):
        block = getattr(node, field, None)
        if not isinstance(block, list):
            continue
        for statement in block:
            changed |= _tidy_blocks(statement, unread)
        kept = _tidied(block, unread)
        if len(kept) == len(block):
            continue
        if not kept and field in ("body", "finalbody"):
            kept = [ast.Pass()]
        changed |= len(kept) < len(block) or not isinstance(block[0], ast.Pass)
        block[:] = kept
    for handler in getattr(node, "handlers", ()):
        changed |= _tidy_blocks(handler, unread)
    return changed


def _tidied(block: list[ast.stmt], unread: set[str]) -> list[ast.stmt]:
    kept: list[ast.stmt] = []
    for i, statement in enumerate(block):
        if isinstance(statement, ast.Pass) or _does_nothing(statement, unread):
            continue
        if is_docstring(statement) and i > 0:
            continue
        if isinstance(statement, ast.Assign) and kept and _repeats(kept[-1], statement):
            continue
        kept.append(statement)
        if isinstance(statement, _LEAVES):
            break
    return kept


def _does_nothing(statement: ast.stmt, unread: set[str]) -> bool:
    if isinstance(statement, ast.Expr):
        return not is_docstring(statement) and _is_pure(statement.value)
    if isinstance(statement, ast.If):
        empty = all(isinstance(inner, ast.Pass) for inner in statement.body)
        return empty and not statement.orelse and _is_pure(statement.test)
    if isinstance(statement, ast.For):
        empty = all(isinstance(inner, ast.Pass) for inner in statement.body)
        target = statement.target
        idle = isinstance(target, ast.Name) and target.id in unread | {"_"}
        return empty and idle and not statement.orelse and _is_range(statement.iter)
    if isinstance(statement, _FUNCTIONS):
        return statement.name in unread and not statement.decorator_list
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return False
    target = statement.targets[0]
    if not isinstance(target, ast.Name):
        return False
    if isinstance(statement.value, ast.Name) and statement.value.id == target.id:
        return True
    return target.id in unread and _is_pure(statement.value)


def _is_range(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "range"
        and all(_is_pure(arg) for arg in node.args)
    )


def _repeats(before: ast.stmt, statement: ast.Assign) -> bool:
    if not isinstance(before, ast.Assign) or type(before.value) is not type(statement.value):
        return False
    if not _is_pure(statement.value) or not same(before, statement):
        return False
    targets = {target.id for target in statement.targets if isinstance(target, ast.Name)}
    read = {node.id for node in nodes(statement.value) if isinstance(node, ast.Name)}
    return len(targets) == len(statement.targets) and not targets & read


def _is_pure(node: ast.AST) -> bool:
    """Whether computing an expression cannot be noticed, but for an error that it may raise."""
    if isinstance(node, ast.Lambda):
        return True
    return isinstance(node, _PURE) and all(_is_pure(child) for child in children(node))


def _unread_locals(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Names bound in a function that nothing in it reads; empty where it may do so by name."""
    read: set[str] = set()
    bound: set[str] = set()
    for node in nodes(function):
        if isinstance(node, ast.Name):
            (bound if isinstance(node.ctx, ast.Store) else read).add(node.id)
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            read.update(node.names)
        elif isinstance(node, _FUNCTIONS) and node is not function:
            bound.add(node.name)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            read.add(node.target.id)
    return set() if read & {"locals", "vars", "eval", "exec"} else bound - read


def _drop_unread_definitions(tree: ast.Module) -> bool:
    """Take out underscore functions and classes of the module that nothing else reads."""
    own = {
        statement.name: statement
        for statement in tree.body
        if isinstance(statement, (*_FUNCTIONS, ast.ClassDef))
        and statement.name.startswith("_")
        and not statement.decorator_list
    }
    unread = [
        statement
        for name, statement in own.items()
        if not any(loads(other, name) for other in tree.body if other is not statement)
    ]
    if not unread or len(unread) == len(tree.body):
        return False
    tree.body[:] = [statement for statement in tree.body if statement not in unread]
    return True
