"""Rules for the way of asking: whom, about what, how often, with what in the prompt.

A rule returns the node that shows its strategy, or None.
"""

import ast
from collections.abc import Iterator

from selftaught.strategies.change import varies
from selftaught.strategies.contents import Contents
from selftaught.strategies.dataflow import called
from selftaught.strategies.patterns import (
    holds_several_programs,
    is_constant,
    is_draw,
    is_index_draw,
    is_luck,
    names_in,
)
from selftaught.strategies.search_rules import genetic, tree_search
from selftaught.strategies.syntax import walk


def bandit(flow: Contents) -> ast.AST | None:
    """Ways of asking are chosen by what they have brought so far, and rarely used ones tried."""
    if not flow.prompts or tree_search(flow):
        return None
    for node in flow.nodes:
        if isinstance(node, ast.Call) and called(node) in ("betavariate", "beta"):
            return node
        if isinstance(node, (ast.BinOp, ast.Return, ast.Assign, ast.Lambda)) and _is_ucb(node):
            return node
        if isinstance(node, (ast.If, ast.IfExp)) and _is_epsilon_greedy(flow, node):
            return node
        if is_draw(node) and not flow.holds_reply(node) and _is_weighted(flow, node):
            return node
    return None


def _is_ucb(node: ast.AST) -> bool:
    names = {called(n) for n in walk(node) if isinstance(n, ast.Call)}
    has_root = "sqrt" in names or any(
        isinstance(n, ast.BinOp) and isinstance(n.op, ast.Pow) and is_constant(n.right, 0.5)
        for n in walk(node)
    )
    return has_root and bool(names & {"log", "log1p"})


def _is_weighted(flow: Contents, node: ast.AST) -> bool:
    """Whether a draw follows weights that are counted up."""
    assert isinstance(node, ast.Call)
    counted = {
        name.id
        for n in flow.nodes
        if isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Subscript)
        for name in names_in(n.target.value)
    }
    names = counted | flow.reached_from(lambda n: getattr(n, "id", None) in counted)
    return any(k.arg in ("weights", "p") and flow.depends(k.value, names) for k in node.keywords)


def _is_epsilon_greedy(flow: Contents, node: ast.If | ast.IfExp) -> bool:
    test = node.test
    if not isinstance(test, ast.Compare) or not any(is_luck(n) for n in walk(test)):
        return False
    branches = [node.body, node.orelse]
    if isinstance(node, ast.If) and not node.orelse:
        around = next(iter(flow.parents(node)), None)
        branches = [node.body, [n for n in getattr(around, "body", []) if n is not node]]
    explores = [any(is_draw(n) or is_index_draw(n) for n in _walk(b)) for b in branches]
    exploits = [
        any(isinstance(n, ast.Call) and called(n) in ("max", "argmax") for n in _walk(b))
        for b in branches
    ]
    counts = any(
        isinstance(n, ast.AugAssign) and isinstance(n.target, (ast.Subscript, ast.Attribute))
        for n in flow.nodes
    )
    return counts and ((explores[0] and exploits[1]) or (explores[1] and exploits[0]))


def _walk(branch: object) -> Iterator[ast.AST]:
    for node in branch if isinstance(branch, list) else [branch]:
        if isinstance(node, ast.AST):
            yield from walk(node)


def decomposition(flow: Contents) -> ast.AST | None:
    """The program, or the problem, is taken apart, and the parts are asked about one by one."""
    lines = flow.reached_from(_splits_lines)
    taken_apart = [n for n in flow.nodes if _takes_apart(flow, n) or _is_window(flow, n, lines)]
    names = flow.reached_from(lambda n: n in taken_apart)
    for call in flow.prompts:
        message = flow.message_of(call)
        repeats = flow.loops_around(call) or any(
            isinstance(n, (ast.ListComp, ast.GeneratorExp))
            for text in flow.message_texts(call)
            for n in walk(text)
        )
        if repeats and flow.depends(message, names):
            return taken_apart[0]
    return None


def _takes_apart(flow: Contents, node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = called(node)
    if name == "parse" and isinstance(node.func, ast.Attribute):
        # Parsing only to see whether a program compiles takes nothing apart.
        is_used = not isinstance(next(iter(flow.parents(node)), None), ast.Expr)
        return is_used and getattr(node.func.value, "id", "") == "ast"
    if name in ("split", "findall", "finditer"):
        constants = [n.value for n in walk(node) if isinstance(n, ast.Constant)]
        return any(isinstance(c, str) and ("def " in c or "def\\s" in c) for c in constants)
    return False


def _splits_lines(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and called(node) == "splitlines"


def _is_window(flow: Contents, node: ast.AST, lines: set[str]) -> bool:
    """Whether a node cuts some of a text's lines out, not just so many from its top."""
    if not isinstance(node, ast.Subscript) or not isinstance(node.slice, ast.Slice):
        return False
    lower = node.slice.lower
    is_moving = lower is not None and bool(names_in(lower))
    return is_moving and flow.depends(node.value, lines, _splits_lines)


def temperature_schedule(flow: Contents) -> ast.AST | None:
    """The sampling temperature changes from call to call."""
    given = [(call, node) for call in flow.prompts for node in _temperatures(call)]
    return _changing(flow, given)


def _temperatures(call: ast.Call) -> Iterator[ast.AST]:
    yield from (k.value for k in call.keywords if k.arg == "temperature")
    place = 2 if called(call) == "batch_prompt" else 3
    yield from call.args[place : place + 1]


def _changing(flow: Contents, given: list[tuple[ast.Call, ast.AST]]) -> ast.AST | None:
    """The first argument that is not the same in all prompts, if there is one."""
    constants = {node.value for _, node in given if isinstance(node, ast.Constant)}
    if len(constants) > 1:
        return given[-1][1]
    for call, node in given:
        repeated = [
            p for p in flow.parents(call) if isinstance(p, (ast.ListComp, ast.GeneratorExp))
        ]
        if varies(flow, node, [*flow.loops_around(call), *repeated]):
            return node
    return None


def ensembles(flow: Contents) -> ast.AST | None:
    """Several answers are put into one: joined in a prompt, or voted over."""
    for node in flow.nodes:
        if isinstance(node, ast.Call) and called(node) == "most_common":
            return node
        # max(set(answers), key=answers.count)
        if isinstance(node, ast.keyword) and getattr(node.value, "attr", "") == "count":
            return node.value
    if genetic(flow):
        return None
    return next((call for call in flow.prompts if holds_several_programs(flow, call)), None)


def personas(flow: Contents) -> ast.AST | None:
    """The role that the model is given changes from call to call."""
    given: list[tuple[ast.Call, ast.AST]] = []
    for call in flow.prompts:
        roles = [k.value for k in call.keywords if k.arg == "expertise"]
        given += [(call, role) for role in roles or call.args[:1]]
    return _changing(flow, given)
