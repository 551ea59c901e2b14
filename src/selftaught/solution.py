"""A solution: the text of a program, its entry point, and the hash that names it."""

import ast
import hashlib
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import msgspec

from selftaught.errors import SolutionError
from selftaught.fences import extract_code as _extract_code
from selftaught.redaction import redacted

MAX_SOURCE_CHARS = 200_000
# CPython 3.11 counts the depth of a parse in one place for all threads, and has raised SystemError
# where several parsed at once. Only one thread computes at a time anyway, so waiting costs nothing.
PARSING = threading.Lock()


class Solution(msgspec.Struct, frozen=True, dict=True):
    """One program text (paper, section 3: a solution is a string).

    Attributes:
        source: the program; untrusted, executed only inside the sandbox.
        entry_point: the function that the task calls, `algorithm` or `improve_algorithm`; of no
            meaning where the language is not Python.
        language: `python`, a compiled language (`c`, `c++`, `rust`, `go`), or `text` for what a
            utility interprets itself.
    """

    source: str
    entry_point: str = "algorithm"
    language: str = "python"

    @cached_property
    def hash(self) -> str:
        """The first 16 hex digits of SHA-256 over the source: its name in the store, too."""
        return hashlib.sha256(self.source.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def rewritten(self, source: str) -> "Solution":
        """Another text in this one's place: of the same language, called in the same way."""
        return Solution(source, self.entry_point, self.language)

    @staticmethod
    def admit(source: object, entry_point: str, language: str = "python") -> "Solution":
        """Make a solution of what an untrusted program handed over.

        Secrets are taken out here, before the text gets its hash: what is executed, what is
        stored and what is exported are one text.

        Raises:
            SolutionError: it is not a text, is empty, longer than MAX_SOURCE_CHARS, or cannot be
                stored as UTF-8.
        """
        if not isinstance(source, str):
            raise SolutionError(f"A solution must be a string, not {type(source).__name__}.")
        if not source.strip():
            raise SolutionError("A solution must not be empty.")
        if len(source) > MAX_SOURCE_CHARS:
            raise SolutionError(
                f"A solution of {len(source):,} characters is over the limit of "
                f"{MAX_SOURCE_CHARS:,}."
            )
        try:
            source.encode("utf-8")
        except UnicodeEncodeError as error:
            raise SolutionError(f"A solution must be valid Unicode: {error}.") from error
        return Solution(redacted(source), entry_point, language)


def check_program(source: str, entry_point: str, where: str) -> Solution:
    """Return the program as a solution after a look at its syntax.

    Raises:
        SolutionError: it does not parse, or does not define its entry point at top level.
    """
    solution = Solution.admit(source, entry_point)
    try:
        with _alone_and_quiet():
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        at = f" at line {line}" if line else ""
        raise SolutionError(f"{where} is not valid Python{at}: {error}.") from error
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assigned = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    if entry_point not in defined | assigned:
        raise SolutionError(
            f"{where} does not define {entry_point}() at top level; found: "
            f"{', '.join(sorted(defined)) or 'no function'}."
        )
    return solution


def extract_code(answer: Any) -> Any:
    """Return the largest fenced block of an answer; see `selftaught.fences.extract_code`.

    Thread safety: any thread may call it. The compiler's warnings about foreign text are not shown.
    """
    with _alone_and_quiet():
        return _extract_code(answer)


def same_code(one: str, other: str) -> bool:
    """Whether two programs differ in comments, and in blanks where no code follows, and no more.

    Their syntax trees are equal and stand in the same lines and columns. So they compile to the
    same code, and no error message or traceback tells them apart. Thread-safe.
    """
    try:
        with _alone_and_quiet():
            first, second = (
                ast.dump(ast.parse(text), include_attributes=True) for text in (one, other)
            )
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return first == second


@contextmanager
def _alone_and_quiet() -> Iterator[None]:
    with PARSING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
