"""What changed between two programs, in lines."""

import ast
import difflib


def diff_lines(before: str, after: str, names: tuple[str, str]) -> list[str]:
    """A unified diff; empty where nothing changed.

    Of two Python programs only what they do is compared: comments and layout, which a rewriting
    by machine loses, are left out.
    """
    return list(
        difflib.unified_diff(
            without_layout(before).splitlines(),
            without_layout(after).splitlines(),
            names[0],
            names[1],
            lineterm="",
        )
    )


def without_layout(source: str) -> str:
    """The program without comments and layout; unchanged where it is not Python."""
    try:
        return ast.unparse(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError):
        return source
