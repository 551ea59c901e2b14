"""The system calls that a generated program may make, as a classic BPF filter.

An allow-list: what is not named is refused with EPERM, so a program sees a PermissionError and not
a dead process. There is no fork, exec, socket, signal, mount, ptrace or new descriptor table in
it; a new thread is allowed, a new process is not, by looking at clone's flags.

Where the kernel can, a refused call is first told to a listener in the host, which answers EPERM
(docs/adr/0013-refusals-told-by-the-kernel.md). The child hands the listener over on descriptor
HANDOVER, on which alone the filter lets `sendmsg` pass. It is closed before a program is loaded,
and above the limit of open files, so that no program can ever open it again.
"""

import ctypes
import errno
import os
import struct

import syscalls
from syscalls import MACHINE

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name -> (x86_64, aarch64); None where an architecture lacks the call.
_ALLOWED: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "fstat": (5, 80),
    "stat": (4, None), "lstat": (6, None), "poll": (7, None), "lseek": (8, 62),
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "ioctl": (16, 29), "pread64": (17, 67), "readv": (19, 65), "writev": (20, 66),
    "access": (21, None), "pipe": (22, None), "select": (23, None), "sched_yield": (24, 124),
    "mremap": (25, 216), "madvise": (28, 233), "dup": (32, 23), "dup2": (33, None),
    "nanosleep": (35, 101), "getpid": (39, 172), "exit": (60, 93), "uname": (63, 160),
    "fcntl": (72, 25), "getdents": (78, None), "getcwd": (79, 17), "readlink": (89, None),
    "gettimeofday": (96, 169), "getrlimit": (97, 163), "getrusage": (98, 165),
    "sysinfo": (99, 179), "times": (100, 153), "getuid": (102, 174), "getgid": (104, 176),
    "geteuid": (107, 175), "getegid": (108, 177), "getppid": (110, 173),
    "sigaltstack": (131, 132), "arch_prctl": (158, None), "gettid": (186, 178),
    "futex": (202, 98), "sched_getaffinity": (204, 123), "getdents64": (217, 61),
    "restart_syscall": (219, 128), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115), "exit_group": (231, 94), "openat": (257, 56),
    "newfstatat": (262, 79), "readlinkat": (267, 78), "faccessat": (269, 48),
    "pselect6": (270, 72), "ppoll": (271, 73), "set_robust_list": (273, 99),
    "dup3": (292, 24), "pipe2": (293, 59), "getrandom": (318, 278), "statx": (332, 291),
    "membarrier": (324, 283), "rseq": (334, 293), "faccessat2": (439, 439),
    "futex_waitv": (449, 449), "open": (2, None), "getcpu": (309, 168),
}  # fmt: skip
# What a permission of a task adds, by what it is for.
_PERMITTED: dict[str, tuple[int | None, int | None]] = {
    "pwrite64": (18, 68), "pwritev": (296, 70), "fsync": (74, 82), "fdatasync": (75, 83),
    "ftruncate": (77, 46), "fallocate": (285, 47), "rename": (82, None), "renameat": (264, 38),
    "renameat2": (316, 276), "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None),
    "creat": (85, None), "unlink": (87, None), "unlinkat": (263, 35), "umask": (95, 166),
    "chdir": (80, 49), "flock": (73, 32), "fadvise64": (221, 223), "copy_file_range": (326, 285),
    "execve": (59, 221), "set_tid_address": (218, 96), "tgkill": (234, 131),
    "epoll_create1": (291, 20), "epoll_ctl": (233, 21), "epoll_wait": (232, None),
    "epoll_pwait": (281, 22), "eventfd2": (290, 19),
    "fork": (57, None), "vfork": (58, None), "wait4": (61, 260), "waitid": (247, 95),
    "kill": (62, 129), "setpgid": (109, 154), "getpgrp": (111, None), "getpgid": (121, 155),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "utimensat": (280, 88),
    "link": (86, None), "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36),
    "socketpair": (53, 199), "sendfile": (40, 71), "fchdir": (81, 50), "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "connect": (42, 203), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202),
    "accept4": (288, 242), "sendto": (44, 206), "recvfrom": (45, 207), "sendmsg": (46, 211),
    "recvmsg": (47, 212), "sendmmsg": (307, 269), "recvmmsg": (299, 243), "shutdown": (48, 210),
    "getsockname": (51, 204), "getpeername": (52, 205), "setsockopt": (54, 208),
    "getsockopt": (55, 209),
}  # fmt: skip
_NAMES = tuple(_PERMITTED)
WRITING = _NAMES[: _NAMES.index("execve")]
# What every program meets on its way to main, and what the runtime of Go waits with.
STARTING = _NAMES[_NAMES.index("execve") : _NAMES.index("fork")]
PROCESSES = _NAMES[_NAMES.index("fork") : _NAMES.index("connect")]
NETWORK = _NAMES[_NAMES.index("connect") :]
_SOCKET = {"x86_64": 41, "aarch64": 198}
_INET, _INET6 = 2, 10
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
_PRLIMIT64 = {"x86_64": 302, "aarch64": 261}
_PRCTL = {"x86_64": 157, "aarch64": 167}
_SENDMSG = {"x86_64": 46, "aarch64": 211}
# Above RLIMIT_NOFILE of a child.
HANDOVER = 100

_CLONE_THREAD = 0x00010000
_CLONE_NEW_ANYTHING = 0x7E020000  # every CLONE_NEW* flag
_PR_SET_NAME = 15
_PR_SET_VMA = 0x53564D41

_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW = 0x7FFF0000
_KILL = 0x80000000
_EPERM = 0x00050000 | errno.EPERM
_ENOSYS = 0x00050000 | errno.ENOSYS
_TELL = 0x7FC00000

# offsets into struct seccomp_data, little endian
_NUMBER, _ARCH, _ARG0_LOW, _ARG2_LOW, _ARG2_HIGH = 0, 4, 16, 32, 36


def _op(code: int, k: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, jump_true, jump_false, k)


def build_filter(
    machine: str = MACHINE,
    permitted: tuple[str, ...] = (),
    *,
    processes: bool = False,
    network: bool = False,
    tells: bool = False,
) -> bytes:
    """Return the filter's instructions as bytes for an architecture.

    Args:
        machine: as `platform.machine()` names it.
        permitted: of WRITING, STARTING and PROCESSES, what a task's permissions add.
        processes: whether new processes may be made, without namespaces of their own.
        network: whether sockets of the internet's families may be opened.
        tells: whether a refused call goes to a listener, which refuses it.

    Raises:
        KeyError: an architecture that no filter is written for.
    """
    column = {"x86_64": 0, "aarch64": 1}[machine]
    refusal = _TELL if tells else _EPERM
    rows = [*_ALLOWED.values()]
    rows += [_PERMITTED[name] for name in (*permitted, *(NETWORK if network else ()))]
    numbers = sorted({n for row in rows if (n := row[column]) is not None})
    ops = [
        _op(_LOAD, _ARCH),
        _op(_JUMP_EQUAL, AUDIT_ARCH[machine], 1, 0),
        _op(_RETURN, _KILL),
        _op(_LOAD, _NUMBER),
    ]
    if machine == "x86_64":
        # Calls of the x32 interface carry bit 30 and would slip past an allow-list by number.
        ops += [_op(_JUMP_GREATER_EQUAL, 0x40000000, 0, 1), _op(_RETURN, refusal)]
    # clone3 hides its flags behind a pointer; ENOSYS makes the C library use clone instead.
    ops += [_op(_JUMP_EQUAL, _CLONE3, 0, 1), _op(_RETURN, _ENOSYS)]
    ops += [
        _op(_JUMP_EQUAL, _CLONE[machine], 0, 5),
        _op(_LOAD, _ARG0_LOW),
        _op(_JUMP_SET, _CLONE_NEW_ANYTHING, 2, 0),
        _op(_JUMP_SET, 0xFFFFFFFF if processes else _CLONE_THREAD, 0, 1),
        _op(_RETURN, _ALLOW),
        _op(_RETURN, refusal),
    ]
    if network:
        ops += [
            _op(_JUMP_EQUAL, _SOCKET[machine], 0, 5),
            _op(_LOAD, _ARG0_LOW),
            _op(_JUMP_EQUAL, _INET, 1, 0),
            _op(_JUMP_EQUAL, _INET6, 0, 1),
            _op(_RETURN, _ALLOW),
            _op(_RETURN, refusal),
        ]
    # prlimit64 may read limits (a null pointer for the new ones) but not set them.
    ops += [
        _op(_JUMP_EQUAL, _PRLIMIT64[machine], 0, 6),
        _op(_LOAD, _ARG2_LOW),
        _op(_JUMP_EQUAL, 0, 0, 3),
        _op(_LOAD, _ARG2_HIGH),
        _op(_JUMP_EQUAL, 0, 0, 1),
        _op(_RETURN, _ALLOW),
        _op(_RETURN, refusal),
    ]
    # Naming a thread or a mapping is all that the C library wants of prctl.
    ops += [
        _op(_JUMP_EQUAL, _PRCTL[machine], 0, 5),
        _op(_LOAD, _ARG0_LOW),
        _op(_JUMP_EQUAL, _PR_SET_NAME, 1, 0),
        _op(_JUMP_EQUAL, _PR_SET_VMA, 0, 1),
        _op(_RETURN, _ALLOW),
        _op(_RETURN, refusal),
    ]
    if tells:
        ops += [
            _op(_JUMP_EQUAL, _SENDMSG[machine], 0, 4),
            _op(_LOAD, _ARG0_LOW),
            _op(_JUMP_EQUAL, HANDOVER, 0, 1),
            _op(_RETURN, _ALLOW),
            _op(_RETURN, refusal),
        ]
    for number in numbers:
        ops += [_op(_JUMP_EQUAL, number, 0, 1), _op(_RETURN, _ALLOW)]
    ops.append(_op(_RETURN, refusal))
    return b"".join(ops)


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


class Filter:
    """A filter ready to install: built once in the zygote, installed in every child.

    Args:
        permitted, processes, network, tells: as for `build_filter`.

    Attributes:
        tells: whether refused calls are told to a listener.
    """

    def __init__(
        self,
        permitted: tuple[str, ...] = (),
        *,
        processes: bool = False,
        network: bool = False,
        tells: bool = False,
    ) -> None:
        self.tells = tells
        code = build_filter(permitted=permitted, processes=processes, network=network, tells=tells)
        self._code = ctypes.create_string_buffer(code, len(code))
        self._program = _Program(len(code) // 8, ctypes.addressof(self._code))

    def install(self) -> int | None:
        """Install the filter on the calling thread, for good; return its listener, if it tells.

        Until somebody answers at the listener, a refused call waits.
        """
        program = ctypes.addressof(self._program)
        if self.tells:
            flags = syscalls.SECCOMP_NEW_LISTENER
            listener: int = syscalls.seccomp(syscalls.SECCOMP_FILTER, flags, program)
            return listener
        syscalls.seccomp(syscalls.SECCOMP_FILTER, 0, program)
        return None


def best_filter(permitted: tuple[str, ...] = (), *, network: bool = False) -> Filter:
    """A filter that tells, where a child of this process can install one; else a silent one.

    Kernels before 5.0 have no listeners, and there is one for a process: a container's may be it.
    """
    telling = Filter(permitted, network=network, tells=True)
    pid = os.fork()
    if pid == 0:
        try:
            syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
            telling.install()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    return Filter(permitted, network=network) if status else telling
