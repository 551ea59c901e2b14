"""What several rules look for: prompts made of answers, luck, names, two programs in one text."""

import ast
from collections.abc import Iterator

from selftaught.strategies.dataflow import Dataflow, called


def refined_prompts(flow: Dataflow) -> Iterator[ast.Call]:
    """Prompts inside a loop whose message depends on earlier answers."""
    for call in flow.prompts:
        if flow.loops_around(call) and flow.depends(flow.message_of(call), flow.answers):
            yield call


def is_draw(node: ast.AST) -> bool:
    """Whether a node draws from a collection at random."""
    return isinstance(node, ast.Call) and called(node) in ("choice", "choices", "sample")


def is_luck(node: ast.AST) -> bool:
    """Whether a node draws a random number."""
    return isinstance(node, ast.Call) and called(node) in ("random", "uniform", "rand")


def holds_two_programs(flow: Dataflow, call: ast.Call) -> bool:
    """Whether one message is made of two different programs from answers."""
    for text in flow.message_texts(call):
        for node in ast.walk(text):
            if isinstance(node, ast.JoinedStr):
                held = {
                    ast.dump(v.value)
                    for v in node.values
                    if isinstance(v, ast.FormattedValue) and flow.depends(v.value, flow.answers)
                }
                if len(held - {""}) > 1 and _programs(flow, node) > 1:
                    return True
    return False


def _programs(flow: Dataflow, text: ast.JoinedStr) -> int:
    """How many different answers a text holds; scores beside them are no programs."""
    return len(
        {
            ast.dump(v.value)
            for v in text.values
            if isinstance(v, ast.FormattedValue)
            and v.format_spec is None
            and flow.depends(v.value, flow.answers)
            and not _is_plain_score(flow, v.value)
        }
    )


def _is_plain_score(flow: Dataflow, node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return called(node) in ("len", "round", "utility", "repr", "min", "sum", "get", "format")
    if isinstance(node, ast.Name):
        words = ("score", "value", "util", "best_u", "feedback", "error", "rank", "round", "step")
        return any(word in node.id.lower() for word in words)
    return isinstance(node, ast.Subscript) and "score" in ast.dump(node.value).lower()


def names_in(node: ast.AST) -> list[ast.Name]:
    """The names in an expression."""
    return [n for n in ast.walk(node) if isinstance(n, ast.Name)]


def is_constant(node: ast.AST | None, value: float) -> bool:
    """Whether a node is just this number."""
    return isinstance(node, ast.Constant) and node.value == value
