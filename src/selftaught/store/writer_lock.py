"""The lock that makes a store have one writer.

It lies in a file beside the store and is held through the operating system (`flock`), which lets
go of it when the holder dies, however it dies. The file itself stays, so that two processes never
lock different files of the same name.
"""

import fcntl
import os
import weakref
from contextlib import suppress

from selftaught.errors import StoreError


class WriterLock:
    """An exclusive lock, held from construction to `release`."""

    def __init__(self, store_path: str) -> None:
        """Take the lock of a store.

        Raises:
            StoreError: another process holds it, or its file cannot be made.
        """
        self._fd: int | None = None
        path = store_path + ".lock"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(
                f"The store {store_path!r} cannot be written, since its lock {path!r} cannot be "
                f"made ({error.strerror}): make the folder and the lock writable, or name "
                "another file with --store."
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _read_pid(fd)
            os.close(fd)
            if not isinstance(error, BlockingIOError):
                raise StoreError(
                    f"The store {store_path!r} cannot be locked ({error.strerror}): put it on a "
                    "disk of this machine with --store."
                ) from error
            raise StoreError(
                f"The store {store_path!r} is being written by {holder}: wait until that has "
                "ended, end it, or name another file with --store."
            ) from None
        # Only told to whom it keeps out. A full disk has no room even for that.
        with suppress(OSError):
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd
        _held.add(self)

    def release(self) -> None:
        """Let go of the lock; a second call does nothing."""
        if self._fd is not None:
            os.ftruncate(self._fd, 0)
            self.drop()

    def drop(self) -> None:
        """Close this process's hold on the file; a process forked from this one keeps its own."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
            _held.discard(self)


_held: "weakref.WeakSet[WriterLock]" = weakref.WeakSet()


def _drop_inherited() -> None:
    for lock in list(_held):
        lock.drop()


# A forked child shares the lock. One that outlived its parent would keep the store locked in the
# name of a process that is dead.
os.register_at_fork(after_in_child=_drop_inherited)


def _read_pid(fd: int) -> str:
    text = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
    if not text.isdigit():
        return "another process"
    return "this very process" if int(text) == os.getpid() else f"process {text}"
