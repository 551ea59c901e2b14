"""Names that lead out of the program: to processes, files, the network, the interpreter."""

import ast
from collections.abc import Iterator

from selftaught.audit.findings import Finding
from selftaught.audit.names import Names, text_of
from selftaught.audit.tables import BUILTINS, INSIDES, RISKY_MODULES, kind_of

_LOOKUPS = ("globals", "locals", "vars")


def reaching_findings(names: Names) -> Iterator[Finding]:
    """Yield every use of a name that leads out; an import alone is no use."""
    inner = {id(n.value) for n in names.nodes if isinstance(n, ast.Attribute)}
    for node in names.nodes:
        if id(node) in names.annotations:
            continue
        line = getattr(node, "lineno", 0)
        match node:
            case ast.Name(ctx=ast.Load()) | ast.Attribute() | ast.Call():
                yield from _leading_out(node, names, line, is_inner=id(node) in inner)
            case ast.Subscript(value=value, slice=key):
                yield from _looked_up(value, key, names, line)
            case _:
                pass
        if isinstance(node, ast.Attribute) and node.attr in INSIDES:
            yield Finding(line=line, kind="introspection", what=node.attr)
        if isinstance(node, ast.Call) and text_of_attribute(node) in INSIDES:
            yield Finding(
                line=line, kind="introspection", what=f"getattr {text_of_attribute(node)}"
            )
    for module, line in names.starred.items():
        kind = kind_of(module) or ("imports" if module in ("os", "sys") else None)
        if kind is not None:
            yield Finding(line=line, kind=kind, what=f"from {module} import *")


def text_of_attribute(call: ast.Call) -> str | None:
    """The name that a `getattr`, `setattr` or `delattr` asks for, where it is constant."""
    is_one = isinstance(call.func, ast.Name) and call.func.id in ("getattr", "setattr", "delattr")
    return text_of(call.args[1]) if is_one and len(call.args) > 1 else None


def _leading_out(node: ast.expr, names: Names, line: int, *, is_inner: bool) -> Iterator[Finding]:
    dotted = names.dotted(node)
    if dotted is not None:
        # Of `os.path.exists` the longest name counts: of its parts only those that lead nowhere
        # by themselves are passed over.
        kind = kind_of(dotted)
        if kind is not None and not (is_inner and _is_only_a_part(dotted)):
            yield Finding(line=line, kind=kind, what=dotted.removeprefix("builtins."))
    match node:
        case ast.Call(func=ast.Name(id="getattr"), args=[value, name, *_]) if text_of(name) is None:
            module = (names.dotted(value) or "").partition(".")[0]
            if module in RISKY_MODULES:
                yield Finding(line=line, kind="imports", what=f"getattr({module}, ...)")
        case ast.Call(func=ast.Name(id="__import__"), args=[name, *_]) if text_of(name) is None:
            yield Finding(line=line, kind="imports", what="__import__(...)")
        case _:
            pass


def _is_only_a_part(dotted: str) -> bool:
    return "." not in dotted


def _looked_up(value: ast.expr, key: ast.expr, names: Names, line: int) -> Iterator[Finding]:
    """Names looked up in a dictionary of names: `globals()["exec"]`, `vars(os)["system"]`."""
    match value:
        case ast.Call(func=ast.Name(id=name), args=args) if name in _LOOKUPS:
            text = text_of(key)
            module = names.dotted(args[0]) if args else None
            if module is not None or text in BUILTINS or (text is None and name == "globals"):
                shown = text if text is not None else "..."
                yield Finding(line=line, kind="imports", what=f"{name}()[{shown}]")
        case ast.Attribute(value=base, attr="__dict__") if names.dotted(base) is not None:
            yield Finding(line=line, kind="imports", what=f"{names.dotted(base)}.__dict__[...]")
        case _:
            return
