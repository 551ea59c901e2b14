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

from selftaught.errors import ProcessLost, SandboxUnavailable
from selftaught.pool import Attempt
from selftaught.sandbox.grant import NOTHING, Grant
from selftaught.sandbox.guest import wire
from selftaught.sandbox.layout import GUEST, layout_for
from selftaught.sandbox.refusals import Refusals, unconfirmed

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
_SILENT = "it did not answer"

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
    """One running child. Not thread-safe; killed and reaped by `close`.

    Attributes:
        pipe: the frames to and from it.
        charged_s: CPU seconds that it had used when its last answer came. What it uses from then
            on, between calls too, counts against its next limit.
    """

    def __init__(self, zygote: "Zygote", pid: int, connection: socket.socket, pidfd: int) -> None:
        self._zygote = zygote
        self._inner_pid = pid
        self._connection = connection
        self._pidfd = pidfd
        self._clock = _cpu_clock_of(_host_pid(pidfd))
        connection.setblocking(False)
        self.charged_s = 0.0
        self._refusals: Refusals | None = None
        self._is_met = not zygote.tells
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
            wire.WireError: the message cannot be sent.
            wire.EndOfFrames: the child is gone.
            wire.Overdue: the child did not take it within SEND_S.
        """
        self.send_frames(wire.encode(message))

    def send_frames(self, frames: bytes) -> None:
        """Send messages that are encoded already; raises what `send` does."""
        try:
            self.pipe.send_frames(frames, time.monotonic() + SEND_S)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise wire.EndOfFrames from error

    def receive(
        self,
        *,
        cpu_limit_s: float,
        wall_limit_s: float,
        on_attempt: Callable[[Attempt], None],
        goes_on: bool = False,
    ) -> dict[str, Any]:
        """Wait for the child's next message; what it reports as attempts is handed on.

        Args:
            cpu_limit_s: CPU seconds that it may use from its last answer on, measured from outside.
            wall_limit_s: seconds on the clock.
            on_attempt: called for every attempt that is told, by the child or by the kernel.
            goes_on: it has more to answer already, so that what it has used by the time we look
                is not all for this answer. A limit is then kept while we wait, and not afterwards.

        Raises:
            CpuLimitReached, wire.Overdue, wire.EndOfFrames, wire.WireError.
        """
        deadline = time.monotonic() + wall_limit_s
        end_cpu = self.charged_s + cpu_limit_s
        # With all cores busy in its threads, the child cannot spend its time faster.
        patience_s = max(0.0, min(wall_limit_s, cpu_limit_s / _CORES))
        is_first = True

        def wait() -> None:
            nonlocal is_first, patience_s
            if is_first:
                # Most answers come within this, and no clock need be read for them.
                is_first = False
            else:
                now = time.monotonic()
                cpu_left = end_cpu - self.cpu_s()
                if cpu_left <= 0:
                    raise CpuLimitReached
                if now >= deadline:
                    raise wire.Overdue
                patience_s = min(deadline - now, max(cpu_left / _CORES, 0.001))
            for descriptor, event in self._poll.poll(patience_s * 1000 + 1):
                if descriptor != self.pipe.read_fd:
                    self._refuse(event, on_attempt)

        if not self._is_met:
            self._meet(wait)
        while True:
            message = self.pipe.receive(wait=wait)
            if "note" not in message:
                self.charged_s = self.cpu_s()
                if self.charged_s > end_cpu and not goes_on:
                    raise CpuLimitReached
                return message
            self._notes += 1
            if self._notes > MAX_NOTES:
                raise wire.WireError(f"more than {MAX_NOTES:,} reports of attempts")
            if self._notes > NOTES_TOLD:
                continue
            what, detail = str(message["note"]), str(message.get("detail", ""))
            on_attempt(Attempt(what=what[:40], detail=unconfirmed(detail)))

    def _meet(self, wait: Callable[[], None]) -> None:
        """Take the listener that a child sends ahead of everything, before it loads a program."""
        while True:
            wait()
            try:
                hello, descriptors, _, _ = socket.recv_fds(self._connection, 1, 1)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                hello = b""
            if not hello:
                raise wire.EndOfFrames
            self._is_met = True
            if descriptors:
                self._refusals = Refusals(descriptors[0])
                self._poll.register(descriptors[0], select.POLLIN)
            return

    def _refuse(self, event: int, on_attempt: Callable[[Attempt], None]) -> None:
        assert self._refusals is not None
        if event & select.POLLIN and not self._refusals.is_exhausted:
            attempt = self._refusals.answer()
            if attempt is not None:
                on_attempt(attempt)
        else:
            self._end_refusals()

    def _end_refusals(self) -> None:
        if self._refusals is not None:
            self._poll.unregister(self._refusals.listener)
            self._refusals.close()
            self._refusals = None

    def close(self) -> int:
        """Kill the child if it still runs, reap it, and return its exit code (-n for signal n).

        Raises:
            SandboxUnavailable: its zygote ended, and it with that.
        """
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass
        finally:
            os.close(self._pidfd)
            self._end_refusals()
            self._connection.close()
        return self._zygote.reap(self._inner_pid)


class Zygote:
    """A clean interpreter inside the sandbox that children are forked from.

    Thread safety: `fork` and `reap` may be called from any thread.

    Attributes:
        tells: whether the kernel tells the host of system calls that it refuses to children.

    Args:
        layers: from `selftaught.sandbox.layers`.
        modules: third-party modules that children may import; preloaded.
        guest_modules: extra modules by name, as source text (`helpers`).
        preload: which of the modules are preloaded, where that is not all of them.
        grant: what its children may do beyond the default.

    Raises:
        SandboxUnavailable: a layer could not be set up; says which and what the kernel said.
        ProcessLost: it was killed from outside.
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
        self._ending = threading.Lock()
        self._how = ""
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
        self._await_ready(json.dumps(config).encode())

    def _await_ready(self, config: bytes) -> None:
        packet = b""
        # One that was killed breaks the connection off; one that hangs runs into its time limit.
        with contextlib.suppress(OSError):
            self._control.send(config)
            packet = self._control.recv(_REPLY_BYTES)
        reply = json.loads(packet) if packet else {}
        if "ready" not in reply:
            gone = self._ended(" could not start", str(reply.get("error", "")))
            self.close()
            raise gone
        self.tells = bool(reply["tells"])
        self._control.settimeout(None)

    def _ended(self, what: str = "'s zygote ended", reason: str = "") -> SandboxUnavailable:
        """What to raise of a zygote that is gone; nothing in it can send it SIGKILL."""
        with self._ending:
            # Whoever comes second finds nothing left to read.
            self._how = reason or self._how or self._how_it_ended()
            is_lost = self._process.returncode == -signal.SIGKILL and self._how != _SILENT
        kind = ProcessLost if is_lost else SandboxUnavailable
        return kind(f"The sandbox{what}: {self._how}.")

    def _how_it_ended(self) -> str:
        """The exit code of a zygote that does not answer, and the end of what it said."""
        try:
            code = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return _SILENT
        assert self._process.stderr is not None
        os.set_blocking(self._process.stderr.fileno(), False)
        said = self._process.stderr.read(_REPLY_BYTES) or b""
        lines = said.decode(errors="replace").strip().splitlines()
        return how_ended(code) + (f", and said last: {lines[-1][:300]}" if lines else "")

    def fork(self, memory_bytes: int, cpu_s: float | None = None) -> Child:
        """Fork a child.

        Args:
            memory_bytes: what it may take beyond what the zygote holds. What it may write to its
                private folder is part of it: that lies in memory.
            cpu_s: CPU seconds after which the kernel ends it, whether or not anybody looks.

        Raises:
            SandboxUnavailable: the zygote ended; says how.
        """
        command = {
            "op": "fork",
            "memory_bytes": memory_bytes - self.grant.tmp_bytes,
            "cpu_s": cpu_s,
            "threads": THREADS,
        }
        packet, descriptors = b"", list[int]()
        # Another thread may have found it ended, and closed it.
        with self._lock, contextlib.suppress(OSError):
            self._control.send(json.dumps(command).encode())
            packet, descriptors, _, _ = socket.recv_fds(self._control, _REPLY_BYTES, 2)
        if len(descriptors) != 2:
            raise self._ended()
        connection = socket.socket(fileno=descriptors[0])
        try:
            return Child(self, json.loads(packet)["pid"], connection, descriptors[1])
        except BaseException:
            connection.close()
            os.close(descriptors[1])
            raise

    def reap(self, pid: int) -> int:
        """Wait for a killed child and return its exit code.

        Raises:
            SandboxUnavailable: the zygote ended, and the child with it: no doing of the child's.
        """
        packet = b""
        with self._lock, contextlib.suppress(OSError):
            self._control.send(json.dumps({"op": "reap", "pid": pid}).encode())
            packet = self._control.recv(_REPLY_BYTES)
        if not packet:
            raise self._ended()
        return int(json.loads(packet)["status"])

    def close(self) -> None:
        """End the zygote and everything in it."""
        self._control.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with self._ending:
            self._how = self._how or how_ended(self._process.returncode)
            if self._process.stderr:
                self._process.stderr.close()


def how_ended(exit_code: int) -> str:
    """How a process of ours ended, by its exit code (-n for signal n)."""
    if exit_code >= 0:
        return f"it exited with code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    memory = ", as the kernel does when memory runs out" if exit_code == -signal.SIGKILL else ""
    return f"it was killed by {name}{memory}"


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
