"""A file that is there whole or not at all, and never takes the place of another one unasked."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selftaught.errors import StoreError

# What SQLite would take for the log of a new file of that name.
_LOGS = ("-wal", "-journal")


@contextmanager
def whole_file(path: str, *, force: bool = False) -> Iterator[Path]:
    """Give a path to write to, which becomes `path` when the block has ended well.

    Whatever else the block leaves beside the path it was given is removed.

    Raises:
        StoreError: `path` exists and `force` is not set, or it cannot be written.
    """
    target = Path(path)
    refuse_taken(path, force=force)
    folder: Path | None = None
    try:
        # Beside it, since a file is moved in one step within a file system only.
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name[:100]}-", dir=target.parent))
        made = folder / "new"
        yield made
        _to_disk(made)
        _put(made, target, force)
        _to_disk(target.parent)
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError as error:
        raise StoreError(f"{path!r} cannot be written ({error.strerror}).") from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def refuse_taken(path: str, *, force: bool = False) -> None:
    """Raise StoreError where a file is there already, or the log of one."""
    if os.path.isdir(path):
        raise StoreError(f"{path!r} is a folder: name a file.")
    if not force and os.path.lexists(path):
        raise _exists(path)
    for suffix in _LOGS:
        if os.path.exists(path + suffix) and os.path.getsize(path + suffix):
            raise StoreError(
                f"{path + suffix!r} is there, the log of another store: name another file."
            )


def _put(made: Path, target: Path, force: bool) -> None:
    if not force:
        try:
            os.link(made, target)
            return
        except FileExistsError:
            raise
        except OSError:
            # A file system without hard links: the name is taken first, and what it names is ours.
            target.open("xb").close()
    made.replace(target)


def _exists(path: str) -> StoreError:
    return StoreError(f"{path!r} exists and is not overwritten: name another file.")


def _to_disk(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
