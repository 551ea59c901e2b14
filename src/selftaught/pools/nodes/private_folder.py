"""A folder for the files of tasks, which nobody else reads and which does not outlast its agent."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "selftaught-agent-"


@contextmanager
def private_folder() -> Iterator[Path]:
    """Make a folder, hold its lock, and remove it at the end.

    An agent that is killed cannot remove its own; the next one on the machine does, which tells
    by the lock that nobody is left.
    """
    _remove_abandoned()
    folder, lock = _made()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _made() -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        lock = _locked(folder)
        if lock is not None:
            return folder, lock
        # Another agent took it for abandoned before it was locked.


def _locked(folder: Path) -> int | None:
    """A descriptor that holds the lock of a folder that is there; None where there is none."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # It may have been removed by whoever held the lock before.
        is_ours = os.path.samestat(os.fstat(descriptor), os.stat(folder, follow_symlinks=False))
    except OSError:
        is_ours = False
    if is_ours:
        return descriptor
    os.close(descriptor)
    return None


def _remove_abandoned() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            is_ours = folder.lstat().st_uid == os.getuid()
        except OSError:
            continue
        lock = _locked(folder) if is_ours else None
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
