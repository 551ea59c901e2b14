"""The zygote: a clean interpreter inside the sandbox that forks one child per program.

It reads commands from the host on a packet socket whose descriptor is its only argument:

    {"op": "fork", "memory_bytes": n, "cpu_s": n or null, "threads": n}
                                                     ->  {"pid": n} with [socket, pidfd]
    {"op": "reap", "pid": n}                         ->  {"status": n, "peak_bytes": n, "cpu_s": x}

It never runs a program itself and never holds a secret. When the host goes, the socket ends, and
the zygote with it; being the first process of its namespace, it takes everything along.
"""

import gc
import importlib
import json
import math
import os
import resource
import signal
import socket
import sys
import types
from typing import Any, NoReturn

import apart
import compiled
import landlock
import namespaces
import runner
import seccomp
import syscalls

PACKET_BYTES = 1 << 16


class Zygote:
    """Serves fork and reap commands until the host closes the socket."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.layers: dict[str, bool] = {}
        self.ruleset: int | None = None
        self.filter: seccomp.Filter | None = None
        self.statm: int | None = None
        self.grant: dict[str, Any] = {}
        self.library_paths: list[str] = []
        self.config: dict[str, Any] = {}
        self.apart = False
        self.own_processes = -1

    def prepare(self, config: dict[str, Any]) -> None:
        """Put the layers that are asked for around this process and load what children need."""
        wanted = config["layers"]
        grant = self.grant = config["grant"]
        builds = grant["toolchain"] is not None
        self.library_paths = config["library_paths"]
        rooted = False
        if "namespaces" in wanted:
            rooted = namespaces.enter(network=grant["network"])
            self.apart = builds or grant["tmp_bytes"] > 0
        # Without them this process asks for no signal at its parent's death: the kernel would send
        # one when the thread ends that started it. The end of the socket ends it instead.
        if sys.platform == "linux":
            self.statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        if builds:
            self.own_processes = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        if "namespaces" in wanted:
            namespaces.change_root(
                config["read_paths"],
                config["hidden_paths"],
                config["module_paths"],
                devices=grant["devices"],
                links=grant["toolchain"]["links"] if builds else [],
                folders=[apart.BUILD] if builds else [],
            )
        sys.path[:] = [p for p in sys.path if p != os.path.dirname(os.path.abspath(__file__))]
        # Behind the rest: a package never shadows the standard library.
        sys.path += [p for p in config["search_paths"] if p not in sys.path]
        _make_entropy_repeatable()
        for name in config["preload"]:
            importlib.import_module(name)
        for name, source in config["modules"].items():
            module = types.ModuleType(name)
            exec(compile(source, f"<{name}>", "exec"), module.__dict__)
            sys.modules[name] = module
        runner.rehearse()
        if "landlock" in wanted and not self.apart:
            self.ruleset = self.make_ruleset(config)
        self.config = config
        if "seccomp" in wanted:
            calls = seccomp.WRITING if grant["tmp_bytes"] else ()
            # What a compiled program is refused, its builder sees as its end.
            make = seccomp.Filter if builds else seccomp.best_filter
            self.filter = make(calls, network=grant["network"])
        if self.apart:
            apart.keep_mounting(rooted)
            apart.rehearse(grant["tmp_bytes"], builds)
        elif rooted:
            namespaces.become_nobody()
        if rooted:
            # A change of user clears it.
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        if sys.platform == "linux" and not self.apart:
            syscalls.drop_capabilities()
        self.read_paths: tuple[str, ...] = (*config["read_paths"], *config["module_paths"], "/dev/")
        gc.collect()
        gc.freeze()

    def make_ruleset(self, config: dict[str, Any]) -> int:
        """The Landlock ruleset of a child in Python; of its own where it mounts a folder."""
        ruleset: int = landlock.make_ruleset(
            [*config["read_paths"], *config["module_paths"], *landlock.DEVICES],
            write_paths=[apart.TMP] if self.grant["tmp_bytes"] else [],
            device_paths=self.grant["devices"],
            network=self.grant["network"],
        )
        return ruleset

    def serve(self) -> None:
        """Answer commands for ever."""
        operations = {"fork": self.fork, "reap": self.reap}
        while packet := self.control.recv(PACKET_BYTES):
            command = json.loads(packet)
            operations[command["op"]](command)

    def fork(self, command: dict[str, Any]) -> None:
        """Fork a child and send the host its socket and pidfd."""
        ours, theirs = socket.socketpair()
        pid = os.fork() if self.own_processes < 0 else apart.fork(self.own_processes)
        if pid == 0:
            # Nothing may return from a child into the serving loop, whatever happens to it.
            try:
                self._run_child(theirs, command)
            finally:
                os._exit(runner.EXIT_BROKEN)
        theirs.close()
        pidfd = os.pidfd_open(pid)
        socket.send_fds(self.control, [json.dumps({"pid": pid}).encode()], [ours.fileno(), pidfd])
        os.close(pidfd)
        ours.close()

    def _run_child(self, theirs: socket.socket, command: dict[str, Any]) -> NoReturn:
        grant = self.grant
        if self.apart:
            apart.enter(grant["tmp_bytes"], grant["toolchain"] is not None)
        if grant["toolchain"] is not None:
            os.setsid()
            channel, _ = self.keep_descriptors(theirs.fileno())
            compiled.serve(channel, grant, self.library_paths)
            os._exit(0)
        if self.apart and self.layers.get("landlock"):
            # Rules name folders, and this child's /tmp is another than the next one's.
            self.ruleset = self.make_ruleset(self.config)
        handover = self.handover(theirs.fileno())
        self.limit_child(command)
        channel, ruleset = self.keep_descriptors(theirs.fileno())
        listener = self.restrict_child(ruleset)
        if listener is not None and handover is not None:
            socket.send_fds(handover, [b"\0"], [listener])
            os.close(listener)
            handover.close()
        runner.serve(
            channel,
            self.read_paths,
            told=listener is not None,
            writes=grant["tmp_bytes"] > 0,
            connects=grant["network"],
        )
        os._exit(0)

    def handover(self, channel: int) -> socket.socket | None:
        """A second way into the channel, for the filter's listener alone."""
        if self.filter is None or not self.filter.tells:
            return None
        number = os.dup2(channel, seccomp.HANDOVER)
        return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=number)

    def limit_child(self, command: dict[str, Any]) -> None:
        """Make the calling process a session of its own, with its limits."""
        os.setsid()
        if self.filter is None or not self.layers.get("namespaces"):
            _die_with_parent()
        if self.statm is not None:
            pages = int(os.pread(self.statm, 64, 0).split()[0])
            held = pages * resource.getpagesize()
            limit = held + command["memory_bytes"]
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for name, value in (
            ("RLIMIT_CORE", 0),
            ("RLIMIT_FSIZE", self.grant["tmp_bytes"]),
            ("RLIMIT_MEMLOCK", 0),
            ("RLIMIT_MSGQUEUE", 0),
            ("RLIMIT_NOFILE", 64),
            ("RLIMIT_NPROC", command["threads"]),
            ("RLIMIT_RTPRIO", 0),
        ):
            number = getattr(resource, name, None)
            if number is not None:
                resource.setrlimit(number, (value, value))
        if command["cpu_s"] is not None:
            # First a signal that tells the host why, then one that cannot be ignored.
            seconds = math.ceil(command["cpu_s"])
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))

    def keep_descriptors(self, channel: int) -> tuple[int, int | None]:
        """Close all descriptors but stdio, the channel and the ruleset; return those two.

        Standard error becomes /dev/null: the zygote's own is read by the host.
        """
        os.dup2(1, 2)
        kept, ruleset = os.dup2(channel, 3), None
        if self.ruleset is not None:
            ruleset = os.dup2(self.ruleset, 4)
        first = 4 if ruleset is None else 5
        if self.filter is not None and self.filter.tells:
            os.closerange(first, seccomp.HANDOVER)
            first = seccomp.HANDOVER + 1
        os.closerange(first, 4096)
        return kept, ruleset

    def restrict_child(self, ruleset: int | None) -> int | None:
        """Put the calling process under Landlock and seccomp, for good; return the listener."""
        if sys.platform == "linux":
            syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        if ruleset is not None:
            landlock.restrict_self(ruleset)
            os.close(ruleset)
        return None if self.filter is None else self.filter.install()

    def reap(self, command: dict[str, Any]) -> None:
        """Wait for a killed child and send the host how it ended and what it used."""
        _, status, usage = os.wait4(command["pid"], 0)
        reply = {
            "status": os.waitstatus_to_exitcode(status),
            "peak_bytes": usage.ru_maxrss * 1024,
            "cpu_s": usage.ru_utime + usage.ru_stime,
        }
        self.control.send(json.dumps(reply).encode())


def _die_with_parent() -> None:
    if sys.platform == "linux":
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)


def _make_entropy_repeatable() -> None:
    """Let an unseeded numpy generator draw its seed from `random`, which every call reseeds.

    A program that asks numpy for a generator without a seed would otherwise score differently on
    every run. Must happen before numpy is loaded: it keeps the function it finds.
    """
    import random
    import secrets

    secrets.randbits = lambda k: random.getrandbits(k)


def main() -> None:
    """Prepare, tell the host how that went, and serve."""
    control = socket.socket(fileno=int(sys.argv[1]))
    config = json.loads(control.recv(PACKET_BYTES * 8))
    zygote = Zygote(control)
    zygote.layers = dict.fromkeys(config["layers"], True)
    try:
        zygote.prepare(config)
    except (OSError, ImportError, KeyError, ValueError) as error:
        control.send(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        sys.exit(1)
    tells = zygote.filter is not None and zygote.filter.tells
    control.send(json.dumps({"ready": sorted(zygote.layers), "tells": tells}).encode())
    zygote.serve()


main()
