"""Rules for the shape of the search: what is kept, and what is tried next.

A rule returns the node that shows its strategy, or None.
"""

import ast

from selftaught.strategies.dataflow import Dataflow, called
from selftaught.strategies.patterns import (
    holds_two_programs,
    is_constant,
    is_draw,
    is_luck,
    names_in,
    refined_prompts,
)


def refinement(flow: Dataflow) -> ast.AST | None:
    """Answers go back into prompts, over and over."""
    return next(refined_prompts(flow), None)


def best_of_n(flow: Dataflow) -> ast.AST | None:
    """Answers are chosen among by score, and none goes back into a prompt."""
    if any(flow.depends(flow.message_of(call), flow.answers) for call in flow.prompts):
        return None
    if not flow.prompts:
        return None
    for node in flow.nodes:
        is_choice = isinstance(node, ast.Call) and called(node) in ("max", "sorted", "nlargest")
        is_test = isinstance(node, ast.Compare) and any(
            flow.depends(side, flow.values) for side in (node.left, *node.comparators)
        )
        if (is_choice and flow.depends(node, flow.answers)) or is_test:
            return node
    return None


def beam(flow: Dataflow) -> ast.AST | None:
    """The few best are kept by score, and all of them are refined in the next step."""
    if genetic(flow) or tree_search(flow):
        return None
    kept = [node for node in flow.nodes if _keeps_several(flow, node)]
    for node in kept:
        names = flow.reached_from(lambda n, node=node: n is node)  # type: ignore[misc]
        for call in refined_prompts(flow):
            if flow.depends(flow.message_of(call), names):
                return node
    return None


def _keeps_several(flow: Dataflow, node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and called(node) == "nlargest":
        return not is_constant(node.args[0] if node.args else None, 1)
    if not isinstance(node, ast.Subscript) or not isinstance(node.slice, ast.Slice):
        return False
    cut = node.slice
    if cut.lower is not None and cut.upper is not None:
        return False
    if is_constant(cut.upper, 1) or (cut.upper is None and cut.lower is None):
        return False
    return _is_ranked(flow, node.value)


def _is_ranked(flow: Dataflow, node: ast.AST, depth: int = 3) -> bool:
    """Whether an expression is a collection that was sorted by score."""
    if isinstance(node, ast.Call) and called(node) in ("sorted", "nlargest", "reversed"):
        return flow.depends(node, flow.values, flow.is_score)
    if not isinstance(node, ast.Name) or depth == 0:
        return False
    sorts = (
        n
        for n in flow.nodes
        if isinstance(n, ast.Call)
        and called(n) == "sort"
        and isinstance(n.func, ast.Attribute)
        and isinstance(n.func.value, ast.Name)
        and n.func.value.id == node.id
    )
    if any(flow.depends(n, flow.values, flow.is_score) for n in sorts):
        return True
    return any(_is_ranked(flow, v, depth - 1) for v in flow.assigned_to(node.id))


def genetic(flow: Dataflow) -> ast.AST | None:
    """Parents are drawn at random out of a population, or paired, and give new programs."""
    if not refinement(flow):
        return None
    drawn = [n for n in flow.nodes if is_draw(n) and flow.depends(n, flow.answers)]
    if not drawn or anneals(flow):
        return None
    names = flow.reached_from(lambda n: n in drawn)
    parents = [c for c in flow.prompts if flow.depends(flow.message_of(c), names)]
    if not parents:
        return None
    pairs = any(_draws_several(n) for n in drawn)
    if pairs or len(drawn) > 1 or any(holds_two_programs(flow, call) for call in parents):
        return drawn[0]
    ranked = any(_keeps_several(flow, node) for node in flow.nodes)
    return drawn[0] if ranked else None


def _draws_several(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    counts = [*node.args[1:], *(k.value for k in node.keywords if k.arg == "k")]
    return any(isinstance(c, ast.Constant) and c.value in (2, 3, 4) for c in counts)


def anneals(flow: Dataflow) -> ast.AST | None:
    """A worse program is taken with a probability that falls: exp(difference / temperature)."""
    exponents = flow.reached_from(lambda n: isinstance(n, ast.Call) and called(n) == "exp")
    for node in flow.nodes:
        if not isinstance(node, ast.Compare):
            continue
        sides = [node.left, *node.comparators]
        has_luck = any(is_luck(part) for side in sides for part in ast.walk(side))
        has_exponent = any(
            flow.depends(side, exponents, lambda n: isinstance(n, ast.Call) and called(n) == "exp")
            for side in sides
        )
        if has_luck and has_exponent and flow.loops_around(node):
            return node
    return None


def tree_search(flow: Dataflow) -> ast.AST | None:
    """Programs are nodes with children; which one is expanded is chosen over the whole tree."""
    if not flow.prompts:
        return None
    for node in flow.nodes:
        if isinstance(node, ast.Attribute) and node.attr == "children":
            return node
        if isinstance(node, ast.Constant) and node.value == "children" and _is_key(flow, node):
            return node
        if isinstance(node, ast.Call) and called(node) in ("heappop", "heappushpop"):
            names = flow.reached_from(lambda n, node=node: n is node)  # type: ignore[misc]
            for call in flow.prompts:
                if flow.loops_around(call) and flow.depends(flow.message_of(call), names):
                    return node
    for call in flow.prompts:
        for loop in flow.loops_around(call):
            # A function that asks and calls itself on what came back.
            if isinstance(loop, ast.Call) and flow.depends(loop, flow.answers):
                return loop
    return None


def _is_key(flow: Dataflow, node: ast.AST) -> bool:
    around = next(iter(flow.parents(node)), None)
    return isinstance(around, (ast.Dict, ast.Subscript))


def restarts(flow: Dataflow) -> ast.AST | None:
    """The search goes back to the initial program, and begins again."""
    for node in flow.nodes:
        if not isinstance(node, ast.Assign) or not _is_initial(flow, node.value):
            continue
        target = next(iter(names_in(node.targets[0])), None)
        loops = [n for n in flow.parents(node) if isinstance(n, (ast.For, ast.While))]
        if target is None or not loops:
            continue
        for call in refined_prompts(flow):
            if flow.depends(
                flow.message_of(call),
                flow.reached_from(
                    lambda n, name=target.id: isinstance(n, ast.Name) and n.id == name  # type: ignore[misc]
                )
                | {target.id},
            ):
                return node
    return None


def _is_initial(flow: Dataflow, node: ast.AST) -> bool:
    if isinstance(node, ast.Tuple):
        return any(_is_initial(flow, one) for one in node.elts)
    if isinstance(node, ast.List):
        return len(node.elts) == 1 and _is_initial(flow, node.elts[0])
    return isinstance(node, ast.Name) and node.id == flow.initial
