"""What a value is made of: the texts of programs, or scores. Both often share a container.

Pairs are followed place by place, `(score, program)` through lists, sorting and unpacking, and
objects field by field. Of `d[program] = score` the key counts as a reply of the model's and is read
with `d`, not with `d[...]`; as a program it is not followed.
"""

import ast
from collections.abc import Callable, Iterator

from selftaught.strategies.dataflow import ASKS, COUNTS, Dataflow, IsSource, called
from selftaught.strategies.syntax import walk

_PASSES_ITEMS = {"sorted", "max", "min", "list", "tuple", "reversed", "deque", "nlargest"}
_PASSES_ITEMS |= {"nsmallest", "heappop", "pop", "popleft", "next", "iter", "copy", "get", "filter"}
# Further than this no reader follows a pair, and there are only so many kinds of them.
_MAX_STEPS = 10
_MAX_TUPLES = 20
_TAKES_APART = {"splitlines", "parse", "walk"}


class Contents(Dataflow):
    """An improver with what its names are made of.

    Args:
        source: the program's text.

    Attributes:
        replies: names that may hold text of the model's.
        programs: names that may hold the text of a program that the model wrote: where the text
            uses `extract_code`, what that has found.
        scores: names that may hold scores.
        shown: what rules have found in the text, for others that build on it.

    Raises:
        SyntaxError, ValueError, RecursionError: as `Dataflow` does.
    """

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self._fields = _fields(self)
        self._known_tuples: dict[tuple[ast.AST, int], list[list[ast.expr]]] = {}
        self._known_parts: dict[ast.AST, list[ast.AST]] = {}
        extractions = {n for n in self.nodes if _is_call(n, {"extract_code"})}
        self.shown: dict[Callable[[Contents], ast.AST | None], ast.AST | None] = {}
        self._programs_from: set[ast.AST] = extractions or set(self.prompts)
        self.replies = self._reached(self._is_prompt, [*self.assigned, *_keys(self)])
        self.programs = self._reached(self._is_program, self.assigned)
        self.scores = self._reached(self._is_scoring, self.assigned)

    def holds_reply(self, node: ast.AST) -> bool:
        """Whether a value may hold text of the model's."""
        return self._holds(node, self.replies, self._is_prompt)

    def holds_program(self, node: ast.AST) -> bool:
        """Whether a value may hold a program that the model wrote."""
        return self._holds(node, self.programs, self._is_program)

    def holds_score(self, node: ast.AST) -> bool:
        """Whether a value may hold a score."""
        return self._holds(node, self.scores, self._is_scoring)

    def _is_prompt(self, node: ast.AST) -> bool:
        return node in self.prompts

    def _is_program(self, node: ast.AST) -> bool:
        return node in self._programs_from

    def _is_scoring(self, node: ast.AST) -> bool:
        return self.is_score(node) or (isinstance(node, ast.Call) and self.is_score(node.func))

    def _reached(self, is_source: IsSource, pairs: list[tuple[str, ast.AST]]) -> set[str]:
        reached: set[str] = set()
        before = -1
        pairs = [*pairs, *((name, one) for name, given in self._fields.items() for one in given)]
        while len(reached) != before:
            before = len(reached)
            reached |= {
                name
                for name, value in pairs
                if name not in reached and self._holds(value, reached, is_source)
            }
        return reached

    def _holds(self, node: ast.AST, names: set[str], is_source: IsSource) -> bool:
        todo: list[ast.AST] = [node]
        seen: set[int] = set()
        while todo:
            here = todo.pop()
            if id(here) in seen:
                continue
            seen.add(id(here))
            if is_source(here):
                return True
            if is_source == self._is_program and _is_call(here, _TAKES_APART):
                continue
            if isinstance(here, ast.Name) and (here.id in names or f"{here.id}{{}}" in names):
                return True
            if isinstance(here, ast.Subscript) and f"{_name(here.value)}{{}}" in names:
                # A value is read, and not the keys.
                if _name(here.value) in names:
                    return True
                continue
            if isinstance(here, ast.Call) and called(here) in self.functions:
                if f"{called(here)}()" in names:
                    return True
            elif isinstance(here, ast.Attribute) and here.attr in self._fields:
                if here.attr in names:
                    return True
            else:
                if here not in self._known_parts:
                    self._known_parts[here] = self._parts(here)
                todo += self._known_parts[here]
        return False

    def _parts(self, node: ast.AST) -> list[ast.AST]:
        """The parts of an expression that its value is made of."""
        match node:
            case ast.Compare() | ast.Lambda():
                return []
            case ast.Call():
                if called(node) in COUNTS | ASKS or self._is_scoring(node):
                    return []
                receiver = [node.func.value] if isinstance(node.func, ast.Attribute) else []
                options = [k.value for k in node.keywords if k.arg not in ("key", "default")]
                return [*receiver, *node.args, *options]
            case ast.Subscript():
                return self._chosen(node, _MAX_STEPS) or [node.value]
            case ast.IfExp():
                return [node.body, node.orelse]
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp():
                return [node.elt]
            case ast.DictComp():
                return [node.key, node.value]
            case _:
                return self.children(node)

    def _chosen(self, node: ast.Subscript, steps: int) -> list[ast.AST]:
        """What is taken from the tuples in a value; nothing where these are unknown."""
        index = node.slice
        if not isinstance(index, ast.Constant) or not isinstance(index.value, int):
            return []
        place = index.value
        items = self._tuples(node.value, steps)
        return [item[place] for item in items if place < len(item)]

    def _tuples(self, node: ast.AST, steps: int) -> list[list[ast.expr]]:
        """The tuples that a value is, or has as its items, as far as so many steps lead."""
        if steps == 0:
            return []
        if (node, steps) not in self._known_tuples:
            found = {tuple(map(id, one)): one for one in self._find_tuples(node, steps - 1)}
            self._known_tuples[node, steps] = list(found.values())[:_MAX_TUPLES]
        return self._known_tuples[node, steps]

    def _find_tuples(self, node: ast.AST, steps: int) -> list[list[ast.expr]]:
        inner: list[ast.AST] = []
        match node:
            case ast.Tuple():
                return [node.elts]
            case ast.Call() if called(node) == "zip":
                return [node.args]
            case ast.Call() if called(node) == "enumerate":
                return [[ast.Constant(0), *node.args[:1]]]
            case ast.Call() if called(node) == "items" and isinstance(node.func, ast.Attribute):
                return [[node.func.value, ast.Constant(0)]]
            case ast.Call() if called(node) in self.functions:
                inner += self.assigned_to(f"{called(node)}()")
            case ast.Call() if called(node) in _PASSES_ITEMS:
                inner += node.args
                inner += [node.func.value] if isinstance(node.func, ast.Attribute) else []
            case ast.List() | ast.Set():
                inner += node.elts
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp():
                inner.append(node.elt)
            case ast.BinOp():
                inner += [node.left, node.right]
            case ast.BoolOp():
                inner += node.values
            case ast.IfExp():
                inner += [node.body, node.orelse]
            case ast.Subscript():
                chosen = self._chosen(node, steps)
                found = [one for part in chosen for one in self._tuples(part, steps)]
                return found or self._tuples(node.value, steps)
            case ast.Name():
                inner += self.assigned_to(node.id)
            case ast.Attribute():
                inner += self.assigned_to(node.attr)
            case _:
                pass
        return [one for part in inner for one in self._tuples(part, steps)]


def _fields(flow: Dataflow) -> dict[str, list[ast.AST]]:
    """The fields of the text's classes, and what constructors are given for them."""
    fields: dict[str, list[ast.AST]] = {}
    for node in flow.nodes:
        if not isinstance(node, ast.ClassDef):
            continue
        declared = [
            n.target.id
            for n in node.body
            if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
        ]
        made = [n for n in flow.nodes if isinstance(n, ast.Call) and called(n) == node.name]
        for place, name in enumerate(declared):
            given = [call.args[place] for call in made if place < len(call.args)]
            given += [k.value for call in made for k in call.keywords if k.arg == name]
            fields.setdefault(name, []).extend(given)
        set_by_methods = {
            n.attr
            for n in walk(node)
            if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)
        }
        fields |= {name: fields.get(name, []) for name in set_by_methods}
    return fields


def _is_call(node: ast.AST, names: set[str]) -> bool:
    return isinstance(node, ast.Call) and called(node) in names


def _keys(flow: Dataflow) -> Iterator[tuple[str, ast.AST]]:
    """The keys that are set in containers, as `name{}`."""
    for node in flow.nodes:
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            yield f"{_name(node.value)}{{}}", node.slice


def _name(node: ast.AST) -> str:
    return getattr(node, "id", getattr(node, "attr", ""))
