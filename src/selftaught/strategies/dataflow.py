"""Where values go in a program: from answers of the model and from scores into names.

Names are followed through assignments, loops, containers, and calls of functions defined in the
same text. Neither the order of statements nor the scope of names is looked at: a name that holds
an answer anywhere counts as holding one everywhere. Improvers are short, so that is close enough.
"""

import ast
import threading
import warnings
from collections.abc import Callable, Iterator

from selftaught.strategies.live import without_dead_code
from selftaught.strategies.syntax import children, walk

MAX_NODES = 20_000
# Filters are shared by all threads: one at a time may change them.
_WARNING_FILTERS = threading.Lock()
_INTO = {"append", "extend", "add", "insert", "update", "setdefault", "appendleft", "put", "push"}
_INTO_FIRST = {"heappush", "heappushpop", "insort"}
ASKS = {"prompt", "batch_prompt"}
COUNTS = {"len", "range", "isinstance", "any", "all", "bool", "count", "hash", "id"}
_NOT_CARRYING = COUNTS | ASKS
_SCORES = {"map", "evaluate", "initial"}

IsSource = Callable[[ast.AST], bool]


def _never(node: ast.AST) -> bool:
    return False


class Place(ast.Subscript):
    """What unpacking takes from one place of a value; the text does not hold this node."""

    def __init__(self, value: ast.expr, place: int) -> None:
        super().__init__(value=value, slice=ast.Constant(place), ctx=ast.Load())


class Dataflow:
    """A parsed improver with what its names may hold.

    Args:
        source: the program's text.

    Attributes:
        tree: its syntax tree, without what never runs.
        nodes: every node of it.
        initial: the name of `improve_algorithm`'s first parameter.
        functions: defined anywhere in the text, by name.
        prompts: the calls that ask the language model.
        answers: names that may hold what the model answered, or something made of it.
        values: names that may hold scores.
        assigned: pairs of a name and an expression that flows into it.

    Raises:
        SyntaxError, ValueError, RecursionError: the text is not a Python program, or one with
            more than MAX_NODES syntax nodes, which nobody would read either.
    """

    def __init__(self, source: str) -> None:
        with _WARNING_FILTERS, warnings.catch_warnings():
            # An odd escape in a generated program is nobody's business here.
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
        if sum(1 for _ in walk(tree)) > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES:,} syntax nodes")
        self.tree = without_dead_code(tree)
        self.nodes = list(walk(self.tree))
        self._children = {node: children(node) for node in self.nodes}
        self._parents = {child: node for node in self.nodes for child in self._children[node]}
        self._parts_carrying: dict[ast.AST, list[ast.AST]] = {}
        self.functions = {n.name: n for n in self.nodes if isinstance(n, ast.FunctionDef)}
        self._constructors = {
            n.name: method
            for n in self.nodes
            if isinstance(n, ast.ClassDef)
            for method in n.body
            if isinstance(method, ast.FunctionDef) and method.name == "__init__"
        }
        entry = self.functions.get("improve_algorithm")
        names = [arg.arg for arg in entry.args.args] if entry else []
        self.initial = names[0] if names else "initial_solution"
        self.utility = {names[1] if len(names) > 1 else "utility", "utility"}
        self.prompts = [
            n
            for n in self.nodes
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr in ASKS
        ]
        self.assigned = list(self._assignments())
        asking = set(self.prompts)
        self.answers = self.reached_from(lambda n: n in asking)
        self.values = self.reached_from(self.is_score)

    def reached_from(self, is_source: IsSource, stops: IsSource = _never) -> set[str]:
        """Names that a value may reach: variables, and functions that may return it as `f()`.

        Args:
            is_source: says of an expression that the value comes from there.
            stops: says of an expression that the value does not come through.
        """
        reached: set[str] = set()
        before = -1
        while len(reached) != before:
            before = len(reached)
            for target, value in self.assigned:
                if target not in reached and self.depends(value, reached, is_source, stops):
                    reached.add(target)
        return reached

    def depends(
        self,
        node: ast.AST | None,
        names: set[str],
        is_source: IsSource = _never,
        stops: IsSource = _never,
    ) -> bool:
        """Whether an expression may hold what one of the names holds, or is a source itself."""
        if node is None:
            return False
        for part in self._carrying(node, stops):
            if isinstance(part, ast.Name) and part.id in names:
                return True
            if isinstance(part, ast.Call) and f"{called(part)}()" in names:
                return True
            if is_source(part):
                return True
        return False

    def children(self, node: ast.AST) -> list[ast.AST]:
        """The nodes right below one."""
        known = self._children.get(node)
        # A `Place` is none of the tree's.
        return children(node) if known is None else known

    def _carrying(self, node: ast.AST, stops: IsSource) -> list[ast.AST]:
        """The parts of an expression whose value may be in its own, the whole one first.

        A count or a test carries none, and an answer is new, whatever was asked.
        """
        known = self._parts_carrying.get(node) if stops is _never else None
        if known is not None:
            return known
        parts: list[ast.AST] = []
        todo = [node]
        while todo:
            here = todo.pop()
            if stops(here):
                continue
            parts.append(here)
            is_new = isinstance(here, ast.Call) and called(here) in _NOT_CARRYING
            if not is_new and not isinstance(here, ast.Compare):
                todo += reversed(self.children(here))
        if stops is _never:
            self._parts_carrying[node] = parts
        return parts

    def loops_around(self, node: ast.AST) -> list[ast.AST]:
        """The loops that repeat a node, the innermost first, through calls in the same text."""
        found: list[ast.AST] = []
        seen: set[str] = set()
        todo = [node]
        while todo:
            here: ast.AST | None = todo.pop()
            while here is not None:
                if isinstance(here, (ast.For, ast.While)) and here not in found:
                    found.append(here)
                if isinstance(here, ast.FunctionDef) and here.name not in seen:
                    seen.add(here.name)
                    calls = self.calls_of(here.name)
                    todo += calls
                    found += [call for call in calls if self._is_inside(call, here)]
                here = self._parents.get(here)
        return found

    def calls_of(self, name: str) -> list[ast.Call]:
        """The calls of a function by its name, also where it is handed to `map` or a pool."""
        return [
            n
            for n in self.nodes
            if isinstance(n, ast.Call)
            and (
                called(n) == name
                or (
                    called(n) in ("map", "submit", "starmap")
                    and any(isinstance(a, ast.Name) and a.id == name for a in n.args)
                )
            )
        ]

    def message_of(self, call: ast.Call) -> ast.AST:
        """The part of a prompt that says what is wanted: its second argument, or all of them."""
        for keyword in call.keywords:
            if keyword.arg in ("message", "messages"):
                return keyword.value
        return call.args[1] if len(call.args) > 1 else call

    def message_texts(self, call: ast.Call) -> list[ast.AST]:
        """The expressions that a message is made of, through names and functions of the text."""
        found: list[ast.AST] = []
        todo: list[ast.AST] = [self.message_of(call)]
        seen: set[str] = set()
        while todo:
            part = todo.pop()
            found.append(part)
            for node in walk(part):
                if isinstance(node, ast.Name) and node.id not in seen:
                    seen.add(node.id)
                    todo += [v for t, v in self.assigned if t == node.id and _is_text(v)]
                if isinstance(node, ast.Call) and called(node) in self.functions:
                    name = called(node)
                    if f"{name}()" not in seen:
                        seen.add(f"{name}()")
                        todo += [v for t, v in self.assigned if t == f"{name}()"]
        return found

    def assigned_to(self, name: str) -> list[ast.AST]:
        """Everything that a name may be set to."""
        return [value for target, value in self.assigned if target == name]

    def _is_inside(self, node: ast.AST, around: ast.AST) -> bool:
        here: ast.AST | None = node
        while here is not None:
            if here is around:
                return True
            here = self._parents.get(here)
        return False

    def parents(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes around one, the innermost first."""
        here = self._parents.get(node)
        while here is not None:
            yield here
            here = self._parents.get(here)

    def is_score(self, node: ast.AST) -> bool:
        """Whether a node asks for a score, or hands the utility on as a function."""
        if isinstance(node, ast.Call) and called(node) in self.utility:
            return True
        if isinstance(node, ast.Attribute) and node.attr in _SCORES:
            return isinstance(node.value, ast.Name) and node.value.id in self.utility
        # Handed on as a function: map(utility, ...), key=utility.
        if isinstance(node, ast.Call) and called(node) == "map" and node.args:
            return isinstance(node.args[0], ast.Name) and node.args[0].id in self.utility
        return isinstance(node, ast.keyword) and (
            isinstance(node.value, ast.Name) and node.value.id in self.utility
        )

    def _assignments(self) -> Iterator[tuple[str, ast.AST]]:
        """Pairs of a name and what flows into it."""
        for node in self.nodes:
            match node:
                case ast.Assign():
                    for target in node.targets:
                        yield from _pairs(target, node.value)
                case ast.AugAssign() | ast.NamedExpr():
                    yield from _pairs(node.target, node.value)
                case ast.AnnAssign() if node.value is not None:
                    yield from _pairs(node.target, node.value)
                case ast.For() | ast.comprehension():
                    yield from _pairs(node.target, node.iter)
                case ast.withitem() if node.optional_vars is not None:
                    yield from _pairs(node.optional_vars, node.context_expr)
                case ast.Call():
                    yield from self._into(node)
                case ast.FunctionDef():
                    yield from self._returned(node)
                case _:
                    pass

    def _into(self, call: ast.Call) -> Iterator[tuple[str, ast.AST]]:
        if isinstance(call.func, ast.Attribute) and call.func.attr in _INTO:
            for argument in (*call.args, *(k.value for k in call.keywords)):
                yield from _pairs(call.func.value, argument)
        if called(call) in _INTO_FIRST and call.args:
            for argument in call.args[1:]:
                yield from _pairs(call.args[0], argument)
        function = self.functions.get(called(call)) or self._constructors.get(called(call))
        if function is None:
            return
        parameters = [arg.arg for arg in function.args.args]
        if parameters[:1] == ["self"]:
            parameters = parameters[1:]
        yield from zip(parameters, call.args, strict=False)
        for keyword in call.keywords:
            if keyword.arg is not None:
                yield keyword.arg, keyword.value

    def _returned(self, function: ast.FunctionDef) -> Iterator[tuple[str, ast.AST]]:
        for node in walk(function):
            if isinstance(node, (ast.Return, ast.Yield)) and node.value is not None:
                yield f"{function.name}()", node.value


def called(call: ast.Call) -> str:
    """The last name of what a call calls: `sqrt` of math.sqrt(2)."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _pairs(target: ast.AST, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, (ast.Tuple, ast.List)):
        parts = value.elts if isinstance(value, (ast.Tuple, ast.List)) else []
        for place, one in enumerate(target.elts):
            is_matched = len(parts) == len(target.elts)
            yield from _pairs(one, parts[place] if is_matched else Place(value, place))
    elif isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, (ast.Subscript, ast.Starred)):
        yield from _pairs(target.value, value)
    elif isinstance(target, ast.Attribute):
        yield target.attr, value
        yield from _pairs(target.value, value)


def _is_text(node: ast.AST) -> bool:
    """Whether an expression builds a text or texts, and is not the result of asking."""
    return not any(isinstance(n, ast.Call) and called(n) in ASKS for n in walk(node))
