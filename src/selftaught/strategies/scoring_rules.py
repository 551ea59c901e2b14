"""Rules for what becomes of scores: kept, so that none is asked for twice, and told to the model.

A rule returns the node that shows its strategy, or None.
"""

import ast

from selftaught.strategies.contents import Contents
from selftaught.strategies.dataflow import called
from selftaught.strategies.patterns import names_in, text_parts
from selftaught.strategies.syntax import walk

_CACHES = {"lru_cache", "cache"}
_DICTS = (ast.Dict, ast.DictComp)
_OTHERS = (ast.Set, ast.List, ast.SetComp, ast.ListComp)
_LOOPS = (ast.For, ast.While)


def caching(flow: Contents) -> ast.AST | None:
    """No program is scored twice: scores are kept, or programs that were seen are skipped."""
    return next((node for node in flow.nodes if _spares_scoring(flow, node)), None)


def _spares_scoring(flow: Contents, node: ast.AST) -> bool:
    match node:
        case ast.FunctionDef():
            marks = {ast.unparse(d).partition("(")[0] for d in node.decorator_list}
            return bool({mark.rpartition(".")[2] for mark in marks} & _CACHES)
        case ast.Call():
            return _caches_utility(flow, node)
        case ast.Compare(ops=[ast.In() | ast.NotIn()]):
            return _is_known(flow, node.left, node.comparators[0])
        case ast.Compare(left=left, ops=[ast.Is() | ast.IsNot()]):
            # found = scores.get(program); if found is None: ...
            names = {name.id for name in names_in(left)}
            looked_up = [left, *(v for name in names for v in flow.assigned_to(name))]
            return any(_is_lookup(flow, n) for value in looked_up for n in walk(value))
        case ast.Try() if any("KeyError" in ast.dump(handler) for handler in node.handlers):
            tried = [part for statement in node.body for part in walk(statement)]
            return any(
                isinstance(part, ast.Subscript) and _is_known(flow, part.slice, part.value)
                for part in tried
            )
        case _:
            return False


def _is_lookup(flow: Contents, node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(attr="get", value=where), args=[key, *_]):
            return _is_known(flow, key, where)
        case _:
            return False


def _caches_utility(flow: Contents, call: ast.Call) -> bool:
    """Whether the utility, or a function that scores, is wrapped: `cache(utility)`."""
    outer = call.func if isinstance(call.func, ast.Call) else call
    if called(outer) not in _CACHES:
        return False
    names = {name.id for argument in call.args for name in names_in(argument)}
    return any(name in flow.utility or f"{name}()" in flow.scores for name in names)


def _is_known(flow: Contents, key: ast.AST, where: ast.AST) -> bool:
    """Whether a program is looked up among those that were scored or seen before."""
    if not isinstance(where, (ast.Name, ast.Attribute)):
        return False
    if not any(flow.holds_reply(name) for name in names_in(key)):
        return False
    made = flow.assigned_to(where.id if isinstance(where, ast.Name) else where.attr)
    # What is begun anew in every pass forgets.
    lasting = [v for v in made if not any(isinstance(n, _LOOPS) for n in flow.parents(v))]
    if any(_makes(value, _DICTS, "dict") for value in lasting):
        return flow.depends(where, flow.values)
    is_collection = any(_makes(value, _OTHERS, "set", "list") for value in lasting)
    kept = [name for value in made for name in names_in(value)]
    return is_collection and any(flow.holds_reply(name) for name in kept)


def _makes(value: ast.AST, displays: tuple[type[ast.AST], ...], *names: str) -> bool:
    is_call = isinstance(value, ast.Call) and called(value) in names
    return is_call or isinstance(value, displays)


def feedback(flow: Contents) -> ast.AST | None:
    """Scores, or what the utility says about a program, go into the next prompt."""
    said = flow.reached_from(_is_said)
    for call in flow.prompts:
        for text in flow.message_texts(call):
            for node in walk(text):
                if _is_said(node):
                    return node
                for part in text_parts(node):
                    if flow.depends(part, said) or _is_score_alone(flow, part):
                        return node
    return None


def _is_said(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in ("feedback", "outcome")


def _is_score_alone(flow: Contents, node: ast.AST) -> bool:
    return flow.holds_score(node) and not flow.holds_reply(node) and not flow.holds_program(node)
