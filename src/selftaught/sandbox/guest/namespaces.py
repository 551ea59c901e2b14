"""Namespaces around the zygote: its own users, processes, network, mounts, IPC and host name.

Entered once, before anything is loaded: every child is then inside at no cost of its own. The new
root is a read-only tmpfs that holds the interpreter's library, the modules that were asked for,
and four device nodes.
"""

import os
from typing import NoReturn

import syscalls

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 1 << 17, 1 << 25, 1 << 26, 1 << 27
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 1 << 28, 1 << 29, 1 << 30
_ALL = (
    CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID
    | CLONE_NEWNET
)  # fmt: skip

_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT = 1, 2, 4, 8, 32
_BIND, _REC, _PRIVATE = 4096, 16384, 1 << 18
_DETACH = 2
# statvfs says these of the source; a bind in a user namespace may not lose them.
_KEPT_FLAGS = {os.ST_NOATIME: 1024, os.ST_NODIRATIME: 2048, os.ST_RELATIME: 1 << 21,
               os.ST_NOEXEC: _NOEXEC}  # fmt: skip
_DEVICES = ("null", "zero", "random", "urandom")

NOBODY = 65534
INNER_USER = 1000


def enter(network: bool = False) -> bool:
    """Enter new namespaces; return (in the process that is pid 1 inside) whether it is root's.

    The caller's process stays outside as a waiter and never returns from here: it exits as the
    inner one does.

    Args:
        network: whether to stay in the caller's network.

    Raises:
        OSError: the kernel does not allow it.
    """
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        # As root, generated code becomes nobody. Only a process outside may write a map of two.
        user_map = group_map = f"0 0 1\n{INNER_USER} {NOBODY} 1\n"
    else:
        user_map, group_map = f"{INNER_USER} {user} 1\n", f"{INNER_USER} {group} 1\n"
    kinds = _ALL & ~CLONE_NEWNET if network else _ALL
    _unshare_mapped(kinds, user_map, group_map, privileged=user == 0)
    inner = os.fork()
    if inner:
        _exit_as(inner)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, 9)
    return user == 0


def _unshare_mapped(kinds: int, user_map: str, group_map: str, privileged: bool) -> None:
    ready_read, ready_write = os.pipe()
    done_read, done_write = os.pipe()
    target = os.getpid()
    mapper = os.fork()
    if mapper == 0:
        try:
            # Its own copies would keep it waiting for a parent that failed.
            os.close(ready_write)
            os.close(done_read)
            if os.read(ready_read, 1) != b"1":
                os._exit(1)
            if not privileged:
                _write(f"/proc/{target}/setgroups", "deny")
            _write(f"/proc/{target}/uid_map", user_map)
            _write(f"/proc/{target}/gid_map", group_map)
            os.write(done_write, b"1")
        finally:
            os._exit(0)
    try:
        syscalls.unshare(kinds)
        os.write(ready_write, b"1")
        os.close(done_write)
        if os.read(done_read, 1) != b"1":
            raise OSError("the user map of a new namespace could not be written")
    finally:
        for descriptor in (ready_read, ready_write, done_read):
            os.close(descriptor)
        os.waitpid(mapper, 0)


def _exit_as(inner: int) -> NoReturn:
    # The control socket belongs to the inner process alone: its end must be seen by the host.
    os.closerange(0, 64)
    _, status = os.waitpid(inner, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code & 0xFF)


def change_root(
    read_paths: list[str],
    hidden_paths: list[str],
    module_paths: list[str],
    *,
    devices: list[str],
    links: list[tuple[str, str]],
    folders: list[str],
) -> None:
    """Make a read-only root that holds nothing but the given paths, at their own names.

    Args:
        read_paths: absolute paths of files and folders; missing ones are left out.
        hidden_paths: folders beneath those that become empty: where other packages lie.
        module_paths: what is laid on top again: the packages that were asked for, and what a
            task permits to be read.
        devices: device nodes beside the usual four.
        links: symbolic links to make: name and target.
        folders: empty ones to make, for others to mount on.
    """
    base = "/tmp" if os.path.isdir("/tmp") else "/var/tmp"
    syscalls.mount("none", "/", None, _REC | _PRIVATE)
    syscalls.mount("tmpfs", base, "tmpfs", _NOSUID | _NODEV, "size=4m,mode=755")
    old = f"{base}/old"
    os.mkdir(old)
    os.umask(0o022)
    syscalls.pivot_root(base, old)
    os.chdir("/")
    for path in _outermost_first(read_paths):
        _bind(path)
    for path in hidden_paths:
        if os.path.isdir(path):
            syscalls.mount("tmpfs", path, "tmpfs", _NOSUID | _NODEV, "size=64k,mode=755")
    for path in module_paths:
        _bind(path)
    os.makedirs("/dev", exist_ok=True)
    for device in (*(f"/dev/{name}" for name in _DEVICES), *devices):
        _bind(device, device=True)
    for name, target in links:
        if not os.path.lexists(name):
            os.makedirs(os.path.dirname(name), exist_ok=True)
            os.symlink(target, name)
    for path in ("/tmp", *folders):
        os.makedirs(path, exist_ok=True)
    syscalls.umount("/old", _DETACH)
    os.rmdir("/old")
    syscalls.mount("none", "/", None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV)


def _outermost_first(paths: list[str]) -> list[str]:
    kept: list[str] = []
    for path in sorted({os.path.abspath(p) for p in paths}):
        if not any(path == k or path.startswith(k + "/") for k in kept):
            kept.append(path)
    return kept


def _bind(path: str, device: bool = False) -> None:
    source = "/old" + path
    if not os.path.exists(source) or os.path.exists(path):
        # Missing here, or already there as part of a folder above it.
        return
    if os.path.isdir(source):
        os.makedirs(path, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb"):
            pass
    syscalls.mount(source, path, None, _BIND)
    flags = _REMOUNT | _BIND | _RDONLY | _NOSUID | (0 if device else _NODEV)
    given = os.statvfs(path).f_flag
    for stat_flag, mount_flag in _KEPT_FLAGS.items():
        if given & stat_flag:
            flags |= mount_flag
    if device:
        flags &= ~_RDONLY
    syscalls.mount(None, path, None, flags)


def become_nobody() -> None:
    """Leave root's id for good, where the map has another."""
    os.setgroups([])
    os.setresgid(INNER_USER, INNER_USER, INNER_USER)
    os.setresuid(INNER_USER, INNER_USER, INNER_USER)


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
