"""A rough guess at what an expression is, so that edits exchange like for like.

Guesses raise the share of mutated programs that run; a wrong one costs a proposal, no more.
"""

import ast
from typing import Literal

from selftaught.mutation.draft import Draft, Place
from selftaught.mutation.syntax import nodes

Kind = Literal["number", "truth", "sequence", "text", "function", "object", ""]

_NUMBER_CALLS = frozenset({"abs", "float", "int", "len", "round", "sum", "pow", "ord", "divmod"})
_SEQUENCE_CALLS = frozenset(
    {"list", "sorted", "tuple", "range", "reversed", "zip", "map", "filter", "enumerate", "set"}
)
_NUMBER_MODULES = frozenset({"math", "random"})
_ORDER = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)


def kind(node: ast.expr) -> Kind:
    """What an expression seems to be, by itself; empty where its text does not tell."""
    if isinstance(node, ast.Constant):
        return _kind_of_constant(node.value)
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.Add | ast.Mult):
            for side in (node.left, node.right):
                if (side_kind := kind(side)) in ("sequence", "text"):
                    return side_kind
        return "number"
    if isinstance(node, ast.UnaryOp):
        return "truth" if isinstance(node.op, ast.Not) else "number"
    if isinstance(node, ast.Compare):
        return "truth"
    if isinstance(node, ast.BoolOp):
        kinds = {kind(value) for value in node.values}
        return kinds.pop() if len(kinds) == 1 else ""
    if isinstance(node, ast.IfExp):
        return kind(node.body) or kind(node.orelse)
    if isinstance(node, ast.Call):
        return _kind_of_call(node)
    if isinstance(node, (ast.List, ast.ListComp, ast.Tuple, ast.Set, ast.GeneratorExp)):
        return "sequence"
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
        return "sequence"
    if isinstance(node, ast.JoinedStr):
        return "text"
    return "function" if isinstance(node, ast.Lambda) else ""


def _kind_of_constant(value: object) -> Kind:
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, (int, float)):
        return "number"
    return "text" if isinstance(value, str) else ""


def _kind_of_call(node: ast.Call) -> Kind:
    called = node.func
    if isinstance(called, ast.Name):
        if called.id in _NUMBER_CALLS:
            return "number"
        if called.id in _SEQUENCE_CALLS:
            return "sequence"
    elif (
        isinstance(called, ast.Attribute)
        and isinstance(called.value, ast.Name)
        and called.value.id in _NUMBER_MODULES
        and called.attr not in ("choice", "sample")
    ):
        return "number"
    return ""


def wanted(place: Place) -> Kind:
    """What the surroundings of a place ask for; empty where they do not tell."""
    owner, field = place.owner, place.field
    if isinstance(owner, (ast.BinOp, ast.UnaryOp, ast.AugAssign)):
        if isinstance(owner, ast.UnaryOp) and isinstance(owner.op, ast.Not):
            return "truth"
        return "number"
    if isinstance(owner, ast.Compare):
        return "number" if isinstance(owner.ops[0], _ORDER) else ""
    if isinstance(owner, (ast.For, ast.comprehension)) and field == "iter":
        return "sequence"
    if isinstance(owner, (ast.If, ast.While, ast.IfExp)) and field == "test":
        return "truth"
    if isinstance(owner, ast.Subscript):
        return "sequence" if field == "value" else "number"
    if isinstance(owner, ast.Slice):
        return "number"
    if isinstance(owner, ast.Call):
        return _wanted_by_call(owner, field)
    if isinstance(owner, ast.keyword):
        return "function" if owner.arg == "key" else ""
    return "object" if isinstance(owner, ast.Attribute) else ""


def _wanted_by_call(call: ast.Call, field: str) -> Kind:
    if field == "func":
        return "function"
    if isinstance(call.func, ast.Name):
        if call.func.id in ("range", "abs", "int", "float", "round"):
            return "number"
        if call.func.id in ("len", "sum", "sorted", "list", "reversed", "enumerate", "any", "all"):
            return "sequence"
        if call.func.id in ("max", "min") and len(call.args) == 1:
            return "sequence"
    return ""


def kinds_of_names(draft: Draft) -> dict[str, set[Kind]]:
    """What each name of a program is used as, over all its uses and assignments."""
    found: dict[str, set[Kind]] = {}
    for place in draft.places:
        if isinstance(place.node, ast.Name):
            found.setdefault(place.node.id, set()).add(wanted(place))
    for node in nodes(draft.tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, set()).add(kind(node.value))
        elif isinstance(node, ast.FormattedValue) and isinstance(node.value, ast.Name):
            found.setdefault(node.value.id, set()).add("text")
    for kinds in found.values():
        kinds.discard("")
    return found


def guess(place: Place, names: dict[str, set[Kind]]) -> set[Kind]:
    """What may stand in a place: what the expression is, what is asked for, what its name is."""
    kinds: set[Kind] = {kind(place.node), wanted(place)}
    if isinstance(place.node, ast.Name):
        kinds |= names.get(place.node.id, set())
    kinds.discard("")
    return kinds
