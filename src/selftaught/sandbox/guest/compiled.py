"""One candidate in a compiled language: its builder compiles it once and runs it on each input.

The builder is the first process of a namespace of its own. It holds the candidate's text as data,
and never runs any of it itself. Compiler and program are children of it, each under limits,
Landlock and seccomp before it is executed. When the builder ends, the kernel kills and reaps
whatever is left in its namespace.

    {"op": "load", "source": text}  ->  {"ok": None} or {"failed": ...}
    {"op": "run", "stdin": bytes, "args": [...], ...limits}  ->  {"ok": bytes} or {"failed": ...}
"""

import contextlib
import os
import resource
import select
import signal
import time
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import apart
import landlock
import seccomp
import syscalls
import wire

OUTPUT_BYTES = 4 * 1024 * 1024
SAID_BYTES = 8_192
TOLD_CHARS = 2_000
PROGRAM = f"{apart.BUILD}/program"
PROGRAM_THREADS = 64
_NEVER_STARTED = 126
_CORES = os.cpu_count() or 1
_LOADERS = ("/lib64", "/lib")


class Limits(NamedTuple):
    """What one process tree may use; `processes` counts threads as well."""

    cpu_s: float
    wall_s: float
    memory_bytes: int
    file_bytes: int
    processes: int


class Ended(NamedTuple):
    """How a process ended: its exit code (-n for signal n), or which limit it reached."""

    code: int
    over: str
    stdout: bytes
    stderr: bytes


class Restriction(NamedTuple):
    """What a process is put under before it is executed: a Landlock ruleset and a filter."""

    ruleset: int
    calls: seccomp.Filter


class Builder:
    """Compiles one program and runs it, as the host asks.

    Args:
        pipe: to the host.
        grant: of the zygote, as its configuration holds it.
        library_paths: what any program may read.
    """

    def __init__(self, pipe: wire.Pipe, grant: dict[str, Any], library_paths: list[str]) -> None:
        self.pipe = pipe
        self.grant = grant
        self.library_paths = library_paths
        self.program: Restriction | None = None

    def serve(self) -> None:
        """Answer the host until it closes the pipe."""
        if os.getpid() != 1:
            # It kills whatever it sees: elsewhere that would be all of its user's processes.
            raise OSError("a builder must be the first process of its namespace")
        # A handler of Python's own would let a child interrupt the first process of its namespace.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "load": self.load,
            "run": self.run,
        }
        while True:
            try:
                message = self.pipe.receive()
            except (wire.EndOfFrames, wire.WireError):
                return
            self.pipe.send(operations[message["op"]](message))

    def load(self, message: dict[str, Any]) -> dict[str, Any]:
        """Compile the candidate's text."""
        tools = self.grant["toolchain"]
        os.chdir(apart.BUILD)
        with open(tools["source_name"], "w", encoding="utf-8") as file:
            file.write(message["source"])
        limits = Limits(message["cpu_s"], message["wall_s"], tools["memory_bytes"],
                        apart.BUILD_BYTES, tools["processes"])  # fmt: skip
        environment = {"TMPDIR": apart.BUILD, "LC_ALL": "C.UTF-8", **dict(tools["environment"])}
        compiler = Restriction(
            landlock.make_ruleset(
                [*self.library_paths, *tools["paths"], "/dev/null", "/dev/urandom"],
                write_paths=[apart.BUILD],
                execute_paths=[*tools["programs"], *_loaders()],
            ),
            seccomp.Filter(
                (*seccomp.WRITING, *seccomp.STARTING, *seccomp.PROCESSES), processes=True
            ),
        )
        ended = _run(tools["command"], environment, b"", limits, compiler)
        os.close(compiler.ruleset)
        os.chdir("/")
        if ended.over:
            return _failed(ended.over, f"compiling it took {_told(ended.over, limits)}")
        if ended.code or not os.path.isfile(PROGRAM) or os.path.islink(PROGRAM):
            said = (ended.stderr or ended.stdout[:SAID_BYTES]).decode(errors="replace").strip()
            return _failed("failed", f"it does not compile: {said[:TOLD_CHARS]}")
        self.program = self.restriction_of_the_program()
        return {"ok": None}

    def restriction_of_the_program(self) -> "Restriction":
        """What holds for every run: as for a candidate in Python, but for starting itself."""
        writes = bool(self.grant["tmp_bytes"])
        ruleset = landlock.make_ruleset(
            [*self.library_paths, *self.grant["read"], *landlock.DEVICES],
            write_paths=[apart.TMP] if writes else [],
            execute_paths=[PROGRAM, *_loaders()],
            device_paths=self.grant["devices"],
            network=self.grant["network"],
        )
        calls = (*seccomp.STARTING, *(seccomp.WRITING if writes else ()))
        return Restriction(ruleset, seccomp.Filter(calls, network=self.grant["network"]))

    def run(self, message: dict[str, Any]) -> dict[str, Any]:
        """Run the program once and return what it printed."""
        assert self.program is not None
        tmp_bytes = self.grant["tmp_bytes"]
        limits = Limits(message["cpu_s"], message["wall_s"], message["memory_bytes"], tmp_bytes,
                        PROGRAM_THREADS)  # fmt: skip
        environment = {"LC_ALL": "C.UTF-8", **({"TMPDIR": apart.TMP} if tmp_bytes else {})}
        command = (PROGRAM, *message["args"])
        ended = _run(command, environment, message["stdin"], limits, self.program)
        said = ended.stderr.decode(errors="replace").strip()[:TOLD_CHARS]
        if ended.over:
            return _failed(ended.over, _told(ended.over, limits))
        if ended.code:
            how = f"it exited with code {ended.code}"
            if ended.code < 0:
                how = f"it was killed by signal {-ended.code}"
            return _failed("failed", f"{how}: {said}" if said else how)
        return {"ok": ended.stdout}


def serve(descriptor: int, grant: dict[str, Any], library_paths: list[str]) -> None:
    """Serve the host on a descriptor until it closes."""
    Builder(wire.Pipe(descriptor), grant, library_paths).serve()


def _loaders() -> list[str]:
    """The programs that load shared libraries: part of executing any other."""
    found = []
    for folder in _LOADERS:
        names = os.listdir(folder) if os.path.isdir(folder) else []
        found += [f"{folder}/{name}" for name in names if name.startswith(("ld-linux", "ld-musl"))]
    return found


def _failed(what: str, reason: str) -> dict[str, Any]:
    return {"failed": what, "reason": reason}


def _told(over: str, limits: Limits) -> str:
    return {
        "cpu": f"more than {limits.cpu_s:g} s of CPU time",
        "wall": f"more than {limits.wall_s:g} s by the clock",
        "output": f"it printed more than {OUTPUT_BYTES:,} bytes",
    }[over]


def _run(
    command: tuple[str, ...],
    environment: dict[str, str],
    stdin: bytes,
    limits: Limits,
    restriction: Restriction,
) -> Ended:
    """Run a command to its end, or to a limit, and leave no process behind."""
    before_s = _reaped_cpu_s()
    pipes = [os.pipe() for _ in range(3)]
    pid = os.fork()
    if pid == 0:
        _become(command, environment, pipes, limits, restriction)
    (read_in, write_in), (read_out, write_out), (read_err, write_err) = pipes
    for end in (read_in, write_out, write_err):
        os.close(end)
    streams = _Streams(write_in, read_out, read_err, stdin)
    try:
        over = streams.follow(pid, limits)
    finally:
        streams.close()
        code = _end_all(pid)
    if not over and _reaped_cpu_s() - before_s > limits.cpu_s:
        over = "cpu"
    return Ended(code, over, bytes(streams.stdout), bytes(streams.stderr))


def _reaped_cpu_s() -> float:
    """CPU seconds of all processes that this one has reaped, and of those that they reaped."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _become(
    command: tuple[str, ...],
    environment: dict[str, str],
    pipes: list[tuple[int, int]],
    limits: Limits,
    restriction: Restriction,
) -> NoReturn:
    try:
        os.setsid()
        for number, end in enumerate((pipes[0][0], pipes[1][1], pipes[2][1])):
            os.dup2(end, number)
        for name in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(name, signal.SIG_DFL)
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        landlock.restrict_self(restriction.ruleset)
        os.closerange(3, 4096)
        for limit, value in (
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_CPU, int(limits.cpu_s) + 2),
            (resource.RLIMIT_FSIZE, limits.file_bytes),
            (resource.RLIMIT_MEMLOCK, 0),
            (resource.RLIMIT_MSGQUEUE, 0),
            (resource.RLIMIT_NOFILE, 256),
            (resource.RLIMIT_NPROC, limits.processes),
            (resource.RLIMIT_RTPRIO, 0),
            (resource.RLIMIT_AS, limits.memory_bytes),
        ):
            resource.setrlimit(limit, (value, value))
        restriction.calls.install()
        os.execve(command[0], command, environment)
    except (OSError, ValueError) as error:
        os.write(2, f"the sandbox could not start it: {error}".encode())
    finally:
        os._exit(_NEVER_STARTED)


def _end_all(pid: int) -> int:
    """Kill and reap every process of this namespace but this one; return the code of `pid`."""
    code = 0
    while True:
        # All but the first process, which this one is.
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        try:
            ended, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return code
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)


class _Streams:
    """Feeds a process and takes what it prints, up to caps."""

    def __init__(self, write_in: int, read_out: int, read_err: int, stdin: bytes) -> None:
        self.stdout, self.stderr = bytearray(), bytearray()
        self._in, self._out, self._err = write_in, read_out, read_err
        self._open = {write_in, read_out, read_err}
        self._left = memoryview(stdin)
        for end in self._open:
            os.set_blocking(end, False)

    def close(self) -> None:
        """Close what is still open."""
        for end in self._open:
            os.close(end)
        self._open.clear()

    def follow(self, pid: int, limits: Limits) -> str:
        """Wait for the process; return the limit that it reached, or an empty text."""
        exited = os.pidfd_open(pid)
        clock = (~pid << 3) | 2
        deadline = time.monotonic() + limits.wall_s
        poll = select.poll()
        for end in (exited, self._out, self._err):
            poll.register(end, select.POLLIN)
        poll.register(self._in, select.POLLOUT)
        try:
            while True:
                left_s = deadline - time.monotonic()
                cpu_left_s = limits.cpu_s - _clock(clock)
                if cpu_left_s <= 0:
                    return "cpu"
                if left_s <= 0:
                    return "wall"
                # With all cores busy in its threads, it cannot spend its time faster.
                wait_s = max(0.001, min(left_s, cpu_left_s / _CORES))
                ready = {end for end, _ in poll.poll(wait_s * 1000 + 1)}
                if self._exchange(ready, poll):
                    return "output"
                if exited in ready:
                    return "output" if self._exchange({self._out, self._err}, poll) else ""
        finally:
            os.close(exited)

    def _exchange(self, ready: set[int], poll: "select.poll") -> bool:
        """Move bytes; return whether more came than may."""
        if self._in in ready:
            try:
                self._left = self._left[os.write(self._in, self._left[:65_536]) :]
                done = not self._left
            except BrokenPipeError:
                done = True
            except BlockingIOError:
                done = False
            if done:
                poll.unregister(self._in)
                self._open.remove(self._in)
                # What tells the program that there is no more.
                os.close(self._in)
                self._in = -1
        for end, kept in ((self._out, self.stdout), (self._err, self.stderr)):
            if end not in ready:
                continue
            # So often at most: another process may go on printing for ever.
            for _ in range(16):
                try:
                    part = os.read(end, 1 << 20)
                except BlockingIOError:
                    break
                if not part:
                    with contextlib.suppress(KeyError):
                        poll.unregister(end)
                    break
                kept += part
                if len(self.stdout) > OUTPUT_BYTES:
                    return True
                del self.stderr[SAID_BYTES:]
        return False


def _clock(clock: int) -> float:
    try:
        return time.clock_gettime(clock)
    except OSError:
        return 0.0
