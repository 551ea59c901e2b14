"""What a task permits its candidates beyond computing: nothing that it does not name.

These are the words of `[permissions]` in `task.toml`, and what can be judged of them without a
look at the machine. What a machine makes of them is a `selftaught.sandbox.grant.Grant`.
"""

import os
import re
from pathlib import Path
from typing import Literal

import msgspec

from selftaught.errors import TaskError

Compiler = Literal["c", "c++", "rust", "go"]

MIB = 1 << 20
# What a program of a language is called in a task folder and in the sandbox.
SOURCE_SUFFIXES = {"python": ".py", "c": ".c", "c++": ".cpp", "rust": ".rs", "go": ".go"}
DEVICE_PATTERNS = (r"/dev/nvidia[a-z0-9-]*", r"/dev/dri/renderD[0-9]+", r"/dev/kfd")

# Kernel interfaces and secrets of the whole machine: no task's data lies there.
_NEVER_BENEATH = ("/proc", "/sys", "/dev", "/run", "/boot", "/etc", "/var/run")
_TRUSTED_FILES = ("utility.py", "task.toml")
_HIDDEN_PREFIX = "instances"


class Permissions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `[permissions]`.

    Attributes:
        read: paths that candidates may read, absolute or relative to the task folder.
        tmp_bytes: size of a private folder, /tmp, that candidates may write to; 0 for none. It is
            taken from `limits.memory_bytes`.
        compiler: the language that candidates are written in, where it is not Python.
        devices: device nodes of a GPU.
        network: whether candidates share the host's network; the operator must agree.
    """

    read: tuple[str, ...] = ()
    tmp_bytes: int = 0
    compiler: Compiler | None = None
    devices: tuple[str, ...] = ()
    network: bool = False

    def sentences(self) -> tuple[str, ...]:
        """What is permitted, one clause each; empty for nothing."""
        said = [f"reading {path}" for path in self.read]
        if self.tmp_bytes:
            said.append(f"a private /tmp of {self.tmp_bytes / MIB:g} MiB")
        if self.compiler:
            said.append(f"being compiled as {self.compiler}")
        said += [f"the device {device}" for device in self.devices]
        if self.network:
            said.append("the network, where --allow-network is given")
        return tuple(said)


def check_permissions(permissions: Permissions, folder: Path, memory_bytes: int) -> None:
    """Refuse what cannot be meant.

    Args:
        permissions: of the task.
        folder: the task's.
        memory_bytes: what a candidate may take; the private folder is part of it.

    Raises:
        TaskError: with the value, and what to do about it.
    """
    for path in permissions.read:
        _check_read(path, folder)
    if permissions.tmp_bytes < 0 or 0 < permissions.tmp_bytes < 4096:
        raise TaskError(
            f"permissions.tmp_bytes is {permissions.tmp_bytes}; give 0 for no private folder, or "
            "at least 4096."
        )
    if permissions.tmp_bytes >= memory_bytes:
        raise TaskError(
            f"permissions.tmp_bytes ({permissions.tmp_bytes:,}) must be less than "
            f"limits.memory_bytes ({memory_bytes:,}): what is written counts as memory."
        )
    if permissions.tmp_bytes and any(
        _is_beneath(p, "/tmp") for p in read_paths(permissions, folder)
    ):
        raise TaskError(
            "permissions.read names a path beneath /tmp, where the private folder of "
            "permissions.tmp_bytes lies. Move the data, or leave one of them out."
        )
    for device in permissions.devices:
        if not any(re.fullmatch(pattern, device) for pattern in DEVICE_PATTERNS):
            raise TaskError(
                f"permissions.devices names {device!r}; only GPU nodes can be permitted: "
                "/dev/nvidia*, /dev/dri/renderD*, /dev/kfd."
            )


def read_paths(permissions: Permissions, folder: Path) -> tuple[str, ...]:
    """The paths of `read` as absolute ones without symbolic links: the names inside, too."""
    return tuple(dict.fromkeys(os.path.realpath(folder / path) for path in permissions.read))


def _check_read(path: str, folder: Path) -> None:
    full = os.path.realpath(folder / path) if path else "/"
    home = os.path.realpath(os.path.expanduser("~"))
    trusted = os.path.realpath(folder)
    reason = ""
    if any(_is_beneath(full, top) for top in _NEVER_BENEATH):
        reason = "it lies where the kernel's and the machine's own secrets are"
    elif full.count("/") == 1 or _is_beneath(home, full):
        reason = "it holds home folders or most of the machine; name what is needed beneath it"
    elif _is_beneath(full, home) and os.path.relpath(full, home).startswith("."):
        reason = "hidden files of a home folder hold keys and settings"
    elif _is_beneath(trusted, full):
        reason = "it holds the task folder, whose utility.py candidates must not see"
    elif _is_beneath(full, trusted) and _is_for_the_evaluator(full, trusted):
        reason = "candidates must not see utility.py, task.toml or files named instances*"
    if reason:
        shown = repr(path) if full == path else f"{path!r} ({full})"
        raise TaskError(f"permissions.read may not name {shown}: {reason}.")


def _is_for_the_evaluator(full: str, folder: str) -> bool:
    """Whether a path in the task folder is hidden from candidates, or holds what is."""
    inner = os.path.relpath(full, folder).split("/")
    beneath = [p.name for p in Path(full).rglob("*")] if os.path.isdir(full) else []
    hidden = any(name.startswith(_HIDDEN_PREFIX) for name in (*inner, *beneath))
    return hidden or inner[0] in _TRUSTED_FILES or "utility.py" in beneath


def _is_beneath(path: str, top: str) -> bool:
    return path == top or path.startswith(top.rstrip("/") + "/")
