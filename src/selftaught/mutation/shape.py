"""The shape of an improver, recognised by what a program does with its parameters.

An improver is a function f(solution, score, source, ...): it calls one parameter on candidates,
maps it over them or orders them by it, calls a method of another to get new texts, and returns
something of the first one's type. No function or parameter is known by its name, so the templates
fit any program of that shape.
"""

import ast
from typing import NamedTuple

from selftaught.mutation.draft import Draft, Place, parameters
from selftaught.mutation.syntax import children, loads, nodes

_ORDERS = frozenset({"max", "min", "sorted"})
_MAPS = frozenset({"map", "filter"})
# What the improver API offers beside the call itself.
_SCORES = frozenset({"map", "evaluate"})
_NO_SOLUTION = (
    ast.Constant,
    ast.Compare,
    ast.BinOp,
    ast.Dict,
    ast.List,
    ast.Tuple,
    ast.ListComp,
    ast.Lambda,
)


class Shape(NamedTuple):
    """A function of an improver's shape, and which of its parameters plays which part.

    Attributes:
        function: the function, at module level; nothing else in the program calls it.
        solution: the parameter that holds what is to be improved.
        score: the parameter that is called on candidates.
        source: the parameter whose methods give new texts.
    """

    function: ast.FunctionDef
    solution: str
    score: str
    source: str


def find_shape(draft: Draft) -> Shape | None:
    """Return the last function of the module that has an improver's shape, or None."""
    fitting = [
        function
        for function in reversed(draft.tree.body)
        if isinstance(function, ast.FunctionDef)
        and not function.name.startswith("_")
        and _takes_plain_arguments(function)
    ]
    if not fitting:
        return None
    scores = _called(draft)
    sources = _asked(draft)
    for function in fitting:
        if not _returns_solution(function) or any(
            loads(other, function.name) for other in draft.tree.body
        ):
            continue
        names = parameters(function)
        score = next((name for name in names if name in scores), None)
        source = next((name for name in names if name in sources and name != score), None)
        solution = next((name for name in names if name not in (score, source)), None)
        if score and source and solution:
            return Shape(function, solution, score, source)
    return None


def _takes_plain_arguments(function: ast.FunctionDef) -> bool:
    spec = function.args
    extra = spec.vararg or spec.kwarg or spec.kwonlyargs
    return not extra and len(spec.posonlyargs) + len(spec.args) >= 3


def _returns_solution(function: ast.FunctionDef) -> bool:
    values = _own_values(function)
    return bool(values) and not any(isinstance(value, _NO_SOLUTION) for value in values)


def _own_values(function: ast.FunctionDef) -> list[ast.expr]:
    """What a function itself returns, functions inside it left out."""
    values: list[ast.expr] = []
    todo: list[ast.AST] = list(function.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Return) and node.value is not None:
            values.append(node.value)
        if not isinstance(node, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
            todo.extend(children(node))
    return values


def _called(draft: Draft) -> set[str]:
    """Names that are called on something, or that something is ordered or mapped by."""
    names: set[str] = set()
    for place in draft.places:
        if not isinstance(place.node, ast.Name):
            continue
        owner = place.owner
        if isinstance(owner, ast.Attribute) and owner.attr in _SCORES:
            names.add(place.node.id)
            continue
        is_called = isinstance(owner, ast.Call) and place.field == "func" and len(owner.args) == 1
        is_key = isinstance(owner, ast.keyword) and owner.arg == "key"
        is_mapped = (
            isinstance(owner, ast.Call)
            and isinstance(owner.func, ast.Name)
            and owner.func.id in _MAPS
            and place.field == "args"
            and place.at == 0
        )
        if is_called or is_key or is_mapped:
            names.add(place.node.id)
    return names


def _asked(draft: Draft) -> set[str]:
    """Names of which a method is called with arguments."""
    return {
        call.func.value.id
        for call in (place.node for place in draft.places)
        if isinstance(call, ast.Call)
        and (call.args or call.keywords)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
    }


class Choice(NamedTuple):
    """Where a program takes the best of several candidates: `max(candidates, key=score)`.

    Attributes:
        call: the call.
        candidates: its first argument.
        solution: the name that the solution goes by there.
        place: where the call stands.
    """

    call: ast.Call
    candidates: ast.expr
    solution: str
    place: Place


def choices(draft: Draft, shape: Shape) -> list[Choice]:
    """Return every place where candidates are ordered by the score and the solution is known."""
    scorers = scoring_names(draft, shape)
    found: list[Choice] = []
    for place in draft.places:
        call = place.node
        if not (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Name)
            and call.func.id in _ORDERS
            and len(call.args) == 1
            and not isinstance(call.args[0], ast.Starred)
        ):
            continue
        keys = [keyword.value for keyword in call.keywords if keyword.arg == "key"]
        if not keys or not any(
            isinstance(node, ast.Name) and node.id in scorers for node in nodes(keys[0])
        ):
            continue
        if draft.binder(shape.solution, place.function) is not None:
            found.append(Choice(call, call.args[0], shape.solution, place))
    return found


def scoring_names(draft: Draft, shape: Shape) -> set[str]:
    """The score's own name, and functions of one parameter inside others that call it."""
    names = {shape.score}
    for function, around in draft.functions.items():
        if around is not None and len(parameters(function)) == 1:
            calls = {
                node.func.id
                for node in nodes(function)
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            }
            if shape.score in calls:
                names.add(function.name)
    return names


def source_calls(draft: Draft, shape: Shape) -> list[Place]:
    """Return every place where a method of the source is called with arguments."""
    return [
        place
        for place in draft.places
        if isinstance(place.node, ast.Call)
        and (place.node.args or place.node.keywords)
        and isinstance(place.node.func, ast.Attribute)
        and isinstance(place.node.func.value, ast.Name)
        and place.node.func.value.id == shape.source
    ]


def keeps_solution(candidates: ast.expr, solution: str) -> bool:
    """Whether candidates are a list display that holds the solution itself."""
    return isinstance(candidates, (ast.List, ast.Tuple)) and any(
        isinstance(item, ast.Name) and item.id == solution for item in candidates.elts
    )
