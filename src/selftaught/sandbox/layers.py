"""The layers of the sandbox on this machine: which there are, and what proves it.

From the strongest on, the first set that starts is used:

    namespaces + landlock + seccomp     everything in docs/explanation/threat-model.md
    landlock + seccomp                  inside containers without user namespaces: the existence
                                        and metadata of host paths can be seen
    namespaces + seccomp                kernels without Landlock
    (nothing)                           only limits and a separate process: refused unless asked
"""

import functools
import sys
from collections.abc import Callable
from functools import cache
from typing import TypeVar

import msgspec

from selftaught.errors import SandboxUnavailable
from selftaught.pool import Attempt
from selftaught.sandbox.guest import wire
from selftaught.sandbox.refusals import was_told
from selftaught.sandbox.zygote import CpuLimitReached, Zygote

STRONG = (
    ("namespaces", "landlock", "seccomp"),
    ("parent_death", "landlock", "seccomp"),
    ("namespaces", "seccomp"),
)
WEAK: tuple[str, ...] = ("parent_death",)


Z = TypeVar("Z")

# Sets that did not work in this process, with the reason: they are not tried again.
_refused: dict[tuple[str, ...], str] = {}


@cache
def choose_layers(allow_weak: bool = False) -> tuple[str, ...]:
    """Return the strongest set of layers that works here, found by trying.

    Raises:
        SandboxUnavailable: none does and `allow_weak` is false.
    """
    layers, zygote = start_strongest(Zygote, allow_weak)
    zygote.close()
    return layers


def start_strongest(
    start: Callable[[tuple[str, ...]], Z], allow_weak: bool = False
) -> tuple[tuple[str, ...], Z]:
    """Start something under the strongest set of layers that works here, and return both.

    Args:
        start: raises SandboxUnavailable where a layer cannot be set up.
        allow_weak: start it with limits only where no set works.

    Raises:
        SandboxUnavailable: none does and `allow_weak` is false.
    """
    if sys.platform != "linux":
        raise SandboxUnavailable(
            f"selftaught runs generated code in Linux sandboxes only, and this is {sys.platform}. "
            "Use a Linux machine, container or virtual machine."
        )
    for layers in STRONG:
        if layers in _refused:
            continue
        try:
            return layers, start(layers)
        except SandboxUnavailable as error:
            _refused[layers] = f"{' + '.join(layers)}: {error}"
    if allow_weak:
        return WEAK, start(WEAK)
    raise SandboxUnavailable(
        "This machine lacks the isolation that generated code needs. "
        + " ".join(_refused.values())
        + " See `selftaught doctor`; --allow-weak-sandbox runs it with limits only, at your risk."
    )


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that generated code must not be able to do, tried for real.

    Attributes:
        name: what is tried; `program` tries it and returns a text if it succeeds.
        refused: whether it failed, as it must; `evidence` is what the program met.
        told: whether the kernel told the host of it; else only a hook in the program's own
            process may.
    """

    name: str
    refused: bool
    evidence: str
    told: bool = False


_PROBES = {
    "read the password file": "open('/etc/passwd').read()",
    "list the root folder": (
        "import os\n    return str([n for n in os.listdir('/') if n in ('boot', 'home', 'var')][0])"
    ),
    "read another process": "open('/proc/1/environ', 'rb').read()",
    # Of a name that nobody else has, and gone again where it is not refused.
    "write a file": (
        "import os\n    name = f'/tmp/selftaught-probe-{os.getpid()}'\n"
        "    open(name, 'x').write('x')\n    os.unlink(name)"
    ),
    "open a network socket": (
        "import socket\n    socket.create_connection(('127.0.0.1', 9), timeout=1)"
    ),
    "open a unix socket": "import socket\n    socket.socket(socket.AF_UNIX)",
    "start a process": "import os\n    os.fork()",
    "run a program": "import os\n    os.execv('/bin/sh', ['sh'])",
    "signal a process": "import os\n    os.kill(1, 0)",
    "raise its own limits": (
        "import resource\n    resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))"
    ),
    "take 32 GiB of memory": "len(bytearray(32 * 1024**3))",
    "find a key in the environment": (
        "import os\n    return next(k for k in os.environ if 'KEY' in k or k == 'HOME')"
    ),
}


def probe(layers: tuple[str, ...]) -> list[Probe]:
    """Try each forbidden thing in a child under the given layers."""
    zygote = Zygote(layers)
    try:
        return [_try(zygote, name, body) for name, body in _PROBES.items()]
    finally:
        zygote.close()


def _try(zygote: Zygote, name: str, body: str) -> Probe:
    tail = "" if "return" in body else "\n    return 'done'"
    program = f"def attempt():\n    {body}{tail}\n"
    child = zygote.fork(256 * 1024**2)
    attempts: list[Attempt] = []
    try:
        child.send({"op": "load", "source": program, "work": 0, "seed": 0})
        receive = functools.partial(
            child.receive, cpu_limit_s=5.0, wall_limit_s=20.0, on_attempt=attempts.append
        )
        receive()
        child.send({"op": "call", "entry_point": "attempt", "args": [], "seed": 0})
        reply = receive()
    except (wire.WireError, wire.EndOfFrames, wire.Overdue, CpuLimitReached) as error:
        evidence = f"the child ended: {type(error).__name__}"
        return Probe(name=name, refused=True, evidence=evidence, told=was_told(attempts))
    finally:
        child.close()
    if "ok" in reply:
        return Probe(name=name, refused=False, evidence=f"it succeeded: {reply['ok']!r:.60}")
    evidence = str(reply.get("reason", ""))[:100]
    return Probe(name=name, refused=True, evidence=evidence, told=was_told(attempts))
