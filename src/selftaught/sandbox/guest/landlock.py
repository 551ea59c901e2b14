"""Landlock: read-only access to an allow-list of paths, nothing else, by three system calls."""

import ctypes
import os
import struct
from collections.abc import Iterable

import syscalls

_ALL_FS_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_READ_FILE, _READ_DIRECTORY = 1 << 2, 1 << 3
_EXECUTE, _WRITE_FILE = 1 << 0, 1 << 1
_IOCTL_DEVICE = 1 << 15
# In a folder of its own: files and folders, and moving them. No link, socket, pipe or device.
_CHANGE = _WRITE_FILE | (1 << 4) | (1 << 5) | (1 << 7) | (1 << 8) | (1 << 13) | (1 << 14)
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_ALL_NET = 0b11
_ALL_SCOPES = 0b11
_RULE_PATH_BENEATH = 1


def abi() -> int:
    """The Landlock version of this kernel, 0 where there is none."""
    try:
        version: int = syscalls.syscall(syscalls.LANDLOCK_CREATE_RULESET, 0, 0, 1)
    except OSError:
        return 0
    return version


def make_ruleset(
    read_paths: Iterable[str],
    *,
    write_paths: Iterable[str] = (),
    execute_paths: Iterable[str] = (),
    device_paths: Iterable[str] = (),
    network: bool = False,
) -> int:
    """Return a descriptor of a ruleset that allows reading beneath the given paths.

    /dev/null may also be written. From ABI 4 on no TCP port may be bound or connected, from ABI 6
    on no abstract socket or signal leaves the domain.

    Args:
        read_paths: may be read.
        write_paths: folders that may be read and changed.
        execute_paths: may be read and executed.
        device_paths: may be read, written and controlled.
        network: leave TCP alone.

    Raises:
        OSError: the kernel has no Landlock.
    """
    version = abi()
    if version < 1:
        raise OSError("this kernel has no Landlock")
    handled = _ALL_FS_BY_ABI[max(v for v in _ALL_FS_BY_ABI if v <= version)]
    attributes = struct.pack("=Q", handled)
    if version >= 4:
        attributes += struct.pack("=Q", 0 if network else _ALL_NET)
    if version >= 6:
        attributes += struct.pack("=Q", _ALL_SCOPES)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    ruleset: int = syscalls.syscall(syscalls.LANDLOCK_CREATE_RULESET, buffer, len(attributes), 0)
    for paths, more in (
        (read_paths, 0),
        (write_paths, _CHANGE),
        (execute_paths, _EXECUTE),
        (device_paths, _WRITE_FILE | _IOCTL_DEVICE),
    ):
        for path in paths:
            _allow(ruleset, path, more & handled)
    return ruleset


def _allow(ruleset: int, path: str, more: int) -> None:
    access = more | _READ_FILE
    if os.path.isdir(path):
        access |= _READ_DIRECTORY
    if path == "/dev/null":
        access |= _WRITE_FILE
    try:
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    rule = struct.pack("=Qi", access, beneath)
    rule_buffer = ctypes.create_string_buffer(rule, len(rule))
    syscalls.syscall(syscalls.LANDLOCK_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule_buffer, 0)
    os.close(beneath)


def restrict_self(ruleset: int) -> None:
    """Put the calling thread under the ruleset, for good; needs no_new_privs."""
    syscalls.syscall(syscalls.LANDLOCK_RESTRICT_SELF, ruleset, 0)
