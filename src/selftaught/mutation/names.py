"""Which names a program reads that nothing binds: the most frequent fault of a mutated program."""

import ast
import builtins

from selftaught.mutation.syntax import children, nodes, stored_names

_BUILTINS = frozenset(dir(builtins)) | {"__name__", "__file__", "__doc__"}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SCOPES = (*_FUNCTIONS, *_COMPREHENSIONS, ast.ClassDef, ast.Lambda)


def unbound_names(tree: ast.Module) -> frozenset[str]:
    """Return the names that are read where nothing can have bound them yet.

    Within a function the statements are followed in order: a variable whose assignment comes
    later, or in one branch of an `if` only, counts as unbound, and one that a loop assigns as
    bound after it. This finds faults in sound programs too (`if i > 0: use(last)` in a loop that
    ends with `last = i`), so it serves to compare a program with the one it was made from. A
    program with `from m import *` has none: anything may be bound there.
    """
    everything = nodes(tree)
    declared: set[str] = set()
    for node in everything:
        if isinstance(node, ast.Global):
            declared.update(node.names)
        elif isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            return frozenset()
    bound = _bindings(_own_nodes(tree.body)) | declared
    unbound: set[str] = set()
    for statement in tree.body:
        # At module level a function may be defined below its use in another, so order is not
        # followed there.
        _Scope(bound, _BUILTINS, unbound, bound).statement(statement)
    return frozenset(unbound)


def _own_nodes(body: list[ast.stmt]) -> list[ast.AST]:
    """The nodes of a block that belong to its own scope: the inside of functions left out."""
    found: list[ast.AST] = list(body)
    for node in found:
        if not isinstance(node, _SCOPES):
            found += children(node)
        elif isinstance(node, _COMPREHENSIONS):
            # What `:=` binds in a comprehension belongs to the function around it.
            found += [inner.target for inner in nodes(node) if isinstance(inner, ast.NamedExpr)]
    return found


def _bindings(own: list[ast.AST]) -> set[str]:
    """The names that the nodes of a scope bind in it."""
    bound: set[str] = set()
    elsewhere: set[str] = set()
    for node in own:
        if isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Load):
                bound.add(node.id)
        elif isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            bound.update((a.asname or a.name).partition(".")[0] for a in node.names)
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)):
            bound.update([node.name] if node.name else [])
        elif isinstance(node, ast.MatchMapping):
            bound.update([node.rest] if node.rest else [])
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            elsewhere.update(node.names)
    return bound - elsewhere


class _Scope:
    """One function's names while its statements are followed in order.

    Attributes:
        local: every name that the function binds anywhere.
        outer: names visible from around it.
        unbound: where the faults are gathered.
        assigned: the local names that may be bound by now.
    """

    def __init__(
        self,
        local: set[str],
        outer: frozenset[str],
        unbound: set[str],
        assigned: set[str],
    ) -> None:
        self.local = local
        self.outer = outer
        self.unbound = unbound
        self.assigned = assigned

    def block(self, body: list[ast.stmt]) -> None:
        for statement in body:
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        if isinstance(node, _FUNCTIONS):
            self._definition(node)
        elif isinstance(node, ast.ClassDef):
            self._class(node)
        elif isinstance(node, (ast.For, ast.AsyncFor)):
            self.expression(node.iter)
            self.expression(node.target)
            self.block(node.body)
            self.block(node.orelse)
        elif isinstance(node, ast.While):
            self.expression(node.test)
            self.block(node.body)
            self.block(node.orelse)
        elif isinstance(node, ast.If):
            self.expression(node.test)
            before = set(self.assigned)
            self.block(node.body)
            after = self.assigned
            self.assigned = before
            self.block(node.orelse)
            if _leaves(node.orelse):
                self.assigned = after
            elif not _leaves(node.body):
                self.assigned &= after
        elif isinstance(node, ast.Assign):
            self.expression(node.value)
            for target in node.targets:
                self.expression(target)
        elif isinstance(node, ast.AugAssign):
            self.expression(node.value)
            if isinstance(node.target, ast.Name):
                self._read(node.target.id)
            self.expression(node.target)
        elif isinstance(node, ast.AnnAssign):
            if node.value is not None:
                self.expression(node.value)
                self.expression(node.target)
        else:
            self._children(node)

    def expression(self, node: ast.AST) -> None:
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Load):
                self._read(node.id)
            else:
                self.assigned.add(node.id)
        elif isinstance(node, ast.Lambda):
            spec = node.args
            for default in (*spec.defaults, *(d for d in spec.kw_defaults if d is not None)):
                self.expression(default)
            self._inner(_arguments(spec), assigned=None).expression(node.body)
        elif isinstance(node, _COMPREHENSIONS):
            self._comprehension(node)
        elif not isinstance(node, ast.Constant):
            self._children(node)

    def _children(self, node: ast.AST) -> None:
        if isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            self.assigned.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            self.assigned.add(node.rest)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            self.assigned.update((a.asname or a.name).partition(".")[0] for a in node.names)
            return
        for child in children(node):
            if isinstance(child, ast.stmt):
                self.statement(child)
            else:
                self.expression(child)

    def _read(self, name: str) -> None:
        if name in self.local:
            if name not in self.assigned:
                self.unbound.add(name)
        elif name not in self.outer:
            self.unbound.add(name)

    def _inner(self, own: set[str], assigned: set[str] | None) -> "_Scope":
        """A scope inside this one; what runs later sees every local name as bound."""
        visible = self.local if assigned is None else assigned
        return _Scope(own, self.outer | visible, self.unbound, set(own))

    def _definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        spec = node.args
        now = (*node.decorator_list, *spec.defaults, *spec.kw_defaults)
        for expression in now:
            if expression is not None:
                self.expression(expression)
        arguments = _arguments(spec)
        scope = self._inner(arguments, assigned=None)
        scope.local = arguments | _bindings(_own_nodes(node.body))
        scope.block(node.body)
        self.assigned.add(node.name)

    def _class(self, node: ast.ClassDef) -> None:
        for part in (*node.decorator_list, *node.bases, *node.keywords):
            self.expression(part)
        # Names of the class body are seen by its statements, not by its methods.
        _Scope(set(), self.outer | self.local, self.unbound, set()).block(
            [s for s in node.body if isinstance(s, _FUNCTIONS)]
        )
        self.assigned.add(node.name)

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
    ) -> None:
        own: set[str] = set()
        scope = self._inner(own, assigned=self.assigned)
        scope.local, scope.assigned = own, own
        for i, part in enumerate(node.generators):
            (self if i == 0 else scope).expression(part.iter)
            own.update(stored_names(part.target))
            for condition in part.ifs:
                scope.expression(condition)
        if isinstance(node, ast.DictComp):
            scope.expression(node.key)
            scope.expression(node.value)
        else:
            scope.expression(node.elt)
        self.assigned |= {
            inner.target.id
            for inner in nodes(node)
            if isinstance(inner, ast.NamedExpr) and isinstance(inner.target, ast.Name)
        }


def _leaves(body: list[ast.stmt]) -> bool:
    """Whether what follows a block is not reached through it."""
    return bool(body) and isinstance(body[-1], (ast.Return, ast.Raise, ast.Break, ast.Continue))


def _arguments(spec: ast.arguments) -> set[str]:
    arguments = (*spec.posonlyargs, *spec.args, *spec.kwonlyargs, spec.vararg, spec.kwarg)
    return {argument.arg for argument in arguments if argument is not None}
