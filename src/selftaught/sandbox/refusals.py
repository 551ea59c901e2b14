"""System calls that a child's filter refused, as the kernel tells the host of them.

The filter asks its listener, which this process holds and no child ever does, and the listener
always says EPERM. Only numbers are read: no memory of the child, so nothing it could change.
"""

import errno
import fcntl
import os
import struct

from selftaught.pool import Attempt
from selftaught.sandbox.syscall_names import NAMES

# Told of one child: the rest is refused all the same. After ANSWERED the listener is closed, and
# the kernel refuses with ENOSYS by itself, at no cost for the host.
TOLD = 50
ANSWERED = 1_000

_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")
_WITNESS = ", told by the kernel"
# How many arguments are numbers that say something; pointers differ from run to run.
_ARGUMENTS = {
    "clone": 1, "kill": 2, "personality": 1, "prctl": 1, "ptrace": 1, "setns": 2, "socket": 3,
    "socketpair": 3, "tgkill": 3, "tkill": 2, "unshare": 1, "bpf": 1, "keyctl": 1, "prlimit64": 2,
    "setrlimit": 1, "setpriority": 3, "setuid": 1, "setgid": 1,
}  # fmt: skip


class Refusals:
    """The listener of one child. Not thread-safe.

    Args:
        listener: the descriptor, which is closed by `close`.
    """

    def __init__(self, listener: int) -> None:
        self.listener = listener
        self.count = 0

    def answer(self) -> Attempt | None:
        """Refuse the call that waits; must only be called when one does.

        Returns:
            What it was, if it is still told.
        """
        packet = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(self.listener, _RECEIVE, packet)
            fields = _NOTIFICATION.unpack(packet)
            response = _RESPONSE.pack(fields[0], 0, -errno.EPERM, 0)
            fcntl.ioctl(self.listener, _SEND, response)
        except FileNotFoundError:
            # The thread that called was killed, or took a signal: then it calls again.
            return None
        self.count += 1
        if self.count > TOLD:
            return None
        return attempt(number=fields[3], architecture=fields[4], arguments=fields[6:])

    @property
    def is_exhausted(self) -> bool:
        """Whether the child had all the answers that it gets."""
        return self.count >= ANSWERED

    def close(self) -> None:
        """Let the kernel refuse what comes from now on, and what waits."""
        os.close(self.listener)


def unconfirmed(detail: str) -> str:
    """What a program's own process reports, so that it cannot pass for the kernel's word."""
    detail = detail[:200]
    return f"{detail} (so it says itself)" if detail.endswith(_WITNESS) else detail


def was_told(attempts: list[Attempt]) -> bool:
    """Whether the kernel told of any of these, and not only the program's own process."""
    return any(one.detail.endswith(_WITNESS) for one in attempts)


def attempt(number: int, architecture: int, arguments: tuple[int, ...]) -> Attempt:
    """What a refused call was, in words that are the same on every run."""
    name = NAMES.get(architecture, {}).get(number, f"system call {number}")
    # The kernel takes nearly all of these as 32 bits with a sign.
    shown = [str((n & 0xFFFFFFFF ^ 0x80000000) - 0x80000000) for n in arguments]
    detail = f"{name}({', '.join(shown[: _ARGUMENTS.get(name, 0)])}){_WITNESS}"
    return Attempt(what=name, detail=detail)
