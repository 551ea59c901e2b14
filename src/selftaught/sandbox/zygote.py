"""The host's side of a zygote: start it, fork children from it, kill and reap them."""

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from selftaught.errors import SandboxUnavailable
from selftaught.pool import Attempt
from selftaught.sandbox.grant import NOTHING, Grant
from selftaught.sandbox.guest import wire
from selftaught.sandbox.layout import GUEST, layout_for

THREADS = 64
# Reports of attempts that are handed on, and those after which a child is ended: a guest of ours
# sends fewer, so more of them are forged.
NOTES_TOLD = 50
MAX_NOTES = 1_000
START_TIMEOUT_S = 30.0
# A guest that waits for a message takes it at once; one that never reads must not stop its host.
SEND_S = 20.0
_REPLY_BYTES = 1 << 16
_CORES = os.cpu_count() or 1

# What the zygote's own interpreter needs, and nothing of the host's: no key, no home, no path.
_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUTF8": "1",
    "LC_ALL": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


class CpuLimitReached(Exception):
    """The child used more CPU time than the call may."""


class Child:
    """One running child. Not thread-safe; killed and reaped by `close`."""

    def __init__(self, zygote: "Zygote", pid: int, connection: socket.socket, pidfd: int) -> None:
        self._zygote = zygote
        self._inner_pid = pid
        self._connection = connection
        self._pidfd = pidfd
        self._clock = _cpu_clock_of(_host_pid(pidfd))
        connection.setblocking(False)
        self._notes = 0
        self._poll = select.poll()
        self._poll.register(connection.fileno(), select.POLLIN)
        self.pipe = wire.Pipe(connection.fileno())

    def cpu_s(self) -> float:
        """CPU seconds that all threads of the child have used, as the kernel counts them."""
        try:
            return time.clock_gettime(self._clock)
        except OSError:
            return 0.0

    def send(self, message: dict[str, Any]) -> None:
        """Send a message.

        Raises:
            wire.WireError: the message cannot be sent, or the child is gone.
            wire.Overdue: the child did not take it within SEND_S.
        """
        self.send_frames(wire.encode(message))

    def send_frames(self, frames: bytes) -> None:
        """Send messages that are encoded already; raises what `send` does."""
        try:
            self.pipe.send_frames(frames, time.monotonic() + SEND_S)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise wire.WireError("The child is gone.") from error

    def receive(
        self, *, cpu_limit_s: float, wall_limit_s: float, on_attempt: Callable[[Attempt], None]
    ) -> dict[str, Any]:
        """Wait for the child's next message; what it reports as attempts is handed on.

        Args:
            cpu_limit_s: CPU seconds that it may use until then, measured from outside.
            wall_limit_s: seconds on the clock.
            on_attempt: called for every reported attempt.

        Raises:
            CpuLimitReached, wire.Overdue, wire.EndOfFrames, wire.WireError.
        """
        end_cpu = self.cpu_s() + cpu_limit_s
        deadline = time.monotonic() + wall_limit_s
        # With all cores busy in its threads, the child cannot spend its time faster.
        look_at = deadline - wall_limit_s + cpu_limit_s / _CORES

        def wait(seconds_left: float) -> None:
            nonlocal look_at
            now = deadline - seconds_left
            if now >= look_at:
                cpu_left = end_cpu - self.cpu_s()
                if cpu_left <= 0:
                    raise CpuLimitReached
                look_at = now + max(cpu_left / _CORES, 0.001)
            self._poll.poll(min(seconds_left, look_at - now) * 1000 + 1)

        while True:
            message: dict[str, Any] = self.pipe.receive(deadline, wait)
            if "note" not in message:
                return message
            self._notes += 1
            if self._notes > MAX_NOTES:
                raise wire.WireError(f"more than {MAX_NOTES:,} reports of attempts")
            if self._notes > NOTES_TOLD:
                continue
            what, detail = str(message["note"]), str(message.get("detail", ""))
            on_attempt(Attempt(what=what[:40], detail=detail[:200]))

    def close(self) -> int:
        """Kill the child if it still runs, reap it, and return its exit code (-n for signal n)."""
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass
        finally:
            os.close(self._pidfd)
            self._connection.close()
        return self._zygote.reap(self._inner_pid)


class Zygote:
    """A clean interpreter inside the sandbox that children are forked from.

    Thread safety: `fork` and `reap` may be called from any thread.

    Args:
        layers: from `selftaught.sandbox.layers`.
        modules: third-party modules that children may import; preloaded.
        guest_modules: extra modules by name, as source text (`helpers`).
        preload: which of the modules are preloaded, where that is not all of them.
        grant: what its children may do beyond the default.

    Raises:
        SandboxUnavailable: a layer could not be set up; says which and what the kernel said.
    """

    def __init__(
        self,
        layers: tuple[str, ...],
        modules: tuple[str, ...] = (),
        guest_modules: dict[str, str] | None = None,
        preload: tuple[str, ...] | None = None,
        grant: Grant = NOTHING,
    ) -> None:
        layout = layout_for(modules)
        self.grant = grant
        tools = grant.toolchain.mounted if grant.toolchain else ()
        self._lock = threading.Lock()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-s", "-B", str(GUEST), str(theirs.fileno())],
                env=_ENVIRONMENT,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._control = ours
        self._control.settimeout(START_TIMEOUT_S)
        config = {
            "layers": layers,
            "read_paths": layout.read_paths,
            "hidden_paths": layout.hidden_paths,
            "module_paths": (*layout.module_paths, *grant.read, *tools),
            "library_paths": layout.library_paths,
            "grant": msgspec.to_builtins(grant),
            "search_paths": layout.search_paths,
            "preload": modules if preload is None else preload,
            "modules": guest_modules or {},
        }
        self._control.send(json.dumps(config).encode())
        self._await_ready()

    def _await_ready(self) -> None:
        try:
            packet = self._control.recv(_REPLY_BYTES)
        except TimeoutError:
            packet = b""
        reply = json.loads(packet) if packet else {}
        if "ready" not in reply:
            self._process.kill()
            said = (self._process.stderr.read() if self._process.stderr else b"").decode()
            self.close()
            lines = said.strip().splitlines()
            reason = reply.get("error") or (lines[-1] if lines else "no answer")
            raise SandboxUnavailable(f"The sandbox could not start: {reason}.")
        if self._process.stderr:
            self._process.stderr.close()
        self._control.settimeout(None)

    def fork(self, memory_bytes: int) -> Child:
        """Fork a child that may take this much memory beyond what the zygote holds.

        What it may write to its private folder is part of it: that lies in memory.
        """
        memory_bytes -= self.grant.tmp_bytes
        command = {"op": "fork", "memory_bytes": memory_bytes, "threads": THREADS}
        packet, descriptors = b"", list[int]()
        with self._lock, contextlib.suppress(ConnectionError):
            self._control.send(json.dumps(command).encode())
            packet, descriptors, _, _ = socket.recv_fds(self._control, _REPLY_BYTES, 2)
        if len(descriptors) != 2:
            raise SandboxUnavailable("The sandbox's zygote ended; it may have been killed.")
        connection = socket.socket(fileno=descriptors[0])
        return Child(self, json.loads(packet)["pid"], connection, descriptors[1])

    def reap(self, pid: int) -> int:
        """Wait for a killed child and return its exit code."""
        with self._lock:
            try:
                self._control.send(json.dumps({"op": "reap", "pid": pid}).encode())
                packet = self._control.recv(_REPLY_BYTES)
            except OSError:
                packet = b""
        return int(json.loads(packet)["status"]) if packet else -signal.SIGKILL

    def close(self) -> None:
        """End the zygote and everything in it."""
        self._control.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stderr:
            self._process.stderr.close()


def _host_pid(pidfd: int) -> int:
    """The process id of a pidfd as this process's namespace sees it."""
    info = os.open(f"/proc/self/fdinfo/{pidfd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(info, 4096)
    finally:
        os.close(info)
    # A zombie's is -1.
    found = re.search(rb"^Pid:\s*(-?\d+)$", text, re.MULTILINE)
    if found:
        return int(found[1])
    raise SandboxUnavailable("The kernel does not name a child's process id; Linux 5.4 is needed.")


def _cpu_clock_of(pid: int) -> int:
    """The clock id of a process's CPU time, as clock_getcpuclockid(3) makes it."""
    return (~pid << 3) | 2
