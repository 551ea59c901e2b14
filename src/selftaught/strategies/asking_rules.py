"""Rules for the way of asking: whom, about what, how often, with what in the prompt.

A rule returns the node that shows its strategy, or None.
"""

import ast
from collections.abc import Iterator

from selftaught.strategies.dataflow import Dataflow, called
from selftaught.strategies.patterns import (
    holds_two_programs,
    is_constant,
    is_draw,
    is_luck,
    names_in,
)
from selftaught.strategies.search_rules import genetic, tree_search


def bandit(flow: Dataflow) -> ast.AST | None:
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
    return None


def _is_ucb(node: ast.AST) -> bool:
    names = {called(n) for n in ast.walk(node) if isinstance(n, ast.Call)}
    has_root = "sqrt" in names or any(
        isinstance(n, ast.BinOp) and isinstance(n.op, ast.Pow) and is_constant(n.right, 0.5)
        for n in ast.walk(node)
    )
    return has_root and bool(names & {"log", "log1p"})


def _is_epsilon_greedy(flow: Dataflow, node: ast.If | ast.IfExp) -> bool:
    test = node.test
    if not isinstance(test, ast.Compare) or not any(is_luck(n) for n in ast.walk(test)):
        return False
    branches = [node.body, node.orelse]
    if isinstance(node, ast.If) and not node.orelse:
        around = next(iter(flow.parents(node)), None)
        branches = [node.body, [n for n in getattr(around, "body", []) if n is not node]]
    explores = [any(is_draw(n) or _is_index_draw(n) for n in _walk(b)) for b in branches]
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
            yield from ast.walk(node)


def _is_index_draw(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and called(node) in ("randrange", "randint", "integers")


def decomposition(flow: Dataflow) -> ast.AST | None:
    """The program, or the problem, is taken apart, and the parts are asked about one by one."""
    taken_apart = [n for n in flow.nodes if _takes_apart(flow, n)]
    names = flow.reached_from(lambda n: n in taken_apart)
    for call in flow.prompts:
        message = flow.message_of(call)
        repeats = flow.loops_around(call) or any(
            isinstance(n, (ast.ListComp, ast.GeneratorExp))
            for text in flow.message_texts(call)
            for n in ast.walk(text)
        )
        if repeats and flow.depends(message, names):
            return taken_apart[0]
    return None


def _takes_apart(flow: Dataflow, node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = called(node)
    if name == "parse" and isinstance(node.func, ast.Attribute):
        # Parsing only to see whether a program compiles takes nothing apart.
        is_used = not isinstance(next(iter(flow.parents(node)), None), ast.Expr)
        return is_used and getattr(node.func.value, "id", "") == "ast"
    if name in ("split", "findall", "finditer"):
        constants = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
        return any(isinstance(c, str) and ("def " in c or "def\\s" in c) for c in constants)
    if name in ("splitlines", "split"):
        return False
    return False


def temperature_schedule(flow: Dataflow) -> ast.AST | None:
    """The sampling temperature changes from call to call."""
    for call in flow.prompts:
        for node in _temperatures(call):
            if isinstance(node, ast.Constant):
                continue
            loops = flow.loops_around(call)
            if any(_varies(flow, name.id, loops) for name in names_in(node)) or any(
                is_luck(n) or is_draw(n) for n in ast.walk(node)
            ):
                return node
    return None


def _temperatures(call: ast.Call) -> Iterator[ast.AST]:
    yield from (k.value for k in call.keywords if k.arg == "temperature")
    place = 2 if called(call) == "batch_prompt" else 3
    yield from call.args[place : place + 1]


def _varies(flow: Dataflow, name: str, loops: list[ast.AST], depth: int = 4) -> bool:
    """Whether a name is set anew inside a loop, or to something that is."""
    for loop in loops:
        for node in ast.walk(loop):
            if isinstance(node, (ast.For, ast.comprehension)) and name in {
                n.id for n in names_in(node.target)
            }:
                return True
            if isinstance(node, (ast.Assign, ast.AugAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                is_set = any(name == n.id for t in targets for n in _stored(t))
                if is_set and not isinstance(node.value, ast.Constant):
                    return True
    values = flow.assigned_to(name)
    if depth == 0 or not values:
        return False
    if len([v for v in values if not isinstance(v, ast.Constant)]) == 0:
        return False
    return any(
        _varies(flow, inner.id, loops, depth - 1)
        for value in values
        for inner in names_in(value)
        if inner.id != name
    )


def _stored(target: ast.AST) -> list[ast.Name]:
    return [n for n in names_in(target) if isinstance(n.ctx, ast.Store)]


def caching(flow: Dataflow) -> ast.AST | None:
    """No program is scored twice: scores are kept, or programs that were seen are skipped."""
    for node in flow.nodes:
        if isinstance(node, ast.FunctionDef):
            marks = {
                ast.unparse(d).partition("(")[0].rpartition(".")[2] for d in node.decorator_list
            }
            if marks & {"lru_cache", "cache"}:
                return node
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.In, ast.NotIn)):
            where = node.comparators[0]
            keeps = flow.answers | flow.values
            is_kept = isinstance(where, (ast.Name, ast.Attribute)) and flow.depends(where, keeps)
            if is_kept and flow.depends(node.left, flow.answers) and _is_store(flow, where):
                return node
    return None


def _is_store(flow: Dataflow, where: ast.AST) -> bool:
    name = where.id if isinstance(where, ast.Name) else getattr(where, "attr", "")
    made = flow.assigned_to(name)
    kinds = (ast.Dict, ast.Set, ast.DictComp, ast.SetComp)
    return any(
        isinstance(v, kinds) or (isinstance(v, ast.Call) and called(v) in ("set", "dict"))
        for v in made
    )


def ensembles(flow: Dataflow) -> ast.AST | None:
    """Several answers are put into one: joined in a prompt, or voted over."""
    for node in flow.nodes:
        if isinstance(node, ast.Call) and called(node) == "most_common":
            return node
    for call in flow.prompts:
        if genetic(flow):
            return None
        for text in flow.message_texts(call):
            for node in ast.walk(text):
                is_join = isinstance(node, ast.Call) and called(node) == "join"
                if is_join and _joins_programs(flow, node):
                    return node
        if holds_two_programs(flow, call):
            return call
    return None


def _joins_programs(flow: Dataflow, node: ast.AST) -> bool:
    assert isinstance(node, ast.Call)
    return any(flow.depends(argument, flow.answers) for argument in node.args)


def personas(flow: Dataflow) -> ast.AST | None:
    """The role that the model is given changes from call to call."""
    for call in flow.prompts:
        role = call.args[0] if call.args else None
        for keyword in call.keywords:
            if keyword.arg == "expertise":
                role = keyword.value
        if role is None or isinstance(role, ast.Constant):
            continue
        loops = flow.loops_around(call)
        if any(is_draw(n) for n in ast.walk(role)) or any(
            _varies(flow, name.id, loops) for name in names_in(role)
        ):
            return role
        inner = [p for p in flow.parents(call) if isinstance(p, (ast.ListComp, ast.GeneratorExp))]
        targets = {n.id for p in inner for g in p.generators for n in names_in(g.target)}
        if targets & {n.id for n in names_in(role)}:
            return role
    return None


def feedback(flow: Dataflow) -> ast.AST | None:
    """Scores, or what the utility says about a program, go into the next prompt."""
    said = flow.reached_from(
        lambda n: isinstance(n, ast.Attribute) and n.attr in ("feedback", "outcome")
    )
    numbers = flow.values - flow.answers
    for call in flow.prompts:
        for text in flow.message_texts(call):
            for node in ast.walk(text):
                if isinstance(node, ast.Attribute) and node.attr == "feedback":
                    return node
                if isinstance(node, ast.FormattedValue) and (
                    flow.depends(node.value, said) or flow.depends(node.value, numbers)
                ):
                    return node
    return None
