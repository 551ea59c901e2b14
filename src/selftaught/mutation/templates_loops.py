"""Higher-order templates that put a loop around a whole improver, or change such a loop.

A template takes a draft, the shape found in it and a random source; it changes the draft's tree
in place and returns True, or returns False and leaves it as it was because it does not fit.

What the loops rely on is the improver API: a source that may not be asked any more raises, and a
score that may not be asked any more gives 0. So a loop ends at the first exception, and what was
scored first wins a tie.
"""

import ast
from collections import Counter
from random import Random

from selftaught.mutation.draft import Draft, FunctionNode, parameters
from selftaught.mutation.shape import Shape, choices, source_calls
from selftaught.mutation.syntax import (
    built,
    clone,
    contains,
    is_docstring,
    loads,
    nodes,
    same,
    statements,
    stored_names,
)

# A loop within a loop within a loop has had its chance.
_MOST_STEPS = 2
_PASSES = (3, 4, 6, 10, 20, 20)
# More than a language model's budget holds calls: the loop ends when the source declines.
_PLENTY_OF_PASSES = 30

_ITERATE = """
{best} = {x}
for _ in range({passes}):
    try:
        {new} = {step}({from_best})
    except Exception:
        break
    if {new} is not None:
        {best} = {new}
return {best}
"""

_CLIMB = """
{best} = {x}
{value} = {score}({x})
for _ in range({passes}):
    try:
        {new} = {step}({parent})
    except Exception:
        break
    {new_value} = {score}({new})
    if {new_value} > {value}:
        {best} = {new}
        {value} = {new_value}
return {best}
"""

_KEEP_TOP = """
{top} = [({score}({x}), {x})]
for {turn} in range({passes}):
    {best} = {top}[{turn} // 2 % len({top})][1]
    try:
        {new} = {step}({from_best})
    except Exception:
        break
    {top}.append(({score}({new}), {new}))
    {top}.sort(key=lambda {pair}: {pair}[0], reverse=True)
    del {top}[{most}:]
return {top}[0][1]
"""

_FALL_BACK = """
try:
    {new} = {step}({from_x})
except Exception:
    return {x}
return {x} if {new} is None else {new}
"""


_LOCAL = ("best", "value", "new", "new_value", "top", "turn", "pair")


def iterate(draft: Draft, shape: Shape, random: Random) -> bool:
    """Feed the result back as the next solution, until the source declines."""
    return _wrap(draft, shape, random, _ITERATE)


def climb(draft: Draft, shape: Shape, random: Random) -> bool:
    """Iterate from the best solution so far: hill climbing."""
    return _wrap(draft, shape, random, _CLIMB.replace("{parent}", "{from_best}"))


def restart(draft: Draft, shape: Shape, random: Random) -> bool:
    """Start from the initial solution again: every so many passes of a loop, or each time."""
    calls = _step_calls_in_loops(draft)
    if not calls:
        return _wrap(draft, shape, random, _CLIMB.replace("{parent}", "{from_x}"))
    loop, call, at = random.choice(calls)
    if isinstance(call.args[at], ast.IfExp) or shape.solution in stored_names(shape.function):
        return False
    turn = draft.loop_variable(loop)
    every = random.choice((2, 3, 4))
    text = f"{shape.solution} if {turn} % {every} == {every - 1} else 0"
    again = built(ast.IfExp, text)
    again.orelse = call.args[at]
    call.args[at] = again
    return True


def keep_top(draft: Draft, shape: Shape, random: Random) -> bool:
    """Keep the few best solutions so far and start from each in turn."""
    return _wrap(draft, shape, random, _KEEP_TOP)


def fall_back(draft: Draft, shape: Shape, random: Random) -> bool:
    """Return the solution that was given where the improver fails."""
    return _wrap(draft, shape, random, _FALL_BACK)


def unwrap(draft: Draft, shape: Shape, random: Random) -> bool:
    """Drop the loop around a step, so that the step alone is the improver."""
    called = {
        node.func.id
        for node in nodes(shape.function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    for step in draft.tree.body:
        if (
            isinstance(step, ast.FunctionDef)
            and step.name.startswith("_")
            and step.name in called
            and same(step.args, shape.function.args)
        ):
            step.name = shape.function.name
            draft.tree.body.remove(shape.function)
            return True
    return False


def _wrap(draft: Draft, shape: Shape, random: Random, text: str) -> bool:
    """Rename the improver to a step, and put a new function with its name around it."""
    step = shape.function
    own = [n.name for n in draft.tree.body if isinstance(n, ast.FunctionDef)]
    wrapped = sum(name.startswith("_") and "_step" in name for name in own)
    if wrapped >= _MOST_STEPS or step.decorator_list or loads(step, step.name):
        return False
    name = step.name
    step.name = draft.fresh(f"_{name}_step")
    names = parameters(step)
    local = {wish: draft.fresh(wish) if wish in names else wish for wish in _LOCAL}
    best = local["best"]
    filled = text.format(
        x=shape.solution,
        score=shape.score,
        step=step.name,
        passes=random.choice(_PASSES),
        most=random.choice((2, 3, 4)),
        **local,
        from_x=", ".join(names),
        from_best=", ".join(best if n == shape.solution else n for n in names),
    )
    around = built(ast.FunctionDef, f"def {name}():\n    pass")
    around.args = clone(step.args)
    around.returns = None if step.returns is None else clone(step.returns)
    around.body = statements(filled)
    if is_docstring(step.body[0]) and len(step.body) > 1:
        around.body.insert(0, step.body.pop(0))
    draft.tree.body.insert(draft.tree.body.index(step) + 1, around)
    return True


_CLIMB_INSIDE = """
for _ in range({passes}):
    try:
        pass
    except Exception:
        break
"""

_TAKE_BETTER = """
for {new} in 0:
    {new_value} = {score}({new})
    if {new_value} > {value}:
        {x} = {new}
        {value} = {new_value}
"""


def climb_inside(draft: Draft, shape: Shape, random: Random) -> bool:
    """Turn `...; return max(candidates, key=score)` into hill climbing without a second score."""
    return _climb_inside(draft, shape, random.choice(_PASSES))


def _climb_inside(draft: Draft, shape: Shape, passes: int) -> bool:
    body = shape.function.body
    ended = _ending(draft, shape)
    if ended is None:
        return False
    rest, candidates, scorer = ended
    first = 0
    while first < len(rest) and _is_preamble(rest[first], shape):
        first += 1
    if first == len(rest):
        return False
    value = draft.fresh("value")
    take = _TAKE_BETTER.format(
        x=shape.solution,
        score=scorer,
        value=value,
        new=draft.fresh("new"),
        new_value=draft.fresh("new_value"),
    )
    judged = built(ast.For, take)
    judged.iter = candidates
    loop = built(ast.For, _CLIMB_INSIDE.format(passes=passes))
    attempt = loop.body[0]
    assert isinstance(attempt, ast.Try)
    attempt.body = [*rest[first:], judged]
    before = statements(f"{value} = {scorer}({shape.solution})")
    body[:] = [*rest[:first], *before, loop, *statements(f"return {shape.solution}")]
    return True


def _ending(draft: Draft, shape: Shape) -> tuple[list[ast.stmt], ast.expr, str] | None:
    """What stands before the final choice, what is chosen from, and the name of the score."""
    body = shape.function.body
    last = body[-1]
    if not isinstance(last, ast.Return):
        return None
    call: ast.expr | None = last.value
    rest = body[:-1]
    if isinstance(call, ast.Name) and rest and isinstance(rest[-1], ast.Assign):
        made = rest[-1]
        if isinstance(made.targets[0], ast.Name) and made.targets[0].id == call.id:
            call = made.value
            rest = rest[:-1]
    for choice in choices(draft, shape):
        if choice.call is not call or not isinstance(choice.call.func, ast.Name):
            continue
        key = choice.call.keywords[0].value
        bound_inside = {node.name for node in rest if isinstance(node, ast.FunctionDef)}
        if choice.call.func.id != "max" or not isinstance(key, ast.Name):
            continue
        if key.id not in bound_inside:
            return rest, choice.candidates, key.id
    return None


def _is_preamble(statement: ast.stmt, shape: Shape) -> bool:
    """Whether a statement may stay before the loop: it neither reads the solution nor asks."""
    if loads(statement, shape.solution) or contains(
        statement, lambda node: isinstance(node, ast.Call) and loads(node.func, shape.source) > 0
    ):
        return False
    plain = isinstance(statement, (ast.Assign, ast.Import, ast.ImportFrom))
    return plain or is_docstring(statement)


def use_whole_budget(draft: Draft, shape: Shape, random: Random) -> bool:
    """Let a loop that asks the source go on until the source declines."""
    loops = [loop for loop, _ in _bounded_loops(draft) if _asks(draft, shape, loop)]
    if not loops:
        return _climb_inside(draft, shape, _PLENTY_OF_PASSES) or _wrap(
            draft, shape, random, _ITERATE.replace("{passes}", str(_PLENTY_OF_PASSES))
        )
    loop = random.choice(loops)
    bound = loop.iter.args[-1] if isinstance(loop.iter, ast.Call) else None
    if not isinstance(bound, ast.Constant) or not isinstance(bound.value, int):
        return False
    if bound.value >= 100:
        return False
    bound.value = max(_PLENTY_OF_PASSES, 2 * bound.value)
    if not contains(loop, lambda node: isinstance(node, ast.Try)):
        safe = built(ast.Try, "try:\n    pass\nexcept Exception:\n    break")
        safe.body = loop.body
        loop.body = [safe]
    return True


def stop_early(draft: Draft, shape: Shape, random: Random) -> bool:
    """End a loop after a pass that changed nothing."""
    found = [
        (loop, name)
        for loop, function in _bounded_loops(draft)
        if _asks(draft, shape, loop) and not contains(loop, _is_stop)
        for name in _carried(loop, function)
    ]
    if not found:
        return False
    loop, name = random.choice(found)
    before = draft.fresh(f"{name}_before")
    first = statements(f"{before} = {name}")
    last = statements(f"if {name} == {before}:\n    break")
    loop.body = [*first, *loop.body, *last]
    return True


def _carried(loop: ast.For, function: FunctionNode) -> list[str]:
    """The variables that a loop takes from before it and assigns anew."""
    here, everywhere = _stores(loop), _stores(function)
    targets = stored_names(loop.target)
    return [
        name
        for name, times in here.items()
        if name not in targets and (name in parameters(function) or everywhere[name] > times)
    ]


def _stores(node: ast.AST) -> Counter[str]:
    return Counter(
        n.id for n in nodes(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    )


def _is_stop(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Compare)
        and isinstance(node.test.ops[0], ast.Eq)
        and isinstance(node.body[0], ast.Break)
    )


def _bounded_loops(draft: Draft) -> list[tuple[ast.For, FunctionNode]]:
    """Every `for` over a range with the function around it, outermost first."""
    return [
        (statement, block.function)
        for block in draft.blocks
        for statement in block.body
        if isinstance(statement, ast.For)
        and isinstance(statement.iter, ast.Call)
        and isinstance(statement.iter.func, ast.Name)
        and statement.iter.func.id == "range"
        and statement.iter.args
    ]


def _asks(draft: Draft, shape: Shape, loop: ast.For) -> bool:
    """Whether a loop asks the source, or calls a step that does."""
    asked = {id(place.node) for place in source_calls(draft, shape)}
    inside = list(nodes(loop))
    return any(id(node) in asked for node in inside) or any(_is_step_call(n) for n in inside)


def _is_step_call(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id.startswith("_")
        and len(node.args) >= 3
        and not any(isinstance(arg, ast.Starred) for arg in node.args)
    )


def _step_calls_in_loops(draft: Draft) -> list[tuple[ast.For, ast.Call, int]]:
    """Calls of a step in a loop, with the index of the argument that the loop assigns."""
    found: list[tuple[ast.For, ast.Call, int]] = []
    for loop, _ in _bounded_loops(draft):
        names = stored_names(loop)
        for node in nodes(loop):
            if isinstance(node, ast.Call) and _is_step_call(node):
                found.extend(
                    (loop, node, i)
                    for i, arg in enumerate(node.args)
                    if isinstance(arg, ast.Name) and arg.id in names
                )
    return found
