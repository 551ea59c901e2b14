"""Children apart from one another: mounts of their own, and a process namespace where they fork.

A zygote whose task permits a private folder or a compiler keeps one capability, the one to mount.
Its children use it before they hold anything of a program, and give it up.
"""

import os

import syscalls
from namespaces import CLONE_NEWNS, CLONE_NEWPID, become_nobody

_CAP_SYS_ADMIN = 21
_NOSUID, _NODEV, _NOEXEC = 2, 4, 8
TMP = "/tmp"
BUILD = "/build"
BUILD_BYTES = 256 * 1024 * 1024
# An entry of a folder takes memory that the size of a tmpfs does not count.
_TMP_ENTRIES, _BUILD_ENTRIES = 4_096, 32_768


def keep_mounting(rooted: bool) -> None:
    """Give up every capability but the one to mount; where the id is root's, that as well."""
    syscalls.drop_bounding_set()
    if rooted:
        syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
        become_nobody()
    syscalls.set_capabilities(1 << _CAP_SYS_ADMIN)


def fork(own_namespace: int) -> int:
    """Fork a child that is the first process of a new namespace: all it starts ends with it.

    Args:
        own_namespace: descriptor of the caller's own process namespace.
    """
    syscalls.unshare(CLONE_NEWPID)
    pid = os.fork()
    if pid:
        # Or the next child would land in the namespace of this one.
        syscalls.setns(own_namespace, CLONE_NEWPID)
    return pid


def enter(tmp_bytes: int, builds: bool) -> None:
    """In a child: mount what is its own, empty, and give up the right to mount."""
    syscalls.unshare(CLONE_NEWNS)
    if tmp_bytes:
        _mount(TMP, tmp_bytes, _TMP_ENTRIES, _NOEXEC)
    if builds:
        _mount(BUILD, BUILD_BYTES, _BUILD_ENTRIES, 0)
    syscalls.set_capabilities(0)


def _mount(path: str, size_bytes: int, entries: int, flags: int) -> None:
    options = f"size={size_bytes},nr_inodes={entries},mode=700"
    syscalls.mount("tmpfs", path, "tmpfs", _NOSUID | _NODEV | flags, options)


def rehearse(tmp_bytes: int, builds: bool) -> None:
    """Raise OSError where a child could not enter: to be told at the start, and as no failure."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            enter(tmp_bytes, builds)
        except OSError as error:
            os.write(write_end, str(error).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    said = os.read(read_end, 1000)
    os.close(read_end)
    os.waitpid(pid, 0)
    if said:
        raise OSError(f"a child cannot mount its own folder: {said.decode()}")
