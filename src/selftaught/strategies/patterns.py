"""What several rules look for: prompts made of answers, luck, names, programs in one text."""

import ast
from collections.abc import Iterator

from selftaught.strategies.contents import Contents
from selftaught.strategies.dataflow import called
from selftaught.strategies.syntax import walk


def refined_prompts(flow: Contents) -> Iterator[ast.Call]:
    """Prompts inside a loop whose message depends on earlier answers."""
    for call in flow.prompts:
        if flow.loops_around(call) and flow.holds_reply(flow.message_of(call)):
            yield call


def is_draw(node: ast.AST) -> bool:
    """Whether a node draws from a collection at random."""
    return isinstance(node, ast.Call) and called(node) in ("choice", "choices", "sample")


def is_index_draw(node: ast.AST) -> bool:
    """Whether a node draws a whole number at random."""
    return isinstance(node, ast.Call) and called(node) in ("randrange", "randint", "integers")


def is_luck(node: ast.AST) -> bool:
    """Whether a node draws a random number."""
    return isinstance(node, ast.Call) and called(node) in ("random", "uniform", "rand")


def holds_several_programs(flow: Contents, call: ast.Call) -> bool:
    """Whether one message is made of two different programs, or goes over a list of them."""
    return any(
        _has_two(flow, node) or _goes_over(flow, node)
        for text in flow.message_texts(call)
        for node in walk(text)
    )


def _has_two(flow: Contents, node: ast.AST) -> bool:
    held = {ast.dump(part) for part in text_parts(node) if flow.holds_program(part)}
    return len(held) > 1


def text_parts(node: ast.AST) -> list[ast.AST]:
    """What a text is put together of, where the node builds one: f-string, sum, join of a list."""
    match node:
        case ast.JoinedStr():
            return [v.value for v in node.values if isinstance(v, ast.FormattedValue)]
        case ast.BinOp(op=ast.Add()):
            parts = _summands(node)
            is_text = any(_is_literal_text(p) for p in parts)
            return [part for p in parts for part in text_parts(p) or [p]] if is_text else []
        case ast.BinOp(op=ast.Mod()) if _is_literal_text(node.left):
            return list(node.right.elts) if isinstance(node.right, ast.Tuple) else [node.right]
        case ast.Call() if called(node) == "format":
            return [*node.args, *(k.value for k in node.keywords)]
        case ast.Call() if called(node) == "join" and node.args:
            listed = node.args[0]
            return list(listed.elts) if isinstance(listed, (ast.List, ast.Tuple)) else []
        case _:
            return []


def _summands(node: ast.AST) -> list[ast.AST]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _summands(node.left) + _summands(node.right)
    return [node]


def _is_literal_text(node: ast.AST) -> bool:
    is_string = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return is_string or isinstance(node, ast.JoinedStr)


def _goes_over(flow: Contents, node: ast.AST) -> bool:
    """Whether a text is joined of all programs in a collection, or grows in a loop over one."""
    if isinstance(node, ast.Call) and called(node) == "join" and node.args:
        listed = node.args[0]
        if isinstance(listed, (ast.ListComp, ast.GeneratorExp)):
            return flow.holds_program(listed.elt)
        if isinstance(listed, ast.Name) and flow.holds_program(listed):
            made = [v for v in flow.assigned_to(listed.id) if flow.holds_program(v)]
            return any(not text_parts(v) or _is_repeated(flow, v) for v in made)
    around = next(iter(flow.parents(node)), None)
    return (
        isinstance(around, ast.AugAssign)
        and bool(text_parts(node))
        and flow.holds_program(node)
        and _is_repeated(flow, node)
    )


def _is_repeated(flow: Contents, node: ast.AST) -> bool:
    """Whether a text is made in a loop over what it holds, between two prompts."""
    loop = next((n for n in flow.parents(node) if isinstance(n, (ast.For, ast.While))), None)
    if not isinstance(loop, ast.For) or any(n in flow.prompts for n in walk(loop)):
        return False
    targets = {name.id for name in names_in(loop.target)}
    return any(name.id in targets for name in names_in(node))


def names_in(node: ast.AST) -> list[ast.Name]:
    """The names in an expression."""
    return [n for n in walk(node) if isinstance(n, ast.Name)]


def is_constant(node: ast.AST | None, value: float) -> bool:
    """Whether a node is just this number."""
    return isinstance(node, ast.Constant) and node.value == value
