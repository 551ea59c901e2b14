"""The process that speaks to a cluster's own software in place of the host of a run.

Ray and Slurm hand the environment, the arguments and whatever an object refers to on to other
machines. The host holds keys, so it speaks to neither: a process with an environment of its own
does, which is told where agents find the host, and no more. It ends with its standard input.

Host to process: one line of JSON, an instance of `Order`. Process to host: lines of JSON, each an
instance of `Said`.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from selftaught.pools.nodes.invitation import Invitation

# For agents to end by themselves, and for Ray to take its leave.
_CLOSING_S = 30.0
_PASSED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")
_PACKAGE_ROOT = str(Path(__file__).parents[3])


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to start, and where.

    Attributes:
        invitation: for the agents.
        where: the cluster: an address, a partition.
        options: those of the URL, checked.
        slots: of each node; None for what the node has.
        allow_open_cluster: use a Ray cluster that lets anybody in.
    """

    invitation: Invitation
    where: str
    options: dict[str, str] = {}
    slots: int | None = None
    allow_open_cluster: bool = False


class Said(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the process tells the host.

    Attributes:
        expected: so many agents were started in all.
        failed: why no more will be, in a sentence.
        node, reason: an agent ended, and why.
    """

    expected: int | None = None
    failed: str | None = None
    node: str = ""
    reason: str = ""


class StartingProcess:
    """Implements `selftaught.pools.cluster.Starter` with a process of its own.

    Args:
        module: its program.
        order: what it is to do.
        variables: beginnings of the names of environment variables that it needs besides.
        environment: where they are taken from.
        on_ended: told of each agent that ended, by name, and why.
    """

    def __init__(
        self,
        module: str,
        order: Order,
        *,
        variables: tuple[str, ...],
        environment: Mapping[str, str],
        on_ended: Callable[[str, str], None],
    ) -> None:
        self._expected: int | None = None
        self._failure: str | None = None
        self._on_ended = on_ended
        self._is_closing = False
        # A file and not a pipe: what the cluster's software prints may be long.
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._printed,
            env=_environment(environment, variables),
            start_new_session=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        self._process.stdin.flush()
        self._reader = threading.Thread(target=self._read, name="starting", daemon=True)
        self._reader.start()

    def expected(self) -> int | None:
        """See `Starter`."""
        return self._expected

    def failure(self) -> str | None:
        """See `Starter`."""
        return self._failure

    def close(self) -> None:
        """End the process, and through it what it started."""
        self._is_closing = True
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # It may have ended before it read its order.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=_CLOSING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._process.stdout.close()
        self._printed.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = msgspec.json.decode(line, type=Said)
            if said.expected is not None:
                self._expected = said.expected
            if said.failed is not None:
                self._failure = said.failed
            if said.node and not self._is_closing:
                self._on_ended(said.node, said.reason)
        if self._failure is None and not self._is_closing:
            self._failure = f"What starts the nodes has ended: {self._last_words()}."

    def _last_words(self) -> str:
        code = self._process.wait()
        self._printed.seek(0)
        lines = self._printed.read().decode(errors="replace").strip().splitlines()
        return f"exit code {code}" + (f", {lines[-1][:300]}" if lines else "")


def _environment(given: Mapping[str, str], variables: tuple[str, ...]) -> dict[str, str]:
    passed = {
        name: value
        for name, value in given.items()
        if name in _PASSED or (variables and name.startswith(variables))
    }
    return {
        **passed,
        "PYTHONPATH": os.pathsep.join([_PACKAGE_ROOT, *filter(None, sys.path)]),
        "PYTHONUNBUFFERED": "1",
    }


class HostLink:
    """The process's side: what it is ordered to do, whether that still holds, and what it says.

    Attributes:
        order: what to start.
        ended: set when the host has closed the input, or is gone.
    """

    def __init__(self) -> None:
        # Whatever else prints to standard output does so to standard error from now on.
        self._out = os.dup(1)
        os.dup2(2, 1)
        with os.fdopen(0, "rb", buffering=0, closefd=False) as source:
            self.order = msgspec.json.decode(source.readline(), type=Order)
        self.ended = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def say(self, said: Said) -> None:
        """Tell the host, if it is there."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._out, msgspec.json.encode(said) + b"\n")

    def _watch(self) -> None:
        while os.read(0, 1 << 12):
            pass
        self.ended.set()
