"""The handful of Linux calls that Python does not offer, through ctypes, with errno as OSError."""

import ctypes
import os
import platform
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)

MACHINE = platform.machine()

# Numbers that are the same on every architecture since Linux 5.x.
LANDLOCK_CREATE_RULESET = 444
LANDLOCK_ADD_RULE = 445
LANDLOCK_RESTRICT_SELF = 446
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
CAPSET = {"x86_64": 126, "aarch64": 91}
SECCOMP = {"x86_64": 317, "aarch64": 277}
SECCOMP_FILTER, SECCOMP_NEW_LISTENER = 1, 8

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(number: int, *args: Any) -> int:
    """Call the kernel by number; integers and ctypes values as arguments."""
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    return _checked(_libc.syscall(ctypes.c_long(number), *wide), f"syscall {number}")


def prctl(option: int, a: Any = 0, b: Any = 0, c: Any = 0, d: Any = 0) -> int:
    """prctl(2) with integers or pointers."""
    wide = [ctypes.c_ulong(v) if isinstance(v, int) else v for v in (a, b, c, d)]
    return _checked(_libc.prctl(ctypes.c_int(option), *wide), f"prctl {option}")


def seccomp(operation: int, flags: int, address: int) -> int:
    """seccomp(2)."""
    return syscall(SECCOMP[MACHINE], operation, flags, address)


def unshare(flags: int) -> None:
    """unshare(2)."""
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def mount(
    source: str | None, target: str, kind: str | None, flags: int, data: str | None = None
) -> None:
    """mount(2); strings or None."""
    encoded = [None if s is None else os.fsencode(s) for s in (source, target, kind)]
    payload = None if data is None else os.fsencode(data)
    result = _libc.mount(*encoded, ctypes.c_ulong(flags), payload)
    _checked(result, f"mount {source} on {target}")


def umount(target: str, flags: int) -> None:
    """umount2(2)."""
    _checked(_libc.umount2(os.fsencode(target), ctypes.c_int(flags)), f"umount {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    new, old = ctypes.c_char_p(os.fsencode(new_root)), ctypes.c_char_p(os.fsencode(put_old))
    syscall(PIVOT_ROOT[MACHINE], new, old)


def setns(namespace: int, kind: int) -> None:
    """setns(2) with a descriptor of a namespace."""
    _checked(_libc.setns(ctypes.c_int(namespace), ctypes.c_int(kind)), "setns")


def drop_capabilities() -> None:
    """Empty every capability set, the bounding set included where that is allowed."""
    drop_bounding_set()
    set_capabilities(0)


def drop_bounding_set() -> None:
    """Empty the bounding set where that is allowed."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            break


def set_capabilities(low: int) -> None:
    """Make the effective and the permitted set this one, a mask, and the inheritable one empty."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)(low, low)
    syscall(CAPSET[MACHINE], header, data)
