"""What an attack on a sandbox is, and what is said of a run of one."""

import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from selftaught.testing.attacks.attacked_host import AttackedHost

MIB = 1 << 20

# The start of every program: system calls by number, for what Python does not offer.
PRELUDE = """
import os, platform, signal, struct, sys, time
try:
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = libc.ptrace.restype = ctypes.c_long
except (ImportError, OSError):
    ctypes = libc = None
NUMBERS = {
    "add_key": (248, 217), "bpf": (321, 280), "fanotify_init": (300, 262), "fork": (57, 220),
    "fsopen": (430, 430), "io_uring_setup": (425, 425), "memfd_create": (319, 279),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "open_tree": (428, 428),
    "perf_event_open": (298, 241), "pidfd_getfd": (438, 438), "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424), "process_vm_readv": (310, 270), "rt_sigqueueinfo": (129, 138),
    "setns": (308, 268), "shmat": (30, 196), "shmget": (29, 194),
    "syslog": (103, 116), "tgkill": (234, 131), "unshare": (272, 97), "userfaultfd": (323, 282),
    "clone3": (435, 435),
}
def checked(result):
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
def kernel(name, *arguments):
    number = NUMBERS[name][platform.machine() == "aarch64"]
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return checked(libc.syscall(ctypes.c_long(number), *wide))
def rename_process(name):
    libc.prctl(15, name.encode(), 0, 0, 0)
def first_that_works(calls):
    trouble = None
    for call in calls:
        try:
            result = call()
            if result is not None:
                return result
        except (OSError, ValueError, LookupError, AttributeError) as error:
            trouble = error
    if trouble is not None:
        raise trouble
"""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a sandbox says of one run of `attack()`, from the host's own point of view.

    Attributes:
        ended: `returned` where the sandbox takes `value` for the program's result; for anything
            else a word of the sandbox's own (`raised`, `timed_out`, `died`, `invalid`, ...).
        value: the result, as data.
        reason: what the sandbox or the program says about a failure.
        seconds: how long the call took on the host's clock; the contract measures it anew.
    """

    ended: str
    value: Any = None
    reason: str = ""
    seconds: float = 0.0

    @property
    def text(self) -> str:
        """Everything that came back, as one text to look for secrets in."""
        return f"{self.value!r} {self.reason}"

    @property
    def number(self) -> float:
        """The value if it is a number that was returned, else 0."""
        is_number = self.ended == "returned" and type(self.value) in (int, float)
        return float(self.value) if is_number else 0.0


Judge = Callable[[Report, AttackedHost], bool]


def returned_something(report: Report, host: AttackedHost) -> bool:
    """Judge by the program's word: for what leaves no trace outside of it."""
    return report.ended == "returned" and bool(report.value)


def secret_came_back(report: Report, host: AttackedHost) -> bool:
    """Judge by the secret, which nobody can guess."""
    return host.secret in report.text


def overran(report: Report, host: AttackedHost) -> bool:
    """Judge by the host's clock."""
    return report.seconds > host.patience_s


def filled_the_host(report: Report, host: AttackedHost) -> bool:
    """Judge by the memory that this process took."""
    allowed: int = host.facts["bytes"] // 2
    return host.grown_bytes() > allowed


@dataclass(frozen=True, kw_only=True)
class Attack:
    """A program that tries one thing which a sandbox must refuse, and the judge of its success.

    Attributes:
        name: short, unique, with underscores.
        gains: what an attacker would have of it.
        body: the text of the program; defines `attack()`, which returns something that describes
            its success, and raises or returns None where it was refused. It reads the facts about
            the host from the dict `HOST`.
        succeeds: judges the report, on the host; by ground truth where there is any.
        facts: added to `HOST`: how much to take, for example.
        control_facts: in their place where the attack runs without a sandbox: a small dose.
        needs: what a machine or a user must have for the attack to work without a sandbox. Where
            this is empty, the control must succeed; else it may be skipped.
        frame_text: a JSON text that reaches the program as `HOST["frame"]`, in the frame that the
            sandbox's own channel puts around an answer, compressed by zlib.
        afterwards: a second program, for attacks on the next one; `succeeds` then judges its
            report.
        time_limit_s, memory_bytes: the limits that the sandbox is to hold the attack to.
        lasts: whether only a kill ends it where there is no sandbox.
        on_a_process: whether it goes for another process, which is then started.
        metadata_only: whether it learns no more than the existence and metadata of paths.
    """

    name: str
    gains: str
    body: str
    succeeds: Judge = returned_something
    facts: dict[str, Any] = field(default_factory=dict)
    control_facts: dict[str, Any] = field(default_factory=dict)
    needs: str = ""
    frame_text: str = ""
    afterwards: str = ""
    time_limit_s: float = 2.0
    memory_bytes: int = 256 * MIB
    lasts: bool = False
    on_a_process: bool = False
    metadata_only: bool = False

    def programs(self, facts: dict[str, Any]) -> list[str]:
        """Return the program texts to run one after another, each complete in itself."""
        bodies = [self.body, self.afterwards] if self.afterwards else [self.body]
        return [f"HOST = {facts!r}\n{PRELUDE}\n{textwrap.dedent(body)}" for body in bodies]
