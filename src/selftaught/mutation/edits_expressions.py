"""First-order edits of expressions: which values a program uses, and which function it asks.

Every edit takes a draft and a random source, changes the draft's tree in place and returns True,
or returns False and leaves it as it was because the program has no place for it.
"""

import ast
from random import Random
from typing import TypeVar

from selftaught.mutation.draft import Draft, Place, parameters
from selftaught.mutation.kinds import Kind, guess, kind, kinds_of_names
from selftaught.mutation.syntax import clone, expression, same, stored_names

T = TypeVar("T")

# Families of functions that may stand for one another.
_SIBLINGS: tuple[tuple[str, ...], ...] = (
    ("min", "max"),
    ("sum", "max", "min", "len"),
    ("any", "all"),
    ("sorted", "list", "reversed"),
    ("int", "round", "float", "abs"),
    ("floor", "ceil"),
    ("sin", "cos", "tanh"),
    ("sqrt", "log1p", "log", "exp"),
    ("random", "gauss"),
    ("uniform", "gauss", "triangular"),
    ("randint", "randrange"),
    ("choice", "min", "max"),
)
_TAKES_KEY = frozenset({"min", "max", "sorted"})
_TAKES_SEVERAL = frozenset({"min", "max", "uniform", "gauss", "triangular", "randrange"})
_PLAIN = (ast.Starred, ast.Slice)


def change_sibling_call(draft: Draft, random: Random) -> bool:
    """Call a related function in the place of one: `max` for `min`, `any` for `all`."""
    place = draft.pick(random, lambda p: isinstance(p.node, ast.Call) and bool(_siblings(p.node)))
    if place is None or not isinstance(place.node, ast.Call):
        return False
    call = place.node
    new = random.choice(_siblings(call))
    if isinstance(call.func, ast.Attribute):
        if new in _TAKES_KEY:
            call.func = ast.Name(new, ast.Load())
        else:
            call.func.attr = new
    elif isinstance(call.func, ast.Name):
        call.func.id = new
    if new not in _TAKES_KEY:
        call.keywords = []
    if new == "reversed":
        place.put(ast.Call(ast.Name("list", ast.Load()), [call], []))
    return True


def _siblings(call: ast.Call) -> list[str]:
    if isinstance(call.func, ast.Name):
        name = call.func.id
        if name == "range":
            return []
    elif isinstance(call.func, ast.Attribute):
        name = call.func.attr
    else:
        return []
    families = [
        family
        for family in _SIBLINGS
        if name in family and not (name in _TAKES_KEY and "choice" in family)
    ]
    return [
        other
        for family in families
        for other in family
        if other != name and _takes(other, len(call.args))
    ]


def _takes(function: str, arguments: int) -> bool:
    if function == "randint":
        return arguments == 2
    return arguments < 2 or function in _TAKES_SEVERAL


def replace_variable(draft: Draft, random: Random) -> bool:
    """Read another variable of the same scope that is used in the same way."""
    place = draft.pick(
        random,
        lambda p: p.function is not None and isinstance(p.node, ast.Name) and p.field != "func",
    )
    if place is None or not isinstance(place.node, ast.Name):
        return False
    kinds = kinds_of_names(draft)
    others = [
        (name, kinds.get(name, set()))
        for name in _names_in_scope(draft, place)
        if name != place.node.id
    ]
    name = _alike(kinds.get(place.node.id, set()), others, random)
    if name is None:
        return False
    place.put(ast.Name(name, ast.Load()))
    return True


def _names_in_scope(draft: Draft, place: Place) -> list[str]:
    names: dict[str, None] = {}
    for function in draft.enclosing(place.function):
        names.update(dict.fromkeys(parameters(function)))
        names.update(dict.fromkeys(stored_names(function)))
    names.pop("_", None)
    return list(names)


def replace_expression(draft: Draft, random: Random) -> bool:
    """Put another expression of the program where one of its kind stands."""
    place = draft.pick(random, lambda p: p.function is not None and not isinstance(p.node, _PLAIN))
    if place is None or place.field == "func":
        return False
    names = kinds_of_names(draft)
    others = [
        (p.node, guess(p, names))
        for p in draft.places
        if p.function is place.function
        and not isinstance(p.node, _PLAIN)
        and p.field != "func"
        and not same(p.node, place.node)
    ]
    new = _alike(guess(place, names), others, random)
    if new is None:
        return False
    place.put(clone(new))
    return True


def shrink_expression(draft: Draft, random: Random) -> bool:
    """Put a part of an expression in the place of the whole."""
    place = draft.pick(random, lambda p: p.field != "func" and bool(_parts(p.node)))
    if place is None:
        return False
    names = kinds_of_names(draft)
    parts = [
        (part, {kind(part)} - {""} or _kinds_of_name(part, names)) for part in _parts(place.node)
    ]
    part = _alike(guess(place, names), parts, random)
    if part is None:
        return False
    place.put(part)
    return True


def _kinds_of_name(node: ast.expr, names: dict[str, set[Kind]]) -> set[Kind]:
    return names.get(node.id, set()) if isinstance(node, ast.Name) else set()


def _alike(asked: set[Kind], options: list[tuple[T, set[Kind]]], random: Random) -> T | None:
    """Return an option of the kind asked for; seldom, or without one, an option of unknown kind."""
    sure = [option for option, kinds in options if kinds & asked]
    if sure and random.random() < 0.9:
        return random.choice(sure)
    unknown = [option for option, kinds in options if not (kinds and asked)]
    return random.choice(unknown or sure) if unknown or sure else None


def _parts(node: ast.expr) -> list[ast.expr]:
    """The expressions that an expression can shrink to."""
    if isinstance(node, ast.BinOp):
        return [node.left, node.right]
    if isinstance(node, ast.BoolOp):
        return list(node.values)
    if isinstance(node, ast.UnaryOp):
        return [node.operand]
    if isinstance(node, ast.IfExp):
        return [node.body, node.orelse]
    if isinstance(node, ast.Call):
        return [arg for arg in node.args if not isinstance(arg, ast.Starred)]
    if isinstance(node, ast.Subscript):
        return [node.value]
    return []


def swap_arguments(draft: Draft, random: Random) -> bool:
    """Swap two arguments of a call, or two items of a tuple or list."""
    place = draft.pick(random, lambda p: len(_items(p.node)) > 1)
    if place is None:
        return False
    items = _items(place.node)
    i, j = random.sample(range(len(items)), 2)
    items[i], items[j] = items[j], items[i]
    return True


def _items(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.Call):
        return node.args
    return node.elts if isinstance(node, (ast.Tuple, ast.List)) else []


def change_key_function(draft: Draft, random: Random) -> bool:
    """Change what `min`, `max` or `sorted` orders by, or in which direction."""
    place = draft.pick(
        random,
        lambda p: (
            isinstance(p.node, ast.Call)
            and isinstance(p.node.func, ast.Name)
            and p.node.func.id in _TAKES_KEY
            and len(p.node.args) == 1
        ),
    )
    if place is None or not isinstance(place.node, ast.Call):
        return False
    call = place.node
    key = next((keyword for keyword in call.keywords if keyword.arg == "key"), None)
    way = random.random()
    if key is None:
        text = random.choice(
            ("lambda item: -item", "lambda item: abs(item)", "len", "lambda item: item[-1]")
        )
        call.keywords.append(ast.keyword("key", expression(text)))
    elif way < 0.3:
        call.keywords.remove(key)
    elif isinstance(key.value, ast.Lambda):
        body = key.value.body
        if way < 0.6:
            key.value.body = ast.UnaryOp(ast.USub(), body)
        elif isinstance(body, ast.Subscript) and way < 0.8:
            body.slice = ast.Constant(random.choice((0, 1, -1)))
        else:
            key.value.body = ast.Call(ast.Name("abs", ast.Load()), [body], [])
    elif isinstance(call.func, ast.Name):
        call.func.id = "min" if call.func.id == "max" else "max"
    return True


def apply_twice(draft: Draft, random: Random) -> bool:
    """Apply a function to its own result: `v = f(v, ...)` becomes `v = f(f(v, ...), ...)`."""
    own = {function.name for function in draft.functions}
    place = draft.pick(random, lambda p: _feeds_itself(p, own))
    if place is None or not isinstance(place.node, ast.Call):
        return False
    call = place.node
    new = clone(call)
    target = _target(place)
    at = [
        i for i, arg in enumerate(call.args) if isinstance(arg, ast.Name) and arg.id in target
    ] or [0]
    new.args[random.choice(at)] = call
    place.put(new)
    return True


def _feeds_itself(place: Place, own: set[str]) -> bool:
    """Whether a call's value goes where one of its arguments came from, or may well do so."""
    call = place.node
    if not (isinstance(call, ast.Call) and call.args and isinstance(place.owner, ast.Assign)):
        return False
    if isinstance(call.args[0], ast.Starred):
        return False
    if _target(place) & {arg.id for arg in call.args if isinstance(arg, ast.Name)}:
        return True
    return isinstance(call.func, ast.Name) and call.func.id in own and len(call.args) == 1


def _target(place: Place) -> set[str]:
    if not isinstance(place.owner, ast.Assign):
        return set()
    return {target.id for target in place.owner.targets if isinstance(target, ast.Name)}


def change_range(draft: Draft, random: Random) -> bool:
    """Change start, end or step of a range: off by one, from one on, in steps of two."""
    place = draft.pick(
        random,
        lambda p: (
            isinstance(p.node, ast.Call)
            and isinstance(p.node.func, ast.Name)
            and p.node.func.id == "range"
            and 0 < len(p.node.args) < 4
            and not any(isinstance(arg, ast.Starred) for arg in p.node.args)
        ),
    )
    if place is None or not isinstance(place.node, ast.Call):
        return False
    args = place.node.args
    way = random.random()
    if len(args) == 1:
        if way < 0.5:
            args.insert(0, ast.Constant(1))
        elif way < 0.75:
            args[:] = [ast.Constant(0), args[0], ast.Constant(2)]
        else:
            args[0] = ast.BinOp(args[0], random.choice((ast.Add, ast.Sub))(), ast.Constant(1))
    elif way < 0.4:
        del args[0]
        del args[1:]
    elif len(args) == 3 and way < 0.7:
        del args[2]
    else:
        i = random.randrange(2)
        args[i] = ast.BinOp(args[i], random.choice((ast.Add, ast.Sub))(), ast.Constant(1))
    return True
