"""Rules for the shape of the search: what is kept, and what is tried next.

A rule returns the node that shows its strategy, or None.
"""

import ast

from selftaught.strategies.contents import Contents
from selftaught.strategies.dataflow import Place, called
from selftaught.strategies.once import once
from selftaught.strategies.patterns import (
    is_constant,
    is_draw,
    is_index_draw,
    is_luck,
    names_in,
    refined_prompts,
)

_RANKS = ("sorted", "nlargest", "reversed", "argsort")
_CHOOSES = ("max", "sorted", "nlargest", "argmax", "heappop")


@once
def refinement(flow: Contents) -> ast.AST | None:
    """Answers go back into prompts, over and over."""
    return next(refined_prompts(flow), None)


def best_of_n(flow: Contents) -> ast.AST | None:
    """Answers are chosen among by score, and none goes back into a prompt."""
    if not flow.prompts or any(flow.holds_reply(flow.message_of(call)) for call in flow.prompts):
        return None
    for node in flow.nodes:
        is_choice = isinstance(node, ast.Call) and called(node) in _CHOOSES
        is_test = isinstance(node, ast.Compare) and any(
            flow.depends(side, flow.values) for side in (node.left, *node.comparators)
        )
        if (is_choice and flow.depends(node, flow.answers | flow.values)) or is_test:
            return node
    return None


def beam(flow: Contents) -> ast.AST | None:
    """The few best are kept by score, and all of them are refined in the next step."""
    if genetic(flow) or tree_search(flow):
        return None
    for node in flow.nodes:
        if not _keeps_several(flow, node):
            continue
        is_cut = any(isinstance(n, ast.Delete) for n in flow.parents(node))
        start = {n.id for n in names_in(node)} if is_cut else set()
        names = flow.reached_from(
            lambda n, node=node, start=start: n is node or getattr(n, "id", None) in start,  # type: ignore[misc]
            _takes_one,
        )
        for call in refined_prompts(flow):
            if flow.depends(flow.message_of(call), names, stops=_takes_one):
                return node
    return None


def _takes_one(node: ast.AST) -> bool:
    """Whether one element is taken out of several, so that the others are left behind."""
    if isinstance(node, ast.Call):
        return called(node) in ("max", "min", "choice") and len(node.args) == 1
    return (
        isinstance(node, ast.Subscript)
        and not isinstance(node, Place)
        and isinstance(node.value, ast.Name)
        and (is_constant(node.slice, 0) or isinstance(node.slice, ast.UnaryOp))
    )


def _keeps_several(flow: Contents, node: ast.AST) -> bool:
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


def _is_ranked(flow: Contents, node: ast.AST, depth: int = 3) -> bool:
    """Whether an expression is a collection that was sorted by score."""
    if isinstance(node, ast.Call) and called(node) in _RANKS:
        return flow.depends(node, flow.values, flow.is_score)
    if isinstance(node, ast.Subscript):
        return isinstance(node.slice, ast.Slice) and _is_ranked(flow, node.value, depth)
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


@once
def genetic(flow: Contents) -> ast.AST | None:
    """Parents are drawn at random out of a population, or paired, and give new programs."""
    if not refinement(flow):
        return None
    indices = flow.reached_from(_draws)
    drawn = [n for n in flow.nodes if _is_drawn(flow, n, indices) and flow.holds_reply(n)]
    if not drawn or anneals(flow):
        return None
    names = flow.reached_from(lambda n: n in drawn)
    for call in flow.prompts:
        if flow.depends(flow.message_of(call), names, lambda n: n in drawn):
            return drawn[0]
    return None


def _draws(node: ast.AST) -> bool:
    return is_draw(node) or is_index_draw(node)


def _is_drawn(flow: Contents, node: ast.AST, indices: set[str]) -> bool:
    is_picked = isinstance(node, ast.Subscript) and flow.depends(node.slice, indices, _draws)
    return is_draw(node) or is_picked


@once
def anneals(flow: Contents) -> ast.AST | None:
    """A worse program is taken with a probability that falls: exp(difference / temperature)."""
    exponents = flow.reached_from(lambda n: _is_exponential(flow, n))
    luck = flow.reached_from(is_luck)
    for node in flow.nodes:
        if not isinstance(node, ast.Compare) or not flow.loops_around(node):
            continue
        sides = [node.left, *node.comparators]
        has_luck = any(flow.depends(side, luck, is_luck) for side in sides)
        has_exponent = any(
            flow.depends(side, exponents, lambda n: _is_exponential(flow, n)) for side in sides
        )
        if has_luck and has_exponent:
            return node
    return None


def _is_exponential(flow: Contents, node: ast.AST) -> bool:
    """Whether a node is e to the power of something that scores go into."""
    if isinstance(node, ast.Call) and called(node) == "exp":
        return any(flow.depends(argument, flow.values, flow.is_score) for argument in node.args)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        is_e = getattr(node.left, "attr", getattr(node.left, "id", None)) == "e"
        return is_e and flow.depends(node.right, flow.values, flow.is_score)
    return False


@once
def tree_search(flow: Contents) -> ast.AST | None:
    """Programs are nodes with children; which one is expanded is chosen over the whole tree."""
    if not flow.prompts:
        return None
    for node in flow.nodes:
        if isinstance(node, ast.Attribute) and node.attr == "children":
            return node
        if isinstance(node, ast.Constant) and node.value == "children" and _is_key(flow, node):
            return node
        if _takes_first(flow, node):
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


def _takes_first(flow: Contents, node: ast.AST) -> bool:
    """Whether a node takes the first element out of a priority queue."""
    if not isinstance(node, ast.Call):
        return False
    if called(node) in ("get", "get_nowait") and isinstance(node.func, ast.Attribute):
        name = getattr(node.func.value, "attr", getattr(node.func.value, "id", ""))
        made = flow.assigned_to(name)
        return any(isinstance(v, ast.Call) and called(v) == "PriorityQueue" for v in made)
    return called(node) in ("heappop", "heappushpop")


def _is_key(flow: Contents, node: ast.AST) -> bool:
    around = next(iter(flow.parents(node)), None)
    return isinstance(around, (ast.Dict, ast.Subscript))


def restarts(flow: Contents) -> ast.AST | None:
    """The search goes back to the initial program, and begins again."""
    for node in flow.nodes:
        if isinstance(node, ast.Call) and _is_search_from_initial(flow, node):
            return node
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


def _is_search_from_initial(flow: Contents, call: ast.Call) -> bool:
    """Whether a call in a loop hands the initial program to a function that refines in a loop."""
    function = flow.functions.get(called(call))
    if function is None or not any(_is_initial(flow, argument) for argument in call.args):
        return False
    repeats = (ast.For, ast.While, ast.ListComp, ast.GeneratorExp)
    if not any(isinstance(n, repeats) for n in flow.parents(call)):
        return False
    return any(
        isinstance(loop, (ast.For, ast.While)) and function in flow.parents(loop)
        for prompt in refined_prompts(flow)
        for loop in flow.loops_around(prompt)
    )


def _is_initial(flow: Contents, node: ast.AST) -> bool:
    if isinstance(node, ast.IfExp):
        return _is_initial(flow, node.body) or _is_initial(flow, node.orelse)
    if isinstance(node, ast.Tuple):
        return any(_is_initial(flow, one) for one in node.elts)
    if isinstance(node, ast.List):
        return len(node.elts) == 1 and _is_initial(flow, node.elts[0])
    return isinstance(node, ast.Name) and node.id == flow.initial
