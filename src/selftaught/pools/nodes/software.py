"""What must be the same on all machines of a run, so that a result does not depend on where."""

import functools
import hashlib
import importlib.util
import platform
from importlib import metadata
from pathlib import Path

import msgspec

from selftaught.version import __version__

_PACKAGE = Path(__file__).parents[2]


class Software(msgspec.Struct, frozen=True, kw_only=True):
    """The versions that a score can depend on.

    Attributes:
        selftaught: its version.
        files: a hash over its programs, for what changed without a new version.
        python: implementation and version.
        numpy: its version; empty where it is not installed.
    """

    selftaught: str
    files: str
    python: str
    numpy: str

    def difference(self, other: "Software") -> str:
        """What differs, in words; empty where nothing does."""
        for field in msgspec.structs.fields(self):
            ours, theirs = getattr(self, field.name), getattr(other, field.name)
            if ours != theirs:
                what = "the files of selftaught" if field.name == "files" else field.name
                return f"{what}: {theirs or 'none'} there, {ours or 'none'} here"
        return ""


@functools.cache
def software() -> Software:
    """What is installed here."""
    has_numpy = importlib.util.find_spec("numpy") is not None
    return Software(
        selftaught=__version__,
        files=_files(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        numpy=metadata.version("numpy") if has_numpy else "",
    )


def _files() -> str:
    sha = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        sha.update(path.relative_to(_PACKAGE).as_posix().encode() + b"\0")
        sha.update(path.read_bytes() + b"\0")
    return sha.hexdigest()[:16]
