"""What attacks go for on the host: files, a process, sockets. All made for the purpose."""

import contextlib
import ctypes
import gc
import os
import resource
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

# Hidden data in the memory of the process that judges programs.
CANARY = "canary-" + secrets.token_hex(16)
ENVIRONMENT_KEY = "SELFTAUGHT_CONTRACT_API_KEY"
ENVIRONMENT_SECRET = "sk-" + secrets.token_hex(16)
INHERITED_SECRET = secrets.token_hex(16)

_VICTIM = """
import ctypes, os, sys, time
buffer = ctypes.create_string_buffer(os.environ["SECRET"].encode())
held = os.open(os.environ["SECRET_FILE"], os.O_RDONLY)
print(ctypes.addressof(buffer), held, flush=True)
time.sleep(600)
"""


@contextlib.contextmanager
def planted_secrets() -> Iterator[None]:
    """Keep a key in this process's environment and a secret file open, for children to inherit."""
    before = os.environ.get(ENVIRONMENT_KEY)
    os.environ[ENVIRONMENT_KEY] = ENVIRONMENT_SECRET
    try:
        with tempfile.NamedTemporaryFile() as file:
            file.write(INHERITED_SECRET.encode())
            file.flush()
            # For reading only: what the controls write everywhere must not go here.
            with open(file.name, "rb") as inherited:
                os.set_inheritable(inherited.fileno(), True)
                yield
    finally:
        if before is None:
            del os.environ[ENVIRONMENT_KEY]
        else:
            os.environ[ENVIRONMENT_KEY] = before


class AttackedHost:
    """One attack's surroundings; a context manager that removes them.

    Everything may be read and written by everybody, so that a refusal comes from the sandbox and
    not from file permissions. Only the key in `.ssh` has the permissions that it always has.

    Args:
        facts: further facts for the program.
        with_victim: whether to start another process that the attack goes for.
        patience_s: a call that takes longer counts as one that did not end.

    Attributes:
        secret: a text that cannot be guessed: what secret files and memory hold.
        marker: the name that processes of the attack give themselves, at most 15 characters.
        facts: what the program is told. With `watch` in it, `marker_was_seen` is kept; with
            `bytes`, what the program is to take, `grown_bytes` is.
        marker_was_seen: whether a process with the marker ran at any time.
    """

    def __init__(
        self, facts: dict[str, Any], patience_s: float, *, with_victim: bool = False
    ) -> None:
        self.secret = secrets.token_hex(16)
        self.marker = "m" + secrets.token_hex(6)
        self.patience_s = patience_s
        self._more_facts = facts
        self._with_victim = with_victim
        self._victim: subprocess.Popen[str] | None = None
        self._sockets: dict[str, socket.socket] = {}
        self._resident_bytes = 0
        self.marker_was_seen = False
        self._watched_enough = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        # Not pytest's own temporary folder: only its owner may enter that.
        self.folder = Path(tempfile.mkdtemp(prefix="attacked-"))
        try:
            self._write_files()
            victim = self._start_victim() if self._with_victim else {}
            self._open_sockets()
        except BaseException:
            self._remove()
            raise
        names = ("secret_file", "ssh_key", "link", "package", "victim_module")
        paths = {name: str(path) for name, path in zip(names, self._paths(), strict=True)}
        self.facts: dict[str, Any] = {
            **paths,
            "folder": str(self.folder),
            "pid": os.getpid(),
            **victim,
            "secret_length": len(self.secret),
            "marker": self.marker,
            **{f"{name}_address": sock.getsockname() for name, sock in self._sockets.items()},
            **self._more_facts,
        }
        if "bytes" in self.facts:
            self._resident_bytes = _reset_peak()
        if "watch" in self.facts:
            self._watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._remove()

    # ---- ground truth

    def read(self, name: str) -> str | None:
        """The text of a file in the folder, None where there is none."""
        path = self.folder / name
        return path.read_text() if path.is_file() else None

    def is_victim_alive(self) -> bool:
        """Whether the other process still runs; waits a moment for a signal to arrive."""
        assert self._victim is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._victim.wait(timeout=0.05)
        return self._victim.returncode is None

    def is_victim_limited(self) -> bool:
        """Whether somebody took the right to open files from the other process."""
        assert self._victim is not None
        return resource.prlimit(self._victim.pid, resource.RLIMIT_NOFILE)[0] == 0

    def was_contacted(self, name: str) -> bool:
        """Whether a connection or a datagram reached a socket."""
        readable, _, _ = select.select([self._sockets[name]], [], [], 0)
        return bool(readable)

    def count_marked_processes(self) -> int:
        """How many processes that took the marker for their name run, in whatever namespace."""
        return sum(1 for _ in self._marked())

    def grown_bytes(self) -> int:
        """By how much this process's memory has grown at most since the attack began."""
        return _status_bytes("VmHWM") - self._resident_bytes

    # ---- making and removing

    def _paths(self) -> list[Path]:
        package = self.folder / "site-packages"
        names = ("secret.txt", ".ssh/id_ed25519", "link")
        return [*(self.folder / name for name in names), package, package / "victim.py"]

    def _write_files(self) -> None:
        secret_file, key, link, package, module = self._paths()
        for directory in (self.folder, key.parent, package, package / "__pycache__"):
            directory.mkdir(exist_ok=True)
            directory.chmod(0o777)
        for path in (secret_file, key, self.folder / "instances.json"):
            path.write_text(self.secret)
            path.chmod(0o600 if path == key else 0o666)
        module.write_text("VALUE = 1\n")
        module.chmod(0o666)
        link.symlink_to(f"/{self.secret}")

    def _start_victim(self) -> dict[str, int]:
        self._victim = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _VICTIM, self.secret],
            env={"SECRET": self.secret, "SECRET_FILE": str(self.folder / "secret.txt")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._victim.stdout is not None
        address, held = self._victim.stdout.readline().split()
        return {
            "victim": self._victim.pid,
            "victim_address": int(address),
            "victim_descriptor": int(held),
        }

    def _open_sockets(self) -> None:
        abstract = f"\0{self.marker}"
        for name, family, kind, address in (
            ("tcp", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            ("udp", socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            ("unix", socket.AF_UNIX, socket.SOCK_STREAM, str(self.folder / "socket")),
            ("unix_datagram", socket.AF_UNIX, socket.SOCK_DGRAM, str(self.folder / "datagrams")),
            ("abstract", socket.AF_UNIX, socket.SOCK_STREAM, abstract),
        ):
            opened = self._sockets[name] = socket.socket(family, kind)
            opened.bind(address)
            if kind == socket.SOCK_STREAM:
                opened.listen()
            if isinstance(address, str) and not address.startswith("\0"):
                os.chmod(address, 0o777)

    def _watch(self) -> None:
        while not self.marker_was_seen and not self._watched_enough.wait(0.02):
            self.marker_was_seen = self.count_marked_processes() > 0

    def _marked(self) -> Iterator[int]:
        for entry in Path("/proc").glob("[0-9]*"):
            # A process may end while it is looked at.
            with contextlib.suppress(OSError):
                name = (entry / "comm").read_text().strip()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                first = (entry / "cmdline").read_bytes().partition(b"\0")[0]
                if state not in "ZX" and self.marker in (name, first.decode(errors="replace")):
                    yield int(entry.name)

    def _remove(self) -> None:
        self._watched_enough.set()
        if self._watcher.is_alive():
            self._watcher.join()
        for opened in self._sockets.values():
            opened.close()
        if self._victim is not None:
            self._victim.kill()
            self._victim.wait()
            assert self._victim.stdout is not None
            self._victim.stdout.close()
        for pid in self._marked():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


def _status_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def _reset_peak() -> int:
    """Set this process's peak memory back to what it holds now, and return that."""
    gc.collect()
    # What the C library keeps of freed memory would hide as much growth. Not in every C library.
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _status_bytes("VmRSS")
