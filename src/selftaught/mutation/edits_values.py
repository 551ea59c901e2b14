"""First-order edits of constants and operators: what a program computes with.

Every edit takes a draft and a random source, changes the draft's tree in place and returns True,
or returns False and leaves it as it was because the program has no place for it.
"""

import ast
import math
from random import Random

from selftaught.mutation.draft import Draft, Place
from selftaught.mutation.kinds import kind, wanted
from selftaught.mutation.syntax import clone, loads, nodes, stored_names

_LARGEST = 10**9

_ARITHMETIC: tuple[type[ast.operator], ...] = (
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.Div,
    ast.FloorDiv,
    ast.Mod,
)
_ORDER: tuple[type[ast.cmpop], ...] = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
_COUNTERPART: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}


def value_of(node: ast.AST) -> int | float | None:
    """The value of a numeric constant; None for anything else, True and False included."""
    if not isinstance(node, ast.Constant) or isinstance(node.value, bool):
        return None
    return node.value if isinstance(node.value, (int, float)) else None


def is_number(place: Place) -> bool:
    """Whether a numeric constant stands in a place."""
    return value_of(place.node) is not None


def number(value: int | float) -> ast.expr:
    """Return the expression of a number; a negative one is written with its sign before it."""
    if value < 0:
        return ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=-value))
    return ast.Constant(value=value)


def varied(value: int | float, random: Random) -> int | float:
    """Return another number near, above or below one, of the same type."""
    way = random.random()
    is_whole = isinstance(value, int)
    value = max(-_LARGEST, min(_LARGEST, value))
    new: int | float
    if way < 0.5:
        new = value * math.exp(random.gauss(0.0, 0.8)) if value else random.choice((1, 2, 0.1))
    elif way < 0.75:
        new = value + random.choice((-1, 1, 1, 2))
    elif way < 0.85:
        new = random.choice((0, 1, 2))
    elif way < 0.95:
        new = value * random.choice((2, 3, 10)) / random.choice((1, 1, 2))
    else:
        new = -value
    new = max(-_LARGEST, min(_LARGEST, new))
    if is_whole:
        rounded = round(new)
        return rounded if rounded != value else value + random.choice((-1, 1))
    return float(f"{new:.4g}")


def change_constant(draft: Draft, random: Random) -> bool:
    """Give a numeric constant another value; an integer stays one."""
    place = draft.pick(random, is_number)
    value = None if place is None else value_of(place.node)
    if place is None or value is None:
        return False
    place.put(number(varied(value, random)))
    return True


def change_loop_bound(draft: Draft, random: Random) -> bool:
    """Change how often a `for` over a range, or a loop bounded by a number, goes round."""
    # A loop over as many items as there are is seldom the better for more passes.
    place = draft.pick(random, lambda p: _is_loop_bound(p) and is_number(p))
    if place is None or random.random() < 0.2:
        place = draft.pick(random, _is_loop_bound)
    if place is None:
        return False
    node = place.node
    value = value_of(node)
    if value is not None:
        factor = random.choice((0.25, 0.5, 2, 3, 5, 10))
        place.put(number(max(1, round(min(_LARGEST, value) * factor))))
        return True
    fewer: tuple[type[ast.operator], ...] = (ast.Sub, ast.FloorDiv)
    more: tuple[type[ast.operator], ...] = (ast.Add, ast.Mult)
    # More passes than items would run past the end of what the loop's variable indexes.
    operator = random.choice(fewer if _counts_items(place) else fewer + more)
    step = random.choice((1, 2) if operator in (ast.Add, ast.Sub) else (2, 3))
    place.put(ast.BinOp(node, operator(), ast.Constant(step)))
    return True


def _counts_items(place: Place) -> bool:
    """Whether a range is no loop's own, or the loop's variable is used as an index."""
    around = [] if place.function is None else nodes(place.function)
    counted = {
        name
        for node in around
        if isinstance(node, (ast.For, ast.comprehension)) and node.iter is place.owner
        for name in stored_names(node.target)
    }
    return not counted or any(
        isinstance(node, ast.Subscript) and any(loads(node.slice, name) for name in counted)
        for node in around
    )


def _is_loop_bound(place: Place) -> bool:
    owner = place.owner
    return (
        isinstance(owner, ast.Call)
        and place.field == "args"
        and isinstance(owner.func, ast.Name)
        and owner.func.id == "range"
        and not isinstance(place.node, ast.Starred)
    )


def swap_arithmetic(draft: Draft, random: Random) -> bool:
    """Put another arithmetic operator in the place of one."""
    place = draft.pick(random, lambda p: isinstance(p.node, ast.BinOp) and kind(p.node) == "number")
    if place is None or not isinstance(place.node, ast.BinOp):
        return False
    node = place.node
    if random.random() < 0.12:
        node.left, node.right = node.right, node.left
        return True
    others = [op for op in _ARITHMETIC if not isinstance(node.op, op)]
    if _must_be_whole(place) and ast.Div in others:
        others.remove(ast.Div)
    node.op = random.choice(others)()
    return True


def _must_be_whole(place: Place) -> bool:
    """Whether a number in a place is an index or the bound of a range."""
    return isinstance(place.owner, (ast.Subscript, ast.Slice)) or _is_loop_bound(place)


def swap_comparison(draft: Draft, random: Random) -> bool:
    """Put another comparison in the place of one."""
    place = draft.pick(random, lambda p: isinstance(p.node, ast.Compare))
    if place is None or not isinstance(place.node, ast.Compare):
        return False
    node = place.node
    at = random.randrange(len(node.ops))
    operator = type(node.ops[at])
    if operator in _COUNTERPART:
        node.ops[at] = _COUNTERPART[operator]()
    else:
        node.ops[at] = random.choice([op for op in _ORDER if op is not operator])()
    return True


def swap_boolean(draft: Draft, random: Random) -> bool:
    """Exchange `and` and `or`, or negate a condition."""
    place = draft.pick(
        random,
        lambda p: (
            isinstance(p.node, ast.BoolOp)
            or (wanted(p) == "truth" and not isinstance(p.owner, ast.UnaryOp))
        ),
    )
    if place is None:
        return False
    node = place.node
    if isinstance(node, ast.BoolOp) and random.random() < 0.7:
        node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        place.put(node.operand)
    elif isinstance(node, ast.Constant):
        place.put(ast.Constant(not node.value))
    else:
        place.put(ast.UnaryOp(ast.Not(), node))
    return True


def change_augmented_assignment(draft: Draft, random: Random) -> bool:
    """Change the operator of `x += e`, or turn it into `x = e` and back."""
    found = [
        (block, i)
        for block in draft.blocks
        for i, statement in enumerate(block.body)
        if isinstance(statement, ast.AugAssign)
        or (
            isinstance(statement, ast.Assign)
            and isinstance(statement.targets[0], ast.Name)
            and kind(statement.value) == "number"
            and loads(block.function, statement.targets[0].id) > 0
        )
    ]
    if not found:
        return False
    block, i = random.choice(found)
    statement = block.body[i]
    if isinstance(statement, ast.AugAssign):
        if random.random() < 0.2:
            block.body[i] = ast.Assign([statement.target], statement.value, lineno=1)
        else:
            others = [op for op in _ARITHMETIC if not isinstance(statement.op, op)]
            statement.op = random.choice(others[:3])()
    elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        operator = random.choice((ast.Add, ast.Sub))()
        block.body[i] = ast.AugAssign(statement.targets[0], operator, statement.value)
    return True


def wrap_number(draft: Draft, random: Random) -> bool:
    """Take the absolute value or the negative of a numeric expression."""
    place = draft.pick(random, _is_numeric)
    if place is None:
        return False
    if random.random() < 0.5:
        place.put(ast.Call(ast.Name("abs", ast.Load()), [place.node], []))
    else:
        place.put(ast.UnaryOp(ast.USub(), place.node))
    return True


def scale_number(draft: Draft, random: Random) -> bool:
    """Multiply a numeric expression by a constant, or add one to it."""
    place = draft.pick(random, _is_numeric)
    if place is None:
        return False
    is_whole = _seems_whole(place.node)
    if random.random() < 0.6:
        factor = random.choice((2, 3) if is_whole else (0.5, 0.9, 0.99, 1.01, 1.1, 1.5, 2, 3))
        place.put(ast.BinOp(place.node, ast.Mult(), ast.Constant(factor)))
    else:
        offset = random.choice((1, 1, 2) if is_whole else (1, 1, 2, 0.1, 0.01, 1e-6))
        operator = random.choice((ast.Add, ast.Sub))()
        place.put(ast.BinOp(place.node, operator, ast.Constant(offset)))
    return True


def _seems_whole(node: ast.expr) -> bool:
    """Whether an expression counts: it holds a whole number or a length, and no fraction."""
    inside = nodes(node)
    values = [value_of(inner) for inner in inside]
    fractions = any(isinstance(value, float) for value in values)
    divides = any(isinstance(n, ast.BinOp) and isinstance(n.op, ast.Div) for n in inside)
    counts = loads(node, "len") > 0 or any(isinstance(value, int) for value in values)
    return counts and not fractions and not divides


def _is_numeric(place: Place) -> bool:
    if isinstance(place.node, (ast.Constant, ast.Slice, ast.Starred)):
        return False
    if isinstance(place.owner, (ast.Subscript, ast.Slice)):
        return False
    if isinstance(place.owner, ast.Call) and wanted(place) == "number":
        return isinstance(place.owner.func, ast.Name) and place.owner.func.id != "range"
    return kind(place.node) == "number" or (
        wanted(place) == "number" and isinstance(place.owner, ast.Compare)
    )


def change_slice(draft: Draft, random: Random) -> bool:
    """Move, drop or negate a bound of a slice, or reverse it."""
    place = draft.pick(random, lambda p: isinstance(p.node, ast.Slice))
    if place is None or not isinstance(place.node, ast.Slice):
        return False
    part = place.node
    bound = "lower" if random.random() < 0.5 else "upper"
    old: ast.expr | None = getattr(part, bound)
    way = random.random()
    if way < 0.15:
        part.step = None if part.step is not None else number(-1)
    elif way < 0.35 and old is not None:
        setattr(part, bound, None)
    elif old is None:
        setattr(part, bound, number(random.choice((1, 1, 2, -1))))
    else:
        step = ast.Constant(random.choice((1, 1, 2)))
        setattr(part, bound, ast.BinOp(old, random.choice((ast.Add, ast.Sub))(), step))
    return True


def hoist_constant(draft: Draft, random: Random) -> bool:
    """Give a constant a name and let another place of the same kind use it too."""
    place = draft.pick(random, lambda p: p.function is not None and is_number(p))
    if place is None or place.function is None or not isinstance(place.node, ast.Constant):
        return False
    whole = isinstance(place.node.value, int)
    others = [
        p
        for p in draft.places
        if p.function is place.function
        and isinstance(p.node, ast.Constant)
        and p.node is not place.node
        and is_number(p)
        and isinstance(p.node.value, int) is whole
    ]
    if not others:
        return False
    name = draft.fresh("amount")
    start = 1 if ast.get_docstring(place.function, clean=False) is not None else 0
    value = clone(place.node)
    for used in (place, random.choice(others)):
        used.put(ast.Name(name, ast.Load()))
    place.function.body.insert(start, ast.Assign([ast.Name(name, ast.Store())], value, lineno=1))
    return True
