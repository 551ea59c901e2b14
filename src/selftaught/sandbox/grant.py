"""What a zygote gives its children beyond the default: a task's permissions on this machine."""

import os
import stat
from pathlib import Path

import msgspec

from selftaught.errors import SandboxUnavailable, UsageError
from selftaught.permissions import read_paths
from selftaught.sandbox.toolchain import Toolchain, find_toolchain
from selftaught.task import Task

# What a program needs to find a host by name and to check whom it talks to.
_FOR_NAMES = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl/certs")


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """One set of permissions, ready to be put into force. The default grants nothing.

    Attributes:
        read: absolute paths without symbolic links.
        tmp_bytes: size of the private /tmp; 0 for none.
        devices: device nodes.
        network: the host's network.
        toolchain: compiles what children then run; their candidates are no Python.
    """

    read: tuple[str, ...] = ()
    tmp_bytes: int = 0
    devices: tuple[str, ...] = ()
    network: bool = False
    toolchain: Toolchain | None = None


NOTHING = Grant()


def grant_for(task: Task, layers: tuple[str, ...], *, allow_network: bool) -> Grant:
    """Return what the task's candidates are given.

    Args:
        task: whose permissions.
        layers: of the sandbox, from `selftaught.sandbox.layers`.
        allow_network: whether the operator agrees that candidates reach the network.

    Raises:
        UsageError: a path, device or compiler is missing here, or the operator did not agree.
        SandboxUnavailable: this machine's layers cannot keep a permission within its bounds.
    """
    asked = task.file.permissions
    if asked.network:
        require_agreement(task, allow_network)
    _check_layers(task, layers)
    for device in asked.devices:
        check_device(device)
    paths = read_paths(asked, Path(task.folder))
    for path in paths:
        if not os.path.exists(path):
            raise UsageError(
                f"Task {task.name!r} lets its candidates read {path}, which does not exist here."
            )
    if asked.network:
        paths += tuple(os.path.realpath(path) for path in _FOR_NAMES if os.path.exists(path))
    return Grant(
        read=paths,
        tmp_bytes=asked.tmp_bytes,
        devices=asked.devices,
        network=asked.network,
        toolchain=find_toolchain(asked.compiler) if asked.compiler else None,
    )


def require_agreement(task: Task, allow_network: bool) -> None:
    """Raise UsageError where a task asks for the network and the operator did not agree."""
    if task.file.permissions.network and not allow_network:
        raise UsageError(
            f"Task {task.name!r} wants its candidates to reach the network. They are generated "
            "programs and could send or fetch anything; --allow-network agrees to that."
        )


def check_device(path: str) -> None:
    """Raise UsageError for what is no character device here."""
    try:
        is_device = stat.S_ISCHR(os.stat(path, follow_symlinks=False).st_mode)
    except OSError as error:
        raise UsageError(f"The device {path} cannot be given to candidates: {error}.") from error
    if not is_device:
        raise UsageError(f"{path} is no character device, so it is not given to candidates.")


def _check_layers(task: Task, layers: tuple[str, ...]) -> None:
    asked = task.file.permissions
    if asked.tmp_bytes and "namespaces" not in layers:
        raise SandboxUnavailable(
            f"Task {task.name!r} permits a private folder, which this machine cannot keep private "
            f"or within its size: it needs namespaces, and there are {' + '.join(layers)}. See "
            "`selftaught doctor`, or set permissions.tmp_bytes to 0."
        )
    if asked.compiler and not {"namespaces", "landlock", "seccomp"} <= set(layers):
        raise SandboxUnavailable(
            f"Task {task.name!r} permits a compiler, and this machine could not keep it from "
            "running other programs or leaving processes behind: it needs namespaces, Landlock "
            f"and seccomp, and there are {' + '.join(layers)}. See `selftaught doctor`."
        )
