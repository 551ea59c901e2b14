"""One child: loads one program and calls its functions until the host closes the pipe.

The host sends {"op": "load" | "call" | "improve", ...} and gets {"ok": value} or {"failed": ...}.
What the child says about itself is never trusted for more than the value it returned.
"""

import errno
import io
import os
import random
import socket
import sys
import types
import typing
from typing import Any

import improver_api
import wire
import work

EXIT_BROKEN = 70
PROGRAM = "<program>"
LOG_CHARS = 65_536
# CPython 3.11 to 3.14 adapt a function's code to what it meets within so many calls.
_REHEARSALS = 20
_REHEARSED = """
def algorithm(values):
    total = 0
    for value in values:
        total += value
    return [v for v in values], (lambda: total)()
"""

# What the filter of system calls refuses; reported here only where the kernel does not tell.
_CALLS = frozenset([
    "os.exec", "os.fork", "os.forkpty", "os.kill", "os.killpg", "os.posix_spawn", "os.spawn",
    "os.system", "pty.spawn", "socket.__new__", "socket.bind", "socket.connect",
    "socket.getaddrinfo", "subprocess.Popen",
])  # fmt: skip
# Paths are pointers to the kernel's filter, and Landlock and the mounts tell nobody.
_PATHS = frozenset([
    "ctypes.dlopen", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.chown",
    "os.link", "os.symlink", "os.truncate", "os.utime", "shutil.rmtree",
])  # fmt: skip

_PERMITTED_BY_WRITING = frozenset(
    ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree")
)


class CappedLog(io.TextIOBase):
    """Keeps the first LOG_CHARS characters that a program prints and drops the rest."""

    def __init__(self) -> None:
        self._kept: list[str] = []
        self._left = LOG_CHARS

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, text: str) -> int:
        """Keep what still fits."""
        if self._left > 0:
            part = str(text)[: self._left]
            self._left -= len(part)
            self._kept.append(part)
        return len(text)

    def take(self) -> str:
        """Return what was kept and start anew."""
        text, self._kept, self._left = "".join(self._kept), [], LOG_CHARS
        return text


class Child:
    """The state of one child: its program's module and its channel."""

    def __init__(self, pipe: wire.Pipe, read_paths: tuple[str, ...], *, told: bool) -> None:
        self.pipe = pipe
        self.told = told  # whether the kernel tells the host of system calls that it refuses
        self.channel = improver_api.Channel(pipe)
        self.read_paths = read_paths
        self.log = CappedLog()
        self.meter: work.Meter | None = None
        self.module: Any = None  # the program's, once it is loaded
        self.attempts = 0
        self._reporting = False
        self.calls, self.paths = _CALLS, _PATHS  # of which attempts are counted and reported
        self.write_path = ""

    def permit(self, *, writes: bool, connects: bool) -> None:
        """Report no more what a task permits: its private folder, the network."""
        if writes:
            self.write_path = "/tmp/"
            self.paths -= _PERMITTED_BY_WRITING
        if connects:
            self.calls = frozenset(e for e in self.calls if not e.startswith("socket."))

    def serve(self) -> None:
        """Answer the host until it closes the pipe."""
        sys.stdout = sys.stderr = typing.cast(typing.TextIO, self.log)
        sys.addaudithook(self._audit)
        for name in ("wire", "work", "runner", "improver_api", "seccomp", "landlock", "syscalls",
                     "namespaces", "apart", "compiled"):  # fmt: skip
            sys.modules.pop(name, None)
        while True:
            try:
                message = self.pipe.receive()
            except (wire.EndOfFrames, wire.WireError):
                return
            self.answer(message)

    def answer(self, message: dict[str, Any]) -> None:
        """Do what a message asks and send the reply."""
        self.attempts = 0
        try:
            reply = {"ok": getattr(self, "_" + message["op"])(message)}
            if self.meter is not None and self.meter.reached:
                reply = _failure(
                    "work", f"the work limit of {self.meter.limit:,} steps was reached"
                )
        except BaseException as error:  # noqa: BLE001 - the boundary: whatever a program raises ends here
            reply = self._explain(error)
        if printed := self.log.take():
            reply["log"] = printed
        try:
            self.pipe.send(reply)
        except (wire.WireError, MemoryError) as error:
            self.pipe.send(_failure("invalid", str(error) or "the value is too large to send"))

    def _load(self, message: dict[str, Any]) -> None:
        limit: int = message["work"]
        self.meter = work.Meter(limit) if limit else None
        module = types.ModuleType("program")
        sys.modules["program"] = module
        if self.meter is None:
            code = compile(message["source"], PROGRAM, "exec")
        else:
            module.__dict__[work.TICK] = self.meter.tick
            code = work.instrument(message["source"], PROGRAM)
        _seed(message["seed"])
        self.module = module
        self.work_limit = limit
        exec(code, module.__dict__)

    def _call(self, message: dict[str, Any]) -> Any:
        if self.meter is not None:
            self.meter = work.Meter(self.work_limit)
            self.module.__dict__[work.TICK] = self.meter.tick
        _seed(message["seed"])
        return self._function(message["entry_point"])(*message["args"])

    def _improve(self, message: dict[str, Any]) -> Any:
        _seed(message["seed"])
        utility = improver_api.Utility(
            self.channel, message["utility_text"], message["utility_calls"]
        )
        language_model = improver_api.LanguageModel(
            self.channel, message["calls"], message["responses"]
        )
        sys.modules["language_model"] = improver_api.refusing_module(self.channel)
        improve = self._function(message["entry_point"])
        return improve(message["initial"], utility, language_model)

    def _function(self, name: str) -> typing.Callable[..., Any]:
        function: object = self.module.__dict__.get(name)
        if not callable(function):
            raise NameError(f"the program defines no function {name}")
        return function

    def _explain(self, error: BaseException) -> dict[str, Any]:
        what = "failed"
        if isinstance(error, work.WorkLimitReached):
            what = "work"
        elif isinstance(error, MemoryError):
            what = "memory"
        elif isinstance(error, improver_api.BudgetSpent):
            what = "budget"
        elif isinstance(error, OSError) and (
            self.attempts or error.errno in (errno.EPERM, errno.EACCES)
        ):
            what = "refused"
        elif isinstance(error, wire.WireError):
            what = "invalid"
        elif self.meter is not None and self.meter.reached:
            what = "work"
        try:
            text = str(error)[:1_000]
        except Exception:  # noqa: BLE001 - the program's own __str__ may do anything
            text = ""
        name = type(error).__name__
        where = _line_of(error)
        return _failure(what, f"{name}: {text}{where}" if text else f"{name}{where}")

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if self._reporting:
            return
        if event == "open":
            path, mode, flags = args
            if not isinstance(path, (str, bytes)) or self._may_read(path, flags):
                return
            detail = f"open {os.fsdecode(path)!r} {mode or ''}"
        elif event in self.calls and self.told:
            self.attempts += 1
            return
        elif event in self.calls or event in self.paths:
            detail = event + " " + ", ".join(f"{a!r:.60}" for a in args)
        else:
            return
        self._reporting = True
        try:
            self.attempts += 1
            self.channel.note(event, detail)
        finally:
            self._reporting = False

    def _may_read(self, path: str | bytes, flags: int | None) -> bool:
        writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        if path == PROGRAM:
            # The interpreter looks for the line of a syntax error.
            return True
        full = os.path.abspath(os.fsdecode(path))
        if self.write_path and f"{full}/".startswith(self.write_path):
            return True
        return full.startswith(self.read_paths) and not (flags or 0) & writes


def _seed(seed: int) -> None:
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)


def _line_of(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f" (line {error.lineno})"
    # Not traceback.extract_tb: it would open the files it names.
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == PROGRAM:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f" (line {line})" if line else ""


def _failure(what: str, reason: str) -> dict[str, Any]:
    return {"failed": what, "reason": reason}


def serve(
    descriptor: int,
    read_paths: tuple[str, ...],
    *,
    told: bool,
    writes: bool = False,
    connects: bool = False,
) -> None:
    """Serve the host on a descriptor until it closes."""
    child = Child(wire.Pipe(descriptor), read_paths, told=told)
    child.permit(writes=writes, connects=connects)
    child.serve()


def rehearse() -> None:
    """Do in the zygote, with a program of our own, what every child does first.

    What Python makes on first use (the types of syntax trees, adapted code, numpy's random module)
    is then shared by all children. Each would otherwise make it again, in pages of its own.
    """
    near, far = socket.socketpair()
    with near, far:
        host, child = wire.Pipe(near.fileno()), Child(wire.Pipe(far.fileno()), (), told=False)
        call = {"op": "call", "entry_point": "algorithm", "args": [[1, 2.5]], "seed": 1}
        wrong = {**call, "entry_point": "none such"}
        for limit in (0, 1000):
            load = {"op": "load", "source": _REHEARSED, "work": limit, "seed": 1}
            for message in (load, call, wrong) * _REHEARSALS:
                host.send(message)
                child.answer(child.pipe.receive())
                host.receive()
    del sys.modules["program"]
