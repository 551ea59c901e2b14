"""Parsing texts that others wrote, in a process with many threads."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# CPython 3.11 counts the depth of a parse in one place for all threads, and has raised SystemError
# where several parsed at once. Only one thread computes at a time anyway, so waiting costs nothing.
PARSING = threading.Lock()


@contextmanager
def quiet_parsing() -> Iterator[None]:
    """Parse alone, and without the compiler's warnings about foreign text."""
    with PARSING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
