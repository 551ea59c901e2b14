"""Higher-order templates at single places of an improver: a choice, a request, the score itself.

A template takes a draft, the shape found in it and a random source; it changes the draft's tree
in place and returns True, or returns False and leaves it as it was because it does not fit.
"""

import ast
from random import Random

from selftaught.mutation.draft import Draft, FunctionNode, Place
from selftaught.mutation.shape import Shape, choices, keeps_solution, source_calls
from selftaught.mutation.syntax import (
    built,
    clone,
    expression,
    is_docstring,
    loads,
    nodes,
    same,
    statements,
)

_ITERATES = frozenset({"max", "min", "sorted", "list", "tuple", "set", "enumerate", "zip", "map"})

_REMEMBERED = """
class {name}:

    def __init__(self, score):
        self.score = score
        self.known = {{}}

    def __call__(self, candidate):
        if candidate not in self.known:
            self.known[candidate] = self.score(candidate)
        return self.known[candidate]

    def __getattr__(self, name):
        return getattr(self.score, name)
"""

_SAFE = """
def {safe}(candidate):
    try:
        return {score}(candidate)
    except Exception:
        return float('-inf')
"""

_SPREAD = """
for {turn} in {turns}:
    try:
        {target} = [*{target}, *0]
    except Exception:
        break
"""


def keep_incumbent(draft: Draft, shape: Shape, random: Random) -> bool:
    """Let the solution itself stand among the candidates, or beside the result."""
    first = random.random() < 0.75
    sites = [c for c in choices(draft, shape) if not keeps_solution(c.candidates, c.solution)]
    if sites:
        site = random.choice(sites)
        own = ast.Name(site.solution, ast.Load())
        if isinstance(site.candidates, ast.List):
            site.candidates.elts.insert(0 if first else len(site.candidates.elts), own)
            return True
        others = ast.Starred(site.candidates, ast.Load())
        site.call.args[0] = ast.List([own, others] if first else [others, own], ast.Load())
        return True
    returns = [
        place
        for place in draft.places
        if isinstance(place.owner, ast.Return)
        and place.function is shape.function
        and not (isinstance(place.node, ast.Name) and place.node.id == shape.solution)
        and not any(place.node is choice.call for choice in choices(draft, shape))
    ]
    if not returns:
        return False
    place = random.choice(returns)
    new = built(ast.Call, f"max(0, key={shape.score})")
    own = ast.Name(shape.solution, ast.Load())
    new.args = [ast.List([own, place.node], ast.Load())]
    place.put(new)
    return True


def spread_request(draft: Draft, shape: Shape, random: Random) -> bool:
    """Ask the source several times for a list in the place of once, and join the answers."""
    return _spread(draft, shape, random, f"range({random.choice((1, 2, 3, 3, 5))})", None)


def vary_constant(draft: Draft, shape: Shape, random: Random) -> bool:
    """Let a constant of a request differ: over a loop's passes, or over several requests."""
    found = [
        (place, keyword)
        for place in source_calls(draft, shape)
        if isinstance(place.node, ast.Call)
        for keyword in place.node.keywords
        if isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, float)
    ]
    if not found:
        return False
    place, keyword = random.choice(found)
    constant = keyword.value
    if not isinstance(constant, ast.Constant) or not isinstance(constant.value, float):
        return False
    base = constant.value
    loop = _loop_around(draft, place)
    if loop is not None:
        keyword.value = _over_passes(base, draft.loop_variable(loop), random)
        return True
    called = _call_in_loop(draft, place.function)
    if called is not None and isinstance(place.function, ast.FunctionDef):
        around, call = called
        name = draft.fresh(keyword.arg or "amount")
        place.function.args.args.append(ast.arg(name))
        place.function.args.defaults.append(ast.Constant(base))
        keyword.value = ast.Name(name, ast.Load())
        call.keywords.append(
            ast.keyword(name, _over_passes(base, draft.loop_variable(around), random))
        )
        return True
    factors = random.choice(((0.5, 1.5), (0.3, 0.7, 1.3), (1.2, 1.4, 1.6), (0.8, 0.5, 0.2)))
    turns = ", ".join(f"{base * factor:.3g}" for factor in factors)
    return _spread(draft, shape, random, f"({turns})", keyword)


def _over_passes(base: float, turn: str, random: Random) -> ast.expr:
    way = random.choice(
        (
            f"{base} * 0.8 ** {turn}",
            f"{base} * (0.6 + {turn} % 3 * 0.4)",
            f"min({2 * base:.3g}, {base} * 1.2 ** {turn})",
        )
    )
    return expression(way)


def _spread(
    draft: Draft, shape: Shape, random: Random, turns: str, varied: ast.keyword | None
) -> bool:
    asked = {id(place.node) for place in source_calls(draft, shape)}
    found = [
        (block.body, i, statement)
        for block in draft.blocks
        for i, statement in enumerate(block.body)
        if isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Name)
        and isinstance(statement.value, ast.Call)
        and any(id(node) in asked for node in nodes(statement.value))
        and (varied is None or any(node is varied for node in nodes(statement.value)))
        and _is_listed(statement.targets[0].id, draft, block.function)
    ]
    if not found:
        return False
    body, i, statement = random.choice(found)
    target = statement.targets[0]
    if not isinstance(target, ast.Name):
        return False
    turn = draft.fresh(varied.arg or "amount") if varied is not None else "_"
    loop = statements(_SPREAD.format(turn=turn, turns=turns, target=target.id))[0]
    again = clone(statement.value)
    if varied is not None:
        for node in nodes(again):
            if isinstance(node, ast.keyword) and same(node, varied):
                node.value = ast.Name(turn, ast.Load())
    for node in nodes(loop):
        if isinstance(node, ast.Starred) and isinstance(node.value, ast.Constant):
            node.value = again
    body.insert(i + 1, loop)
    return True


def _is_listed(name: str, draft: Draft, function: FunctionNode, hops: int = 2) -> bool:
    """Whether a variable of a function is gone through, or ordered, as a list is.

    What a call makes of it counts too, so many assignments further on: `b = read(a); max(b)`.
    """
    for place in draft.places:
        if not (isinstance(place.node, ast.Name) and place.node.id == name):
            continue
        owner = place.owner
        if isinstance(owner, ast.Starred):
            return True
        if isinstance(owner, (ast.For, ast.comprehension)) and place.field == "iter":
            return True
        if not isinstance(owner, ast.Call) or place.field != "args":
            continue
        if isinstance(owner.func, ast.Name) and owner.func.id in _ITERATES:
            return True
        if hops and any(
            other != name and _is_listed(other, draft, function, hops - 1)
            for other in _assigned_from(function, owner)
        ):
            return True
    return False


def _assigned_from(function: FunctionNode, value: ast.expr) -> list[str]:
    return [
        target.id
        for node in nodes(function)
        if isinstance(node, ast.Assign) and node.value is value
        for target in node.targets
        if isinstance(target, ast.Name)
    ]


def remember_scores(draft: Draft, shape: Shape, random: Random) -> bool:
    """Never ask for the score of the same candidate twice."""
    body = shape.function.body
    if any(
        isinstance(statement, ast.Assign)
        and isinstance(statement.value, ast.Call)
        and isinstance(statement.targets[0], ast.Name)
        and statement.targets[0].id == shape.score
        for statement in body
    ):
        return False
    name = draft.fresh("_Remembered")
    wrapped = statements(f"{shape.score} = {name}({shape.score})")
    at = 1 if is_docstring(body[0]) else 0
    body[at:at] = wrapped
    where = draft.tree.body.index(shape.function)
    draft.tree.body[where:where] = statements(_REMEMBERED.format(name=name))
    return True


def guard_candidates(draft: Draft, shape: Shape, random: Random) -> bool:
    """Leave out candidates that are None or doubled, or let a failing score count as lowest."""
    sites = choices(draft, shape)
    if not sites:
        return False
    site = random.choice(sites)
    way = random.random()
    if way < 0.4:
        name = draft.fresh("candidate")
        there = built(ast.ListComp, f"[{name} for {name} in 0 if {name} is not None]")
        there.generators[0].iter = site.candidates
        site.call.args[0] = ast.BoolOp(ast.Or(), [there, expression(f"[{site.solution}]")])
        return True
    if way < 0.7:
        if isinstance(site.candidates, ast.Call) and loads(site.candidates.func, "dict"):
            return False
        new = built(ast.Call, "dict.fromkeys(0)")
        new.args[0] = site.candidates
        site.call.args[0] = new
        return True
    key = next(keyword for keyword in site.call.keywords if keyword.arg == "key")
    around = site.place.function
    if not isinstance(key.value, ast.Name) or around is None or key.value.id != shape.score:
        return False
    safe = draft.fresh("safe_score")
    at = 1 if is_docstring(around.body[0]) else 0
    if at < len(around.body) and loads(around.body[at], shape.score):
        at += 1
    around.body[at:at] = statements(_SAFE.format(safe=safe, score=shape.score))
    key.value = ast.Name(safe, ast.Load())
    return True


def _loop_around(draft: Draft, place: Place) -> ast.For | None:
    """The innermost `for` with a plain variable around a place, within its function."""
    around: ast.For | None = None
    for block in draft.blocks:
        for statement in block.body:
            if (
                isinstance(statement, ast.For)
                and block.function is place.function
                and isinstance(statement.iter, ast.Call)
                and loads(statement.iter.func, "range")
                and any(node is place.node for node in nodes(statement))
            ):
                around = statement
    return around


def _call_in_loop(draft: Draft, function: FunctionNode | None) -> tuple[ast.For, ast.Call] | None:
    """A loop that calls a function of the module that is the program's own, and the call."""
    if function is None or not function.name.startswith("_"):
        return None
    for place in draft.places:
        call = place.node
        if (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Name)
            and call.func.id == function.name
        ):
            loop = _loop_around(draft, place)
            if loop is not None:
                return loop, call
    return None
