"""Refused system calls are told by the kernel: whatever the program does, bounded, and never let by."""

import errno
import os
import select
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from selftaught.pool import Attempt
from selftaught.sandbox import zygote as zygote_module
from selftaught.sandbox.candidate import SandboxedCandidate, ended
from selftaught.sandbox.guest import wire
from selftaught.sandbox.layers import STRONG
from selftaught.sandbox.layout import GUEST
from selftaught.sandbox.refusals import ANSWERED, TOLD, attempt, was_told
from selftaught.sandbox.zygote import Child, Zygote
from selftaught.task import Limits
from selftaught.utility import CandidateError, TimedOut

MEMORY = 256 * 1024**2


@pytest.fixture(scope="module", params=STRONG[:2], ids="+".join)
def zygote(request: pytest.FixtureRequest) -> Any:
    made = Zygote(request.param)
    if not made.tells:
        made.close()
        pytest.skip("this kernel, or what contains it, has no listener for refused calls")
    yield made
    made.close()


class Talk:
    """A child, and what was told of it."""

    def __init__(
        self, zygote: Zygote, *lines: str, top: str = "", cpu_s: float | None = None
    ) -> None:
        self.attempts: list[Attempt] = []
        self.child: Child = zygote.fork(MEMORY, cpu_s)
        body = "".join(f"    {line}\n" for line in lines)
        self.child.send({"op": "load", "source": f"{top}\ndef f():\n{body}", "work": 0, "seed": 0})
        self.loaded = self.receive()

    def call(self) -> dict[str, Any]:
        self.child.send({"op": "call", "entry_point": "f", "args": [], "seed": 0})
        return self.receive()

    def receive(self) -> dict[str, Any]:
        return self.child.receive(
            cpu_limit_s=5.0, wall_limit_s=30.0, on_attempt=self.attempts.append
        )

    def kernel(self) -> list[str]:
        return [one.what for one in self.attempts if was_told([one])]


def once(zygote: Zygote, *lines: str, top: str = "") -> tuple[dict[str, Any], Talk]:
    talk = Talk(zygote, *lines, top=top)
    try:
        return talk.call(), talk
    finally:
        talk.child.close()


@pytest.mark.parametrize(
    ("line", "name", "detail"),
    [
        ("__import__('socket').socket()", "socket", "socket(2, 524289, 0)"),
        ("os.kill(1, 9)", "kill", "kill(1, 9)"),
        ("os.fork()", "clone", "clone("),
        ("os.mkdir('/tmp/x')", "mkdir", "mkdir()"),
        ("os.execv('/bin/sh', ['sh'])", "execve", "execve()"),
    ],
)
def test_a_refused_call_is_told_with_its_name_and_numbers(
    zygote: Zygote, line: str, name: str, detail: str
) -> None:
    reply, talk = once(zygote, "import os", line)
    assert reply["failed"] == "refused"
    assert name in talk.kernel()
    assert any(one.detail.startswith(detail) for one in talk.attempts if one.what == name)


def test_a_program_that_goes_around_its_own_hooks_is_told_of(zygote: Zygote) -> None:
    reply, talk = once(
        zygote,
        "libc = ctypes.CDLL(None, use_errno=True)",
        "return [libc.syscall(41, 1, 1, 0), ctypes.get_errno(), libc.syscall(0x40000029, 1, 1, 0)]",
        top="import ctypes",
    )
    assert reply["ok"] == [-1, errno.EPERM, -1]
    assert talk.kernel() == ["socket", "system call 1073741865"]


def test_nothing_is_told_twice_or_of_a_program_that_tries_nothing(zygote: Zygote) -> None:
    _, talk = once(zygote, "import socket", "socket.socket()")
    assert [one.what for one in talk.attempts] == ["socket"]
    _, talk = once(zygote, "import threading, tempfile, random, subprocess, asyncio",
                   "threading.Thread(target=print).start()", "return sum(range(100))")  # fmt: skip
    assert talk.attempts == []


def test_paths_are_told_by_the_hooks_which_see_them(zygote: Zygote) -> None:
    _, talk = once(zygote, "open('/etc/passwd')")
    (told,) = talk.attempts
    assert "/etc/passwd" in told.detail
    assert not was_told([told])


def test_what_is_told_is_bounded_and_the_rest_is_refused_all_the_same(zygote: Zygote) -> None:
    calls = ANSWERED + 500
    reply, talk = once(
        zygote,
        "libc, met = ctypes.CDLL(None, use_errno=True), {}",
        f"for _ in range({calls}):",
        "    assert libc.getsockname(0, None, None) == -1",
        "    met[ctypes.get_errno()] = met.get(ctypes.get_errno(), 0) + 1",
        "return met",
        top="import ctypes",
    )
    assert reply["ok"] == {errno.EPERM: ANSWERED, errno.ENOSYS: calls - ANSWERED}
    assert talk.kernel() == ["getsockname"] * TOLD


def test_a_refusal_while_the_program_loads_is_told(zygote: Zygote) -> None:
    _, talk = once(
        zygote, "return 1", top="import socket\ntry: socket.socket()\nexcept OSError: pass"
    )
    assert talk.kernel() == ["socket"]


def test_a_forged_report_does_not_pass_for_the_kernels(zygote: Zygote) -> None:
    reply, talk = once(
        zygote,
        "note = json.dumps({'note': 'bpf', 'detail': 'bpf(), told by the kernel'}).encode()",
        "os.write(3, struct.pack('>II', len(note), 0) + note)",
        "return 1",
        top="import json, os, struct",
    )
    assert reply["ok"] == 1
    assert [one.what for one in talk.attempts] == ["bpf"]
    assert talk.kernel() == []


def test_the_way_of_the_listener_is_closed_to_programs(zygote: Zygote) -> None:
    """`sendmsg` passes the filter on one number alone, and that number cannot be opened."""
    reply, talk = once(
        zygote,
        "libc, met = ctypes.CDLL(None, use_errno=True), []",
        "for descriptor in (100, 3):",
        "    met.append((libc.sendmsg(descriptor, None, 0), ctypes.get_errno()))",
        "for way in (lambda: os.dup2(3, 100), lambda: fcntl.fcntl(3, fcntl.F_DUPFD, 100)):",
        "    try: met.append(way())",
        "    except OSError as error: met.append(error.errno)",
        "return met",
        top="import ctypes, fcntl, os",
    )
    assert reply["ok"] == [(-1, errno.EBADF), (-1, errno.EPERM), errno.EBADF, errno.EINVAL]
    assert talk.kernel() == ["sendmsg"]


def test_a_host_that_is_busy_delays_a_refused_call_and_does_not_lose_it(zygote: Zygote) -> None:
    talk = Talk(
        zygote,
        "if not met:",
        "    threading.Thread(target=attempt).start()",
        "    return 0",
        "time.sleep(0.2)",
        "return met",
        top="import socket, threading, time\n"
        "met = []\n"
        "def attempt():\n"
        "    time.sleep(0.05)\n"
        "    try: socket.socket()\n"
        "    except OSError as error: met.append(error.errno)\n"
        "    else: met.append(0)\n",
    )
    try:
        assert talk.call()["ok"] == 0
        time.sleep(0.3)
        talk.child.send({"op": "call", "entry_point": "attempt", "args": [], "seed": 0})
        assert talk.receive() == {"ok": None}
        assert talk.call()["ok"] == [errno.EPERM, errno.EPERM]
    finally:
        talk.child.close()


def test_a_child_whose_host_never_looks_can_be_killed(zygote: Zygote) -> None:
    talk = Talk(zygote, "import socket", "socket.socket()")
    talk.child.send({"op": "call", "entry_point": "f", "args": [], "seed": 0})
    time.sleep(0.1)
    assert talk.child.close() == -signal.SIGKILL


def test_without_a_listener_the_hooks_report_and_the_refusal_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = tmp_path / "guest"
    shutil.copytree(GUEST, guest)
    seccomp = guest / "seccomp.py"
    text = seccomp.read_text()
    # What a kernel before 5.0 says, or one whose only listener is taken.
    broken = text.replace("SECCOMP_NEW_LISTENER, program", "1 << 20, program").replace(
        "flags = syscalls.SECCOMP_NEW_LISTENER", "flags = 1 << 20"
    )
    assert broken != text
    seccomp.write_text(broken)
    monkeypatch.setattr(zygote_module, "GUEST", guest)
    silent = Zygote(STRONG[0])
    try:
        assert silent.tells is False
        reply, talk = once(silent, "import socket", "socket.socket()")
    finally:
        silent.close()
    assert "PermissionError" in reply["reason"]
    assert [one.what for one in talk.attempts] == ["socket.__new__"]
    assert talk.kernel() == []


def test_calls_are_named_by_architecture_and_pointers_are_left_out() -> None:
    x86_64, aarch64 = 0xC000003E, 0xC00000B7
    assert attempt(62, x86_64, ((1 << 32) - 1, 9, 7, 0, 0, 0)).detail.startswith("kill(-1, 9), ")
    assert attempt(129, aarch64, (1, 9, 7, 0, 0, 0)).what == "kill"
    assert attempt(59, x86_64, (0x7F00DEADBEEF,) * 6).detail.startswith("execve(), ")
    assert attempt(9999, x86_64, (0,) * 6).what == "system call 9999"


def test_time_between_calls_is_charged_to_the_candidate(zygote: Zygote) -> None:
    candidate = SandboxedCandidate(
        zygote,
        "import threading\n"
        "def spin():\n"
        "    while True: pass\n"
        "def algorithm(x):\n"
        "    threading.Thread(target=spin, daemon=True).start()\n"
        "    return x\n",
        Limits(time_s=0.2, wall_s=20.0, work=0),
        seed=1,
    )
    try:
        assert candidate.call("algorithm", 1) == 1
        end = time.monotonic() + 20
        child = candidate._child
        assert child is not None
        while child.cpu_s() < child.charged_s + 0.25 and time.monotonic() < end:
            time.sleep(0.02)
        with pytest.raises(CandidateError, match="CPU time"):
            candidate.call("algorithm", 2)
    finally:
        candidate.close()


def test_the_kernel_ends_a_child_that_nobody_looks_at(zygote: Zygote) -> None:
    talk = Talk(
        zygote,
        "threading.Thread(target=spin, daemon=True).start()",
        top="import threading\ndef spin():\n    while True: pass\n",
        cpu_s=1.0,
    )
    talk.call()
    gone = select.poll()
    gone.register(talk.child._pidfd, select.POLLIN)
    assert gone.poll(30_000)
    with pytest.raises(wire.EndOfFrames):
        talk.call()
    code = talk.child.close()
    assert code == -signal.SIGXCPU
    assert isinstance(ended(code, wire.EndOfFrames()), TimedOut)


def test_a_zygote_tells_how_it_ended(zygote: Zygote) -> None:
    layers = STRONG[0]
    for stop, reason, is_inner in (
        (signal.SIGKILL, "killed by SIGKILL", False),
        (signal.SIGTERM, "killed by SIGTERM", False),
        (signal.SIGKILL, "killed by SIGKILL, as the kernel", True),
    ):
        fresh = Zygote(layers)
        pid = fresh._process.pid
        inner = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(inner[-1]) if is_inner else pid, stop)
        fresh._process.wait()
        with pytest.raises(zygote_module.SandboxUnavailable, match=reason):
            fresh.fork(MEMORY)
        fresh.close()
