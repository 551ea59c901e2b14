"""Going through a syntax tree, faster than `ast.walk` does, which takes half of a look at a text.

`Load` and `Store`, which say how a name is used, are no nodes here: they are a third of all.
"""

import ast
from collections import deque
from collections.abc import Iterator


def children(node: ast.AST) -> list[ast.AST]:
    """The nodes right below one, in the order of the text."""
    found: list[ast.AST] = []
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, list):
            found += [one for one in value if isinstance(one, ast.AST)]
        elif isinstance(value, ast.AST) and not isinstance(value, ast.expr_context):
            found.append(value)
    return found


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all below it, level by level; what is changed below one meanwhile is seen."""
    todo = deque([node])
    while todo:
        here = todo.popleft()
        yield here
        todo.extend(children(here))
