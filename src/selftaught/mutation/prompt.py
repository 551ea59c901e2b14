"""Reading a prompt: the program to improve, and other versions of it."""

import ast
import re
from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from selftaught.mutation.syntax import parse

_FENCE = re.compile(r"```([A-Za-z0-9_+#.-]*)")

# A prompt may be anything, also thousands of fences in a row: reading it has an end.
_MOST_CHARS_READ = 500_000
_MOST_CHARS_PARSED = 2_000_000
_LEAST_PRICE = 2_000
# An edit looks at all of a program: of a long one it would take the host seconds.
_MOST_CHARS_EDITED = 30_000


class Programs(NamedTuple):
    """What a prompt holds.

    Attributes:
        program: the program to improve, or None.
        donors: other programs that define a function of the same name, in order.
    """

    program: str | None
    donors: tuple[str, ...] = ()


def read_programs(message: str) -> Programs:
    """Return the first program of a prompt, and the later ones that share a function name with it.

    The first fenced block that parses as Python and defines a function is the program: prompts
    show what is to be improved before they show how it is scored.
    """
    program: str | None = None
    names: set[str] = set()
    donors: list[str] = []
    for text, tree in fenced_programs(message):
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        if program is None:
            if defined and len(text) <= _MOST_CHARS_EDITED:
                program, names = text, defined
        elif defined & names and text != program and text not in donors:
            donors.append(text)
    return Programs(program, tuple(donors))


def fenced_programs(message: str) -> Iterator[tuple[str, ast.Module]]:
    """Yield text and tree of every outermost fence whose content parses as Python, in order.

    Programs hold fences themselves, inside strings: an improver builds its prompts from them. Cut
    at such a fence the string is left open and the text does not parse; so a block ends at the
    first closing fence that makes it a program.
    """
    message = message[:_MOST_CHARS_READ]
    fences = list(_FENCE.finditer(message))
    bare = [i for i, fence in enumerate(fences) if not fence.group(1)]
    to_parse = _MOST_CHARS_PARSED
    at = 0
    while (first := bisect_right(bare, at)) < len(bare):
        start = fences[at].end()
        at = bare[first] + 1
        for closer in islice(bare, first, None):
            text = message[start : fences[closer].start()].strip("\n")
            to_parse -= max(len(text), _LEAST_PRICE)
            if to_parse < 0:
                return
            tree = parse(text) if text.strip() else None
            if tree is not None:
                yield text, tree
                at = closer + 1
                break
