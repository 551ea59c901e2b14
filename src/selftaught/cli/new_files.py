"""Files that commands write: never over another one, unless told to."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from selftaught.errors import SelftaughtError


@contextmanager
def new_file(file: str, force: bool) -> Iterator[BinaryIO]:
    """Open a file that does not exist yet, or any with `force`.

    Raises:
        SelftaughtError: it exists, or cannot be written.
    """
    try:
        with Path(file).open("wb" if force else "xb") as out:
            yield out
    except FileExistsError as error:
        raise SelftaughtError(f"{file} exists; --force overwrites it.") from error
    except OSError as error:
        raise SelftaughtError(f"{file} cannot be written: {error}.") from error
