"""The sandbox flag of the paper's experiment: who turns it off."""

import ast
from collections.abc import Iterator

from selftaught.audit.findings import Finding
from selftaught.audit.names import UTILITY, Names, text_of

FLAG = "use_sandbox"


def flag_findings(names: Names) -> Iterator[Finding]:
    """Yield every place where the flag is not, or may not be, true."""
    for node in names.nodes:
        for value, line in _flag_values(node, names):
            truth = names.truth(value)
            if truth is True or (truth is None and names.is_open_parameter(value)):
                continue
            if truth is False:
                yield Finding(line=line, kind="sandbox_off", what=f"{FLAG} off")
            elif names.is_condition(value):
                yield Finding(line=line, kind="sandbox_off", what=f"{FLAG} on a condition")
            else:
                shown = ast.unparse(value)[:40]
                yield Finding(line=line, kind="sandbox_unclear", what=f"{FLAG} is {shown}")


def _flag_values(node: ast.AST, names: Names) -> Iterator[tuple[ast.expr, int]]:
    """Every expression that the flag is set to, by whatever road."""
    match node:
        case ast.Call(func=func, args=args, keywords=keywords):
            for keyword in keywords:
                if keyword.arg == FLAG:
                    yield keyword.value, node.lineno
            if names.role(func) == UTILITY and len(args) > 1:
                yield args[1], node.lineno
            if names.dotted(func) == "run.run" and len(args) > 2:
                yield args[2], node.lineno
            is_set = isinstance(func, ast.Name) and func.id == "setattr" and len(args) == 3
            if is_set and text_of(args[1]) == FLAG:
                yield args[2], node.lineno
        case ast.Dict(keys=keys, values=values):
            for key, value in zip(keys, values, strict=True):
                if key is not None and text_of(key) == FLAG:
                    yield value, node.lineno
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                is_entry = isinstance(target, ast.Subscript) and text_of(target.slice) == FLAG
                if is_entry or (isinstance(target, ast.Attribute) and target.attr == FLAG):
                    yield value, node.lineno
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
            yield from _default(node.args, node.lineno)
        case _:
            return


def _default(arguments: ast.arguments, line: int) -> Iterator[tuple[ast.expr, int]]:
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = arguments.defaults
    pairs = [
        *zip(positional[len(positional) - len(defaults) :], defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    for argument, default in pairs:
        if argument.arg == FLAG and default is not None:
            yield default, line
