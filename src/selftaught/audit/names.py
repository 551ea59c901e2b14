"""What the names of a program stand for: imports, the utility, the language model, constants.

A program is read as a whole, without following its flow: a name that is once bound to something
may stand for it anywhere. Where that is too coarse, it errs to the side of a finding.
"""

import ast
from collections.abc import Iterator
from functools import cached_property

from selftaught.audit.tables import BUILTINS

UTILITY = "utility"
MODEL = "language_model"
_PASSES = 4

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


class Names:
    """The names of one program.

    Attributes:
        imported: local names of modules and what was imported from them, to dotted names.
        starred: modules of which everything was imported, by line.
        bound: names that the program binds in any other way.
        values: expressions that a name, as variable, parameter or attribute, was given.
        handed: names, and attributes of any object, that stand for the utility or the model.
        functions: by name; methods and lambdas that a name was given among them.
    """

    def __init__(self, tree: ast.Module, entry_point: str) -> None:
        self.nodes = list(ast.walk(tree))
        self.imported: dict[str, str] = {}
        self.starred: dict[str, int] = {}
        self.bound: set[str] = set()
        self.values: dict[str, list[ast.expr]] = {}
        self.functions: dict[str, list[Function]] = {}
        self.classes: dict[str, ast.ClassDef] = {}
        self.handed: dict[str, str] = {}
        for node in self.nodes:
            self._bind(node)
        for function in self.functions.get(entry_point, []):
            names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
            self.handed.update(zip(names[1:3], (UTILITY, MODEL), strict=False))
        for name in (UTILITY, MODEL):
            if name not in self.functions and name not in self.classes:
                self.handed.setdefault(name, name)
        self._hand_on()

    def dotted(self, node: ast.AST) -> str | None:
        """The dotted name of what an expression stands for, or None where it is the program's."""
        match node:
            case ast.Name(id=name):
                if name in self.imported:
                    return self.imported[name]
                return f"builtins.{name}" if self.is_builtin(name) else None
            case ast.Attribute(value=value, attr=attr):
                base = self.dotted(value)
                return f"{base}.{attr}" if base else None
            case ast.Call(func=ast.Name(id="getattr"), args=[value, name, *_]):
                base, asked = self.dotted(value), text_of(name)
                return f"{base}.{asked}" if base and asked else None
            case ast.Call(func=func, args=[name, *_]) if self._imports(func):
                return text_of(name)
            case _:
                return None

    def is_builtin(self, name: str) -> bool:
        """Whether a name is one of the risky builtins, and the program binds no other under it."""
        return name in BUILTINS and name not in self.bound

    def role(self, node: ast.AST) -> str | None:
        """`utility` or `language_model` where an expression stands for one, else None."""
        match node:
            case ast.Name(id=name):
                return self.handed.get(name)
            case ast.Attribute(value=value, attr=attr):
                # An attribute of the handed objects themselves is another thing.
                return None if self.role(value) else self.handed.get(f".{attr}")
            case ast.NamedExpr(value=value):
                return self.role(value)
            case _:
                return None

    def truth(self, node: ast.expr, depth: int = 8) -> bool | None:
        """What a condition is by its constants: true, false, or None where that is open."""
        if depth == 0:
            return None
        match node:
            case ast.Constant(value=value):
                return bool(value)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = self.truth(operand, depth - 1)
                return None if inner is None else not inner
            case ast.Name(id=name):
                return self._worst([self.truth(v, depth - 1) for v in self.values.get(name, [])])
            case ast.Attribute(attr=attr):
                values = self.values.get(f".{attr}", [])
                return self._worst([self.truth(v, depth - 1) for v in values])
            case ast.IfExp(body=body, orelse=orelse):
                return self._worst([self.truth(body, depth - 1), self.truth(orelse, depth - 1)])
            case ast.Tuple(elts=elements) | ast.List(elts=elements) if elements:
                # A name that goes through these, one after another.
                return self._worst([self.truth(one, depth - 1) for one in elements])
            case _:
                return None

    def is_condition(self, node: ast.expr) -> bool:
        """Whether an expression, or what its name was given, decides or computes something."""
        if isinstance(node, ast.Name):
            return any(self._decides(value) for value in self.values.get(node.id, []))
        return self._decides(node)

    @staticmethod
    def _decides(node: ast.expr) -> bool:
        return isinstance(node, (ast.Compare, ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.IfExp))

    def is_open_parameter(self, node: ast.expr) -> bool:
        """Whether an expression is a name that nothing in the program gives a value."""
        return isinstance(node, ast.Name) and not self.values.get(node.id)

    @cached_property
    def docstrings(self) -> set[int]:
        """The ids of the nodes that are docstrings."""
        return {
            id(node.body[0].value)
            for node in self.nodes
            if isinstance(node, (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }

    @cached_property
    def annotations(self) -> set[int]:
        """The ids of all nodes within type annotations, which are read and not run."""
        roots = [
            annotation
            for node in self.nodes
            for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None))
            if isinstance(annotation, ast.expr)
        ]
        return {id(node) for root in roots for node in ast.walk(root)}

    @staticmethod
    def _worst(truths: list[bool | None]) -> bool | None:
        if False in truths:
            return False
        return True if truths and all(truths) else None

    def _imports(self, func: ast.expr) -> bool:
        return self.dotted(func) in ("builtins.__import__", "importlib.import_module")

    def _bind(self, node: ast.AST) -> None:
        match node:
            case ast.Import(names=names):
                for alias in names:
                    top = alias.name.partition(".")[0]
                    self.imported[alias.asname or top] = alias.name if alias.asname else top
            case ast.ImportFrom(module=module, names=names):
                for alias in names:
                    if alias.name == "*":
                        self.starred[module or ""] = node.lineno
                    else:
                        self.imported[alias.asname or alias.name] = f"{module or ''}.{alias.name}"
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                self.bound.add(name)
                self.functions.setdefault(name, []).append(node)
                self._bind_parameters(node)
            case ast.Lambda():
                self._bind_parameters(node)
            case ast.ClassDef(name=name):
                self.bound.add(name)
                self.classes[name] = node
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                self.bound.add(name)
            case ast.ExceptHandler(name=str(name)):
                self.bound.add(name)
            case _:
                pass
        for target, value in _assigned(node):
            self._give(target, value)

    def _bind_parameters(self, function: Function) -> None:
        arguments = function.args
        positional = [*arguments.posonlyargs, *arguments.args]
        for argument in (*positional, *arguments.kwonlyargs):
            self.bound.add(argument.arg)
        defaults = arguments.defaults
        for argument, value in zip(
            positional[len(positional) - len(defaults) :], defaults, strict=True
        ):
            self.values.setdefault(argument.arg, []).append(value)
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
            if default is not None:
                self.values.setdefault(argument.arg, []).append(default)

    def _give(self, target: ast.expr, value: ast.expr) -> None:
        match target, value:
            case ast.Name(id=name), _:
                self.values.setdefault(name, []).append(value)
                if isinstance(value, ast.Lambda):
                    self.functions.setdefault(name, []).append(value)
            case ast.Attribute(attr=attr), _:
                self.values.setdefault(f".{attr}", []).append(value)
            case (
                (ast.Tuple(elts=targets) | ast.List(elts=targets)),
                (ast.Tuple(elts=values) | ast.List(elts=values)),
            ) if len(targets) == len(values):
                for one, its in zip(targets, values, strict=True):
                    self._give(one, its)
            case _:
                pass

    def _hand_on(self) -> None:
        """Follow the utility and the model through assignments and calls, a few steps deep."""
        calls = [node for node in self.nodes if isinstance(node, ast.Call)]
        for call in calls:
            for parameter, value in self.arguments(call):
                if isinstance(value, (ast.Constant, ast.UnaryOp, ast.IfExp)):
                    self.values.setdefault(parameter, []).append(value)
        for _ in range(_PASSES):
            before = len(self.handed)
            for name, values in self.values.items():
                for value in values:
                    self._hand(name, value)
            for call in calls:
                for parameter, value in self.arguments(call):
                    self._hand(parameter, value)
            if len(self.handed) == before:
                break

    def _hand(self, name: str, value: ast.expr) -> None:
        role = self.role(value)
        if role is not None:
            self.handed.setdefault(name, role)

    def arguments(self, call: ast.Call) -> Iterator[tuple[str, ast.expr]]:
        """Parameters of the program's own functions, with what a call gives them."""
        name = called_name(call)
        functions = list(self.functions.get(name, []))
        if name in self.classes:
            functions = [
                one
                for one in self.classes[name].body
                if isinstance(one, ast.FunctionDef) and one.name == "__init__"
            ]
        for function in functions:
            names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
            is_method = bool(names) and names[0] in ("self", "cls")
            yield from zip(names[is_method:], call.args, strict=False)
            known = {*names, *(a.arg for a in function.args.kwonlyargs)}
            for keyword in call.keywords:
                if keyword.arg in known and keyword.arg is not None:
                    yield keyword.arg, keyword.value


def called_name(call: ast.Call) -> str:
    """The last part of the name that is called; empty where it has none."""
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def text_of(node: ast.AST) -> str | None:
    """A text that is put together of constants, or None."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            first, second = text_of(left), text_of(right)
            return None if first is None or second is None else first + second
        case ast.Call(
            func=ast.Attribute(value=ast.Constant(value=str(glue)), attr="join"),
            args=[ast.List(elts=parts) | ast.Tuple(elts=parts)],
        ):
            known = [one for one in map(text_of, parts) if one is not None]
            return glue.join(known) if len(known) == len(parts) else None
        case ast.Subscript(value=value, slice=ast.Slice(lower=None, upper=None, step=step)):
            straight = text_of(value)
            is_backwards = isinstance(step, ast.UnaryOp) and isinstance(step.op, ast.USub)
            return straight[::-1] if straight is not None and is_backwards else None
        case _:
            return None


def _assigned(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    match node:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                yield target, value
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            yield target, value
        case ast.NamedExpr(target=target, value=value):
            yield target, value
        case ast.For(target=target, iter=source) | ast.comprehension(target=target, iter=source):
            yield target, source
        case _:
            return
