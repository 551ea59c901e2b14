"""Improvers: programs whose entry point is `improve_algorithm`."""

from pathlib import Path

from selftaught.errors import UsageError
from selftaught.solution import Solution, check_program

API_VERSION = 1
ENTRY_POINT = "improve_algorithm"

_SHIPPED = Path(__file__).parent / "improvers"


def improver_names() -> list[str]:
    """The improvers shipped with the package, sorted."""
    return sorted(
        entry.name.removesuffix(".py")
        for entry in _SHIPPED.iterdir()
        if entry.name.endswith(".py") and not entry.name.startswith("_")
    )


def load_improver(name_or_file: str) -> Solution:
    """Return a shipped improver by name, or one from a file that ends in .py.

    Raises:
        UsageError: no such name or file.
        SolutionError: the text does not define `improve_algorithm`.
    """
    if name_or_file.endswith(".py"):
        path = Path(name_or_file)
        try:
            source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"The improver file {name_or_file!r} cannot be read: {error}."
            ) from error
        where = str(path)
    elif name_or_file in improver_names():
        source = (_SHIPPED / f"{name_or_file}.py").read_text(encoding="utf-8")
        where = name_or_file
    else:
        raise UsageError(
            f"There is no improver {name_or_file!r}. Shipped: {', '.join(improver_names())}. "
            "A file must end in .py."
        )
    return check_program(source, ENTRY_POINT, where)
